"""Provide an installed browser to the tests here; without one they are skipped, as none is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_page import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def program() -> str | None:
    """Return the browser's path: the variable CHROMIUM, or the first of `NAMES` that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Start a headless Playwright browser."""
    if program() is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, and CHROMIUM names none")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program(), args=list(FLAGS), timeout=1000 * PATIENCE
        )
        yield running
        running.close()


@pytest.fixture
def opened(browser):
    """Open a page: `with opened(address, **options) as (page, errors)`.

    options: of Playwright's `new_context`, such as `offline=True` or `viewport`.
    errors: the console's errors, exceptions of scripts, and failed requests, in their order.
    """

    @contextmanager
    def page(address: str | Path, **options) -> Iterator[tuple]:
        context = browser.new_context(**options)
        context.set_default_timeout(1000 * PATIENCE)
        made, errors = context.new_page(), []
        made.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
        try:
            made.goto(address.as_uri() if isinstance(address, Path) else address)
            yield made, errors
        finally:
            context.close()

    return page
