"""Start JupyterLab for the browser tests, and use the live lab's notebook there as a person does."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "06_live_lab.ipynb"
PATIENCE = 300  # seconds for anything to appear, on a machine that has other work


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[Path]:
    """Run a server with its settings and outputs below `folder`; yield the file of its log."""
    said = folder / "server.log"
    places = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    runtime = {"JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "NOISEUTILS_OUTPUTS": str(folder / "outputs")}
    as_make_lab = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    environment = {**os.environ, **places, **runtime, **as_make_lab}
    with said.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield said
        finally:
            server.terminate()
            server.wait(PATIENCE)


@contextmanager
def jupyterlab(folder: Path, copies: int = 1) -> Iterator[list[str]]:
    """Run JupyterLab with copies of the live lab's notebook; yield their addresses, with the token."""
    port, token, place = free_port(), secrets.token_hex(16), folder / "notebooks"
    place.mkdir()
    names = [f"{i}_{NOTEBOOK}" for i in range(copies)]
    for name in names:
        shutil.copy(ROOT / "notebooks" / NOTEBOOK, place / name)
    flags = ("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}")
    asked = (f"--IdentityProvider.token={token}", f"--notebook-dir={place}")
    with serving(folder, "jupyterlab", *flags, *asked):
        reachable(port)
        # ?reset: no other notebook is open
        yield [f"http://127.0.0.1:{port}/lab/tree/{name}?reset&token={token}" for name in names]


def reachable(port: int) -> None:
    """Wait until a server listens at the port."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class LabPage:
    """Use the notebook in a browser's page, and the kernel behind the notebook."""

    def __init__(self, page, folder: Path) -> None:
        self.page, self.folder = page, folder
        page.set_default_timeout(1000 * PATIENCE)

    def run_all(self) -> None:
        """Run all cells by the menu; return when the training lab is there."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.get_by_text("| Idle").wait_for()  # cells run before the kernel is ready are lost
        news = self.page.get_by_role("button", name="No", exact=True)  # JupyterLab's offer of news
        if news.count():
            news.click()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.button("Start").wait_for()

    def button(self, name: str):
        return self.page.locator(f'button.widget-button:has-text("{name}")')

    def slider(self, name: str):
        """Return the handle of the slider whose name begins so: strength, learning rate, δ of the attack."""
        return self.page.locator(f'.jp-OutputArea-output .noUi-handle[aria-label^="{name}"]').first

    def chart(self, title: str):
        return self.page.locator(f'svg[role="img"][aria-label^="{title}"]')

    def numbers(self, title: str) -> dict[str, float]:
        """Read the last values of a chart's lines from its text for readers who cannot see the chart."""
        text = self.chart(title).first.get_attribute("aria-label") or ""
        found = re.findall(r"(?:: |; )([^;]+?) (-?[\d.]+(?:e[+-]?\d+)?)(?=[;.]|$)", text)
        return {name: float(value.rstrip(".")) for name, value in found}

    def status(self) -> str:
        """Return the headline and the numbers under the buttons."""
        return self.page.locator(".widget-html", has_text="drawing takes").first.inner_text()

    def steps(self) -> int:
        found = re.search(r"step ([\d,]+)", self.status())
        return int(found[1].replace(",", "")) if found else 0

    def until(self, true, what: str, seconds: float = PATIENCE) -> None:
        """Wait until `true()` is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            self.page.wait_for_timeout(50)

    def kernel(self, expression: str):
        """Return the repr of an expression in the notebook's kernel."""
        file = max((self.folder / "runtime").glob("kernel-*.json"), key=lambda path: path.stat().st_mtime)
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        try:
            answer = client.execute(
                "", user_expressions={"asked": expression}, store_history=False, reply=True, timeout=PATIENCE
            )
            found = answer["content"]["user_expressions"]["asked"]
            assert found["status"] == "ok", found
            return found["data"]["text/plain"]
        finally:
            client.stop_channels()
