"""What several modules' tests need: a browser, and the whole stack."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.prefect_api import Prefect
from tests.prefect_world import Hook
from tests.stack_world import Stack, new_stack

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that looks nothing up elsewhere."""
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: Chromium is not installed, so nobody looked at the pages")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """PostgreSQL, Prefect, MLflow, a worker and serve, healthy, on free ports; `stack.folder` is where they work."""
    with new_stack() as made:
        made.up()
        yield made


@pytest.fixture(scope="module")
def prefect(stack: Stack) -> Prefect:
    """The server of the module's stack."""
    return Prefect(stack)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    """A webhook to give to a stack."""
    made = Hook()
    yield made
    made.close()
