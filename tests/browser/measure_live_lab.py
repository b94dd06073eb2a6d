"""Measure and photograph the live lab as a person meets the lab, in JupyterLab and Chromium.

    python tests/browser/measure_live_lab.py --minutes 10 --json FILE --shots FOLDER

Not a test, as it takes `--minutes`. Times are from a key press to the page's answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from conftest import FLAGS, program
from lab_page import LabPage, jupyterlab
from playwright.sync_api import sync_playwright

from noiseutils.provenance import versions

MOVES = 40  # of a slider
RESTARTS = 10
NOISE = "Gaussian noise on activations (You et al., for comparison)"
LIVE = "sum(t.name == 'noiseutils-live' for t in __import__('threading').enumerate())"
RESIDENT = "__import__('psutil').Process().memory_info().rss / 2**20"


def reactions(lab: LabPage) -> list[float]:
    """Return seconds from a key on the strength's slider to numbers and pictures with the new strength."""
    found = []
    lab.slider("strength").focus()
    for move in range(MOVES):
        before = lab.kernel("lab.controls.strength.value")
        key = "ArrowRight" if move % 20 < 10 else "ArrowLeft"
        wanted = float(before) + (0.01 if key == "ArrowRight" else -0.01)
        lab.page.wait_for_timeout(700)  # as a person would, not in step with the drawing
        started = time.perf_counter()
        lab.page.keyboard.press(key)
        text = f"σ = {wanted:.4g} ("
        lab.page.wait_for_function(
            "text => [...document.querySelectorAll('.widget-html')].some(e => e.innerText.includes(text))",
            arg=text,
            polling="raf",
        )
        found.append(time.perf_counter() - started)
    return found


def stops(lab: LabPage) -> list[float]:
    """Return seconds from pressing Stop to the end of the thread, for each of `RESTARTS`."""
    found = []
    for _ in range(RESTARTS):
        lab.button("Start").click()
        lab.page.get_by_text("Training gaussian noise").first.wait_for()
        lab.page.wait_for_timeout(1500)
        started = time.perf_counter()
        lab.button("Stop").click()
        lab.page.get_by_text("Stopped after").first.wait_for()  # said when the thread has ended
        found.append(time.perf_counter() - started)
    return found


def photograph(lab: LabPage, folder: Path) -> None:
    """Write each lab's output as a PNG; the training lab after hundreds of steps of ANL, slider moved."""
    folder.mkdir(parents=True, exist_ok=True)
    lab.button("Start").click()
    lab.until(lambda: lab.steps() > 150, "150 steps")
    lab.slider("strength").focus()
    for _ in range(8):  # from 0.1 to 0.14
        lab.page.keyboard.press("ArrowRight")
    stop = lab.steps() + 250
    lab.until(lambda: lab.steps() > stop, "250 steps more")
    lab.button("Stop").click()
    lab.page.locator("table", has_text="flips at").first.wait_for()
    for name, mark in (("training_lab", "Start"), ("attack_lab", "Next"), ("result_explorer", "Runs behind")):
        area = lab.page.locator(".jp-Cell-outputArea").filter(has=lab.button(mark)).first
        area.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(500)
        area.screenshot(path=folder / f"{name}.png")
    lab.button("Reset").click()
    lab.page.get_by_role("status").get_by_text("Press Start.").wait_for()


def measure(lab: LabPage, minutes: float) -> dict:
    """Measure a session: moves of the slider, then training to the end of its time, then restarts."""
    lab.page.get_by_role("combobox", name="noise").select_option(label=NOISE)
    lab.button("Start").click()
    lab.until(lambda: lab.steps() > 50, "50 steps")
    resident, started = [float(lab.kernel(RESIDENT))], time.monotonic()
    answered = reactions(lab)
    while time.monotonic() - started < 60 * minutes:
        lab.page.wait_for_timeout(2000)
        if time.monotonic() - started > 60 * len(resident):
            resident.append(float(lab.kernel(RESIDENT)))
        if lab.kernel("lab.session.running") == "False":
            lab.button("Start").click()
    found = {
        "minutes": round((time.monotonic() - started) / 60, 2),
        "reaction_seconds_median": statistics.median(answered),
        "reaction_seconds_largest": max(answered),
        "moves": len(answered),
        "drawing_share": float(lab.kernel("lab.session.drawing / lab.session.seconds")),
        "memory_growth_mib": float(lab.kernel(RESIDENT)) - resident[0],
        "resident_mib_each_minute": resident,
        "steps": int(lab.kernel("lab.session.steps")),
    }
    lab.button("Stop").click()
    ended = stops(lab)
    found |= {
        "stop_seconds_median": statistics.median(ended),
        "stop_seconds_largest": max(ended),
        "restarts": RESTARTS,
        "threads_left": int(lab.kernel(LIVE)),
    }
    return found


def main() -> None:
    """Measure as the arguments say, and print or write the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shots", type=Path)
    asked = parser.parse_args()
    found_program = program()
    if found_program is None:
        raise SystemExit("no browser is installed")
    with (
        tempfile.TemporaryDirectory() as folder,
        jupyterlab(Path(folder)) as [address],
        sync_playwright() as p,
    ):
        browser = p.chromium.launch(executable_path=found_program, args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1500, "height": 2600}).new_page()
        page.goto(address)
        lab = LabPage(page, Path(folder))
        lab.run_all()
        if asked.shots:
            photograph(lab, asked.shots)
        found = {"cores": os.cpu_count(), "versions": versions(), **measure(lab, asked.minutes)}
        browser.close()
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
