"""Find executed notebooks below outputs/, with the parameters that each was executed with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noiseutils.book.notebooks import private_paths, read_notebook
from noiseutils.config import EMBEDDED
from noiseutils.errors import UserError

PROFILES = ("paper", "cifar10", "overnight", "quick", "smoke")  # profiles, the most telling first
NOT_STUDIES = ("reference", "runs", "book")  # folders of outputs/ with something else in them


@dataclass(frozen=True)
class Rendering:
    """An executed notebook with its figures and tables, in outputs/<study>/<profile>/."""

    notebook: Path
    parameters: dict[str, Any]
    when: str

    @property
    def folder(self) -> Path:
        """Return the folder of the notebook."""
        return self.notebook.parent

    @property
    def profile(self) -> str:
        """Return the profile's name."""
        return self.folder.name

    @property
    def study(self) -> str:
        """Return the study's name."""
        return self.folder.parent.name

    @property
    def data(self) -> list[str]:
        """Return the sets of images, as they were typed."""
        data = self.parameters.get("data") or []
        return list(map(str, data)) if isinstance(data, list) else [str(data)]

    def private(self, outputs: Path) -> dict[str, str]:
        """Return paths of this machine and what a page says instead."""
        return private_paths(outputs, self.parameters)


def renderings(outputs: Path) -> tuple[list[Rendering], list[str]]:
    """Return the executed notebooks below outputs/<study>/<profile>/, and a sentence on each unusable one.

    Of one study, those on real images come first, then the order of PROFILES.
    """
    whole, problems = [], []
    for path in sorted(outputs.glob("*/*/*.ipynb")):
        if path.parts[-3] in NOT_STUDIES or path.parts[-3].startswith(".") or ".partial" in path.name:
            continue
        where = path.relative_to(outputs).as_posix()
        if path.stem.endswith(".failed"):
            problems.append(f"{where}: a cell failed; what ran before it is kept there")
            continue
        try:
            papermill = read_notebook(path)["metadata"].get("papermill", {})
            if "end_time" not in papermill:
                raise UserError("was not executed to its end")
            whole.append(Rendering(path, papermill.get("parameters", {}), papermill["end_time"]))
        except UserError as error:
            problems.append(f"{where}: {str(error).removeprefix(f'{path}: ')}")
    order = [*PROFILES]

    def key(one: Rendering) -> tuple:
        place = order.index(one.profile) if one.profile in order else -1
        return one.study, bool(set(one.data) & set(EMBEDDED)), place, one.profile

    return sorted(whole, key=key), problems
