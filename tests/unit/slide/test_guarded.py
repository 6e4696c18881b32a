"""Reading in a child process: the same pixels, and a crash or a hang costs the window it was at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from ercohort.errors import MachineError, SlideError, Status
from ercohort.slide import guarded, open_slide
from ercohort.slide.guarded import open_guarded, open_reader
from tests import slides
from tests.faulty_reader import faulty_environment

AT = (1000, 900)


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a fault into the children at `AT`; returns the file with a line for each time it was met."""

    def put(kind: str) -> Path:
        for name, value in faulty_environment(tmp_path, kind, AT).items():
            monkeypatch.setenv(name, value)
        return tmp_path / "fault.log"

    return put


def test_the_pixels_and_the_description_are_those_of_open_slide(svs: Path) -> None:
    with open_slide(svs, mpp=0.4) as plain, open_guarded(svs, mpp=0.4) as slide:
        assert slide.info == plain.info
        for window in ((0, 0, 300, 200), (-50, 1000, 200, 200), (301, 7, 640, 640)):
            np.testing.assert_array_equal(slide.read(*window), plain.read(*window))
            np.testing.assert_array_equal(
                slide.read(*window, size=(77, 55)), plain.read(*window, size=(77, 55))
            )
        np.testing.assert_array_equal(slide.overview(8.0).pixels, plain.overview(8.0).pixels)


def test_many_threads_may_read(svs: Path) -> None:
    places = [(x, y) for y in range(0, 1000, 200) for x in range(0, 1400, 200)]
    with open_slide(svs) as plain, open_guarded(svs) as slide, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: slide.read(*at, 128, 128), places))
        for at, pixels in zip(places, found, strict=True):
            np.testing.assert_array_equal(pixels, plain.read(*at, 128, 128))


@pytest.mark.parametrize("scn_or_svs", ["scn", "svs"])
def test_what_is_known_already_is_believed(scn_or_svs: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(scn_or_svs)
    with open_slide(path) as plain, open_reader(plain.info, guarded=True) as slide:
        assert slide.info == plain.info
        np.testing.assert_array_equal(slide.read(310, 210, 99, 99), plain.read(310, 210, 99, 99))


@pytest.mark.parametrize("kind", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP"])
def test_a_crash_costs_its_window_only(svs: Path, fault, kind: str) -> None:
    fault(kind)
    with open_slide(svs) as plain, open_guarded(svs) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=rf"crashes the slide reader \({kind}\)") as caught:
                slide.read(*AT, 64, 64)
            assert caught.value.status is Status.UNREADABLE
            np.testing.assert_array_equal(slide.read(0, 0, 256, 256), plain.read(0, 0, 256, 256))


def test_a_hang_costs_its_window_only(svs: Path, fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("hang")
    monkeypatch.setattr(guarded, "READ_S", 0.5)
    with open_guarded(svs) as slide:
        with pytest.raises(SlideError, match=r"did not end within 0\.5 s"):
            slide.read(*AT, 64, 64)
        monkeypatch.setattr(guarded, "READ_S", 60.0)
        assert slide.read(0, 0, 256, 256).shape == (256, 256, 3)


def test_memory_without_end_costs_its_window_only(svs: Path, fault) -> None:
    fault("memory")
    with open_guarded(svs) as slide:
        with pytest.raises(SlideError, match=r"more than 4,096 MB of memory"):
            slide.read(*AT, 64, 64)
        assert slide.read(0, 0, 256, 256).shape == (256, 256, 3)


def test_a_child_that_is_killed_is_the_machines_trouble(svs: Path, fault) -> None:
    fault("SIGKILL")
    with open_guarded(svs) as slide, pytest.raises(MachineError, match="SIGKILL"):
        slide.read(*AT, 64, 64)


def test_it_gives_up_after_many_crashes(svs: Path, fault, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fault("SIGSEGV")
    monkeypatch.setattr(guarded, "_PATIENCE", 3)
    with open_guarded(svs) as slide:
        for _ in range(10):
            with pytest.raises(SlideError, match="crashes the slide reader"):
                slide.read(*AT, 64, 64)
        with pytest.raises(SlideError, match="again and again"):
            slide.read(0, 0, 64, 64)
    assert len(log.read_text().splitlines()) == 3


def test_an_error_of_the_slide_is_what_open_slide_says(tmp_path: Path, svs: Path) -> None:
    with pytest.raises(SlideError) as caught:
        open_guarded(tmp_path / "no.svs")
    assert caught.value.status is Status.MISSING
    damaged = slides.damage_tile(svs, tmp_path / "a.svs", 7)
    with open_guarded(damaged) as slide:
        with pytest.raises(SlideError, match="cannot be decoded"):
            slide.read(256, 256, 256, 256)
        assert slide.read(512, 512, 256, 256).shape == (256, 256, 3)


def test_a_closed_slide_says_so(svs: Path) -> None:
    slide = open_guarded(svs)
    slide.close()
    with pytest.raises(ValueError, match="closed"):
        slide.read(0, 0, 10, 10)


def test_a_reader_ends_with_the_job_that_called_it(tmp_path):
    (tmp_path / "sleeper.py").write_text(
        "import os, pathlib, time\nfrom ercohort.slide import child\n"
        "def sleep(place):\n"
        "    pathlib.Path(place).write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "child.serve(sleep)\n"
    )
    place = tmp_path / "pid"
    call = f"child.call('sleeper', {{'place': {str(place)!r}}}, path='a', timeout_s=60)"
    job = subprocess.Popen(
        [sys.executable, "-c", f"from ercohort.slide import child; {call}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    deadline = time.monotonic() + 30
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    reader = psutil.Process(int(place.read_text()))
    job.kill()
    job.wait()
    reader.wait(10)
