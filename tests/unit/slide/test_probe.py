"""Probing in a child process: crashes and hangs become statuses."""

import errno
import subprocess
from pathlib import Path

import pytest

from ercohort.errors import MachineError, SlideError, Status
from ercohort.slide import child, open_slide
from ercohort.slide.probe import probe
from tests import slides


def test_probe_says_what_open_slide_says(svs: Path) -> None:
    with open_slide(svs) as slide:
        assert probe(svs) == slide.info


def test_the_sheets_mpp_reaches_the_child(svs: Path) -> None:
    info = probe(svs, mpp=0.321)
    assert (info.mpp, info.mpp_source) == (0.321, "sheet")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no such file") as caught:
        probe(tmp_path / "no.svs")
    assert caught.value.status is Status.MISSING


def test_impossible_scale(field: slides.Array, tmp_path: Path) -> None:
    path = slides.write_pyramid(tmp_path / "a.tiff", field[:300, :300], mpp=None)
    with pytest.raises(SlideError, match="`mpp` column") as caught:
        probe(path)
    assert caught.value.status is Status.NO_MPP


def test_a_slide_that_opens_but_reads_nothing_is_unreadable(field: slides.Array, tmp_path: Path) -> None:
    path = slides.write_levels(tmp_path / "a.tiff", [field[:600, :600]], tile=256)
    for tile in range(9):
        slides.damage_tile(path, path, tile)
    with pytest.raises(SlideError, match="none of 7 places") as caught:
        probe(path)
    assert caught.value.status is Status.UNREADABLE


def test_odd_names_reach_the_child(field: slides.Array, tmp_path: Path) -> None:
    path = slides.write_pyramid(tmp_path / "a b'; $(touch x) \"é.tiff", field[:300, :300])
    assert probe(path).path == str(path)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that a child can be asked to run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "misbehaving.py"


def call(timeout_s: float = 30.0) -> object:
    return child.call("misbehaving", {}, path="dir/s.svs", timeout_s=timeout_s)


def test_a_crash_is_unreadable(module: Path) -> None:
    module.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(SlideError, match=r"dir/s\.svs: it crashes the slide reader \(SIGSEGV\)") as caught:
        call()
    assert caught.value.status is Status.UNREADABLE


def test_a_hang_is_unreadable(module: Path) -> None:
    module.write_text("import time; time.sleep(60)")
    with pytest.raises(SlideError, match=r"did not end within 0\.5 s") as caught:
        call(timeout_s=0.5)
    assert caught.value.status is Status.UNREADABLE


def test_a_full_disk_is_not_the_slides_fault(module: Path) -> None:
    module.write_text(
        "from ercohort.slide import child\n"
        "def f(): raise OSError(28, 'No space left on device')\n"
        "child.serve(f)"
    )
    with pytest.raises(OSError, match="No space left") as caught:
        call()
    assert caught.value.errno == errno.ENOSPC


def test_a_child_that_is_killed_is_the_machines_trouble(module: Path) -> None:
    module.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(MachineError, match="SIGKILL"):
        call()


def test_a_slide_that_takes_all_memory_is_unreadable(module: Path) -> None:
    module.write_text(
        "from ercohort.slide import child\n\ndef work(): return len(bytes(5 << 30))\n\nchild.serve(work)"
    )
    with pytest.raises(SlideError, match=r"dir/s\.svs: it needs more than 4,096 MB of memory") as caught:
        call()
    assert caught.value.status is Status.UNREADABLE


def test_a_child_ends_by_itself_when_its_parent_cannot_end_it(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGKILL of the job: here the parent waits for ever, and the child has half a second."""
    monkeypatch.setattr(child, "_SPARE_S", 0)
    module.write_text(
        "import time\nfrom ercohort.slide import child\nchild._SPARE_S = 0\n"
        "def work(): time.sleep(60)\n"
        "child.serve(work)"
    )
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, timeout, **k: run(*a, **k))
    with pytest.raises(SlideError, match=r"did not end within 0\.5 s"):
        call(timeout_s=0.5)


def test_chatter_of_a_library_does_not_hide_the_answer(module: Path) -> None:
    module.write_text(
        "from ercohort.slide import child\nprint('library says hello')\nchild.serve(lambda: {'a': 1})"
    )
    assert call() == {"a": 1}
