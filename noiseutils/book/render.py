"""Execute notebooks with parameters, and write an HTML page of each notebook.

A rendering is complete or absent: page and notebook are written under temporary names and renamed. The
notebook carries a stamp of its inputs.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from noiseutils.book.export import to_html
from noiseutils.book.extras import notebooks_extra
from noiseutils.book.notebooks import read_notebook
from noiseutils.errors import UserError, one_of
from noiseutils.files import writing
from noiseutils.provenance import PACKAGE, in_checkout
from noiseutils.training.orphans import Guardian


@dataclass(frozen=True)
class Rendered:
    """Where a rendering lies."""

    notebook: Path  # executed, .ipynb
    html: Path


def stamp(notebook: Path, *parts: object) -> str:
    """SHA-256 (hex) of a rendering's sources: the notebook's cells, all files of the package, the parts.

    parts: anything JSON holds, such as parameters and run keys. The notebook's outputs do not count.
    """
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in read_notebook(notebook)["cells"]]
    digest = hashlib.sha256(json.dumps([cells, parts], sort_keys=True).encode())
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".csv")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def current(notebook: Path, folder: Path, stamp: str) -> bool:
    """Whether `folder` holds a whole rendering of the notebook with this stamp."""
    made = _places(notebook, folder)
    if not (made.notebook.is_file() and made.html.is_file()):
        return False
    try:
        metadata = read_notebook(made.notebook)["metadata"]
    except UserError:
        return False
    whole = "end_time" in metadata.get("papermill", {})
    return whole and metadata.get("noiseutils", {}).get("stamp") == stamp


def render(
    notebook: Path,
    folder: Path,
    parameters: dict[str, Any],
    stamp: str,
    environment: dict[str, str] | None = None,
) -> Rendered:
    """Execute a notebook with papermill, in its own folder and by this interpreter; write it and its page.

    parameters: values for names assigned in the cell tagged `parameters`.   stamp: see `stamp`.
    environment: variables of the kernel beside those of this process.
    Raises UserError, and leaves an earlier rendering as it was, for an unknown parameter, a broken equation
    and a failing cell; of the last, `<stem>.failed.ipynb` is kept.
    """
    with notebooks_extra():
        import nbformat
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

    notebook, folder = notebook.absolute(), folder.absolute()
    made = _places(notebook, folder)
    if made.notebook.resolve() == notebook.resolve():
        raise UserError(f"{notebook}: would be overwritten by its own rendering; name another folder")
    _check_parameters(notebook, parameters)
    to_html(notebook)  # a broken equation is found now, not after the cells have run
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    failed = folder / f"{notebook.stem}.failed.ipynb"
    partial = folder / f"{notebook.stem}.partial{os.getpid()}.ipynb"
    page = folder / f"{notebook.stem}.html.partial{os.getpid()}"
    try:
        with Guardian() as guardian:
            papermill.execute_notebook(
                _plain(notebook),
                _plain(partial),
                parameters,
                engine_name=_engine(),
                kernel_name="python3",
                language="python",
                # an installed notebook writes to outputs/ of the folder that noiseutils was called in
                cwd=str(notebook.parent if in_checkout() else Path.cwd()),
                progress_bar=False,
                kernel_manager_class=_own_kernel(guardian, environment or {}),
            )
        done = nbformat.read(partial, as_version=4)
        done.metadata["noiseutils"] = {"stamp": stamp}
        done.metadata["papermill"].update(input_path=notebook.name, output_path=made.notebook.name)
        nbformat.write(done, partial)
        page.write_text(to_html(partial, notebook), encoding="utf-8")
        page.replace(made.html)
        partial.replace(made.notebook)  # last: it carries the stamp that says the rendering is whole
    except (PapermillExecutionError, DeadKernelError) as error:
        partial.replace(failed)
        why = _why(error) if isinstance(error, PapermillExecutionError) else "the kernel died; out of memory?"
        raise UserError(f"{notebook.name}: {why}\nIts state is kept in {failed}") from None
    finally:
        partial.unlink(missing_ok=True)
        page.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    return made


def _places(notebook: Path, folder: Path) -> Rendered:
    return Rendered(folder / f"{notebook.stem}.ipynb", folder / f"{notebook.stem}.html")


def _why(error: Any) -> str:
    """Which cell failed and its error's last line; a UserError whole, all of it is meant for the reader."""
    cell = next(filter(None, map(str.strip, error.source.splitlines())), "")
    lines = error.evalue.strip().splitlines()
    said = ("\n".join(lines) if error.ename == "UserError" else lines[-1]) if lines else ""
    return f"cell [{error.exec_count}] {cell!r} failed: {': '.join(filter(None, [error.ename, said]))}"


def _plain(path: Path) -> str:
    """A path for papermill, which reads braces as fields to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """papermill itself prints a warning about an unknown parameter and goes on."""
    with notebooks_extra():
        import papermill
        from papermill.iorw import load_notebook_node
    read_notebook(notebook)
    nb = load_notebook_node(str(notebook))
    nb.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    known = papermill.inspect_notebook(nb)
    for name in parameters:
        if name not in known:
            raise one_of(f"{notebook.name}: parameter", name, known or ["none"])


def _engine() -> str:
    """The name of papermill's engine in a form that does not write the notebook before and after every cell.

    A study's notebook has megabytes of figures: writing it some eighty times takes as long as drawing them.
    """
    with notebooks_extra():
        from papermill.engines import NBClientEngine, papermill_engines
        from papermill.iorw import write_ipynb

    class WrittenAtTheEnd(NBClientEngine):
        @classmethod
        def execute_notebook(cls, nb: Any, kernel_name: str, output_path: Any = None, **options: Any) -> Any:
            try:
                return super().execute_notebook(nb, kernel_name, None, **options)
            except Exception:  # a dead kernel; papermill itself writes what ends well or in a failing cell
                write_ipynb(nb, output_path)
                raise

    papermill_engines.register("noiseutils", WrittenAtTheEnd)
    return "noiseutils"


def _own_kernel(guardian: Guardian, environment: dict[str, str]) -> type:
    """A kernel manager that starts this interpreter, whatever kernels are registered under which names.

    guardian: ends the kernel when this process has ended.   environment: variables of the kernel alone.
    """
    with notebooks_extra():
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(**get_kernel_dict(["--log-level=ERROR"]))  # newer ones warn of any local TCP
    spec.env = environment

    class OwnKernel(AsyncKernelManager):
        pid: int | None = None  # None until it is launched

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            await super()._async_launch_kernel(kernel_cmd, **options)
            self.pid = pid = cast("Any", self.provisioner).pid
            guardian.watch(pid)

        async def _async_cleanup_resources(self, restart: bool = False) -> None:
            await super()._async_cleanup_resources(restart)
            if self.pid is not None:
                guardian.forget(self.pid)

    return OwnKernel
