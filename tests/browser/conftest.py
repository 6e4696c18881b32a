"""A real Chromium, and pages that are checked to ask nobody for anything and to complain about nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ercohort.report.serve import make_server
from tests.report_cohort import large_cohort, slide_with_nuclei, small_cohort


@dataclass
class Seen:
    """What a page did while it was open."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'"
    )
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not here: apt-get install chromium, or name it in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(chromium: Any, seen: Seen) -> Iterator[Any]:
    made = chromium.new_page(viewport={"width": 1300, "height": 900})
    made.set_default_timeout(60_000)
    made.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    made.on("pageerror", lambda error: seen.said.append(str(error)))
    made.on("request", lambda request: seen.asked.append(request.url))
    made.on("requestfailed", lambda request: seen.said.append(f"not loaded: {request.url}"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_cohort(tmp_path_factory.mktemp("small") / "results")


@pytest.fixture(scope="session")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_cohort(tmp_path_factory.mktemp("large") / "results", 1000)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, scn: Path) -> Iterator[str]:
    results = tmp_path_factory.mktemp("served") / "results"
    slide_with_nuclei(results, scn)
    server = make_server(results)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.address
    server.shutdown()
    thread.join()
    server.server_close()
