"""Figures and tables of a study: displayed, and written as files that say where they come from."""

from __future__ import annotations

import html
import io
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from noiseutils.config import EMBEDDED
from noiseutils.errors import UserError, one_line
from noiseutils.files import Unusable, read_bytes, read_json, write_atomically, writing
from noiseutils.provenance import outputs_root
from noiseutils.studies.params import StudyParams, data_of
from noiseutils.studies.readable import readable
from noiseutils.studies.registry import for_readers
from noiseutils.studies.results import Results
from noiseutils.training.loop import Result

try:
    from IPython.display import Image, display
except ImportError:  # nothing is displayed by a sweep, nor by whatever else reads figures and tables

    def _without_ipython(*_: Any, **__: Any) -> Any:
        raise UserError("figures and tables are displayed by IPython: pip install 'noiseutils[notebooks]'")

    Image = display = _without_ipython

log = logging.getLogger("noiseutils")

CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
DPI = 150  # of the PNGs


class Drawn(NamedTuple):
    """A figure, the name of its files, and a text for readers who cannot see it.

    results: those that the figure shows; None: all of the writer's; empty: it shows no run.
    """

    name: str
    figure: Figure
    alt: str
    results: Iterable[Result] | None = None


class OutputWriter:
    """Displays a study's figures and tables, and writes them to outputs/<study>/<profile>/.

    Every figure and table says where its pixels came from, every table also which code made its results.
    labels: of the images.   results: those that the figures and tables are made from.
    """

    def __init__(
        self, params: StudyParams, labels: str | Sequence[str], results: Sequence[Result] = ()
    ) -> None:
        labels = [labels] if isinstance(labels, str) else list(dict.fromkeys(labels))
        self.folder = outputs_root() / params.study / params.profile
        self.data = "; ".join(f"{name}, embedded" if name in EMBEDDED else name for name in labels)
        self.made_with = {
            "data": "; ".join(labels),
            "commit": " ".join(sorted({result.info["versions"]["commit"] for result in results} - {""})),
            "device": "; ".join(sorted({result.info["device"] for result in results})),
        }
        self.keys = sorted(result.run.key for result in results)
        _check_images(results, labels[0])

    def show(self, drawn: Iterable[Drawn]) -> None:
        """Write figures as PNG and SVG under figures/ and display them; runs.json there: what they show."""
        folder = self.folder / "figures"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        drawn = list(drawn)
        path = folder / "runs.json"  # figure -> keys of the runs that it was drawn from
        keys = read_figure_runs(path)
        for name, _, _, results in drawn:
            keys[name] = self.keys if results is None else sorted({result.run.key for result in results})
        with writing(path):
            write_atomically(path, json.dumps(keys, indent=1, sort_keys=True).encode())
        for name, figure, alt, _ in drawn:
            with writing(folder / name):
                _save(figure, folder / name)
            pyplot.close(figure)
            width = int(90 * figure.get_figwidth())
            display(Image(filename=str(folder / f"{name}.png"), alt=f"{alt} Data: {self.data}.", width=width))

    def claims(self, verdicts: pd.DataFrame, caption: str) -> None:
        """Write the verdicts of a study as table `claims`, and display what readers need of them."""
        self.table(verdicts, "claims", caption, shown=for_readers(verdicts))

    def table(
        self,
        table: pd.DataFrame,
        name: str,
        caption: str = "",
        interval: str = "95 % t interval over seeds",
        rows: int | None = None,
        shown: pd.DataFrame | None = None,
    ) -> None:
        """Write a table as CSV under tables/, with data, commit and device as columns, and display it.

        Shares are displayed in per cent, and bounds (`low`, `high`) in the cell of what they bound: see
        `noiseutils.studies.readable`.
        interval: what these bounds are.   rows: how many are displayed, as the caption then says; None: all.
        shown: displayed in its place, where the file has more columns than a page.
        An empty table is not in this profile: a line says so, and nothing is written.
        """
        if table.empty:
            print(f"{name}: no run of this table is in the profile, or none has finished")
            return
        folder = self.folder / "tables"
        with writing(folder / f"{name}.csv"):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"{name}.csv", self._with_origin(table).to_csv(index=False).encode())
        caption = f"{caption} Data: {self.data}."
        table = table if shown is None else shown
        folded, texts = readable(table, name)
        if len(folded.columns) < len(table.columns):
            caption += f" [{interval}]."
        if "n" in table:
            caption += f" Commit: {self.made_with['commit'] or 'none'}."
        if rows is not None and rows < len(folded):
            caption += f" The first {rows} of {len(folded)} rows; all: tables/{name}.csv."
            folded = folded.head(rows)
        styled = folded.style.set_caption(html.escape(caption.strip(), quote=False)).hide(axis="index")
        styled.format_index(escape="html", axis=1)  # a class may be called anything
        styled.set_table_attributes('class="tex2jax_ignore mathjax_ignore"')  # $a$ is a name, too
        styled.set_table_styles([{"selector": "caption", "props": "text-align: left; white-space: nowrap"}])
        to_the_left = [{"selector": "th", "props": "text-align: left"}]
        styled.set_table_styles(dict.fromkeys(texts, to_the_left), overwrite=False)  # pyright: ignore[reportArgumentType]
        styled.set_properties(subset=texts, **{"text-align": "left"})  # pyright: ignore[reportArgumentType]
        wide = [name for name in texts if folded[name].map(str).str.len().max() > 40]
        styled.set_properties(subset=wide, **{"min-width": "15em"})  # pyright: ignore[reportArgumentType]
        display(styled.format(escape="html"))

    def _with_origin(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with what its results were made with; a column of its own stays, such as `data`."""
        return table.assign(**{name: text for name, text in self.made_with.items() if name not in table})


def _check_images(results: Sequence[Result], label: str) -> None:
    """Raise a UserError where results from different images have one name."""
    fingerprints: dict[tuple, set[str]] = {}
    for result in results:
        data = result.info["data"]
        # a set may be used whole in one part of a study and in part in another
        part = (data.get("label", label), data.get("train"), data.get("test"))
        fingerprints.setdefault(part, set()).add(data["fingerprint"])
    for (name, _, _), found in fingerprints.items():
        if len(found) > 1:
            raise UserError(
                f"results named {name!r} come from {len(found)} different sets of images: give each "
                f"its own folder name, or remove those of one from {outputs_root() / 'runs'}"
            )


def read_figure_runs(path: Path) -> dict[str, list[str]]:
    """Read which runs each figure was drawn from; empty if the file is missing or damaged."""
    try:
        found = read_json(path)
        if not isinstance(found, dict) or not all(_is_list_of_words(keys) for keys in found.values()):
            raise Unusable(f"{path} is edited: the file does not list runs by figure")
        return found
    except FileNotFoundError:
        return {}
    except Unusable as damage:
        log.warning("%s. The file is not used, and is replaced when figures are drawn again", damage)
        return {}


def _is_list_of_words(keys: object) -> bool:
    return isinstance(keys, list) and all(isinstance(key, str) for key in keys)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as it was written. Raises UserError for a file that is incomplete, or is no table."""
    try:
        text = read_bytes(path).decode()
        if not text.endswith("\n"):  # with what to_csv ends
            raise UserError(f"{path.name}: is cut off")
        return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=["", "nan"])
    except FileNotFoundError:
        raise UserError(f"{path.name}: there is no such file") from None
    except Unusable as damage:
        raise UserError(f"{path.name}: {str(damage).removeprefix(f'{path} ')}") from None
    except ValueError as error:  # pandas' own errors are some, too
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path.name}: is not a table of comma-separated values") from None


def figure_title(text: str, label: str, seeds: int) -> str:
    """Return a figure's title: what it shows, of which images and how many seeds."""
    return f"{text}  ·  {one_line(origin(label), 60)}, {seeds} seed{'s' if seeds != 1 else ''}"


def title_of(results: Results[Any, Any], text: str) -> str:
    """Return the title of a figure of a study on one set of images."""
    return figure_title(text, data_of(results.params).label, results.frame.seed.nunique())


def origin(label: str) -> str:
    """Return the label of a set of images, with a word on those that the package brings along."""
    return f"{label}, embedded data" if label in EMBEDDED else label


def _save(figure: Figure, path: Path) -> None:
    """Write `<path>.png` and `<path>.svg`, cut to what is drawn on.

    The figure is laid out here, once. Each savefig with `bbox_inches="tight"` would lay it out and draw it
    once more only to measure it.
    """
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    used = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    # without this None stands for the layout of rcParams, and savefig sets it anew
    with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        figure.savefig(f"{path}.png", dpi=DPI, bbox_inches=used)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", bbox_inches=used, metadata={"Date": None})
    # XML knows no control characters, and a class may have one in its name
    Path(f"{path}.svg").write_text(
        CONTROL.sub("\N{REPLACEMENT CHARACTER}", drawn.getvalue()), encoding="utf-8"
    )
