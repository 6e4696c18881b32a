"""One run at a time in a folder, and jobs that end with theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ercohort import run_lock
from ercohort.errors import InputError, MachineError
from ercohort.run_lock import RUN, RunLock, stay_with_run

RUN_FOR_EVER = """
import sys, time
from pathlib import Path
from ercohort.run_lock import RunLock
RunLock(Path(sys.argv[1])).take()
print("taken", flush=True)
time.sleep(60)
"""
JOB = """
import time
from ercohort.run_lock import stay_with_run
stay_with_run()
print("at work", flush=True)
time.sleep(60)
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.first_line = process.stdout.readline().strip()  # type: ignore[attr-defined]
    return process


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ercohort.run_lock._held", [])
    monkeypatch.setenv(RUN, "")  # so that what a test sets is taken back
    monkeypatch.delenv(RUN)


def test_a_second_run_is_told_of_the_first_until_that_dies(tmp_path):
    first = start(RUN_FOR_EVER, str(tmp_path))
    second = RunLock(tmp_path)
    with pytest.raises(InputError, match=rf"another run works in this folder: process {first.pid} on "):
        second.take()
    first.kill()
    first.wait()
    with pytest.raises(InputError, match="when this one began, and has ended"):
        second.take()  # what it planned is out of date
    assert RunLock(tmp_path).take() is None
    owner = json.loads((tmp_path / "owner.json").read_text())
    assert owner["pid"] == os.getpid()
    assert os.environ[RUN] == f"{owner['run']} {tmp_path}"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_ends_soon_after_its_run_and_the_next_run_waits_for_it(tmp_path, how):
    run = start(RUN_FOR_EVER, str(tmp_path))
    named = f"{json.loads((tmp_path / 'owner.json').read_text())['run']} {tmp_path}"
    job = start(JOB, **{RUN: named})
    assert job.first_line == "at work"
    assert job.poll() is None
    run.send_signal(how)
    run.wait()
    RunLock(tmp_path).take()
    assert job.wait(0.5) == 1  # it was gone when the lock was given, not only soon after
    late = start(JOB, **{RUN: named})
    assert late.first_line == ""  # one that waited in a queue meanwhile
    assert late.wait() == 1


def test_a_job_of_a_run_elsewhere_ends_when_another_run_took_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("ercohort.run_lock.socket.gethostname", lambda: "elsewhere")
    RunLock(tmp_path).take()
    named = os.environ[RUN]
    monkeypatch.undo()
    monkeypatch.setattr("ercohort.run_lock._held", [])
    monkeypatch.setattr("ercohort.run_lock._look", lambda *_: None)  # it would end the tests, as it ends jobs
    monkeypatch.setenv(RUN, named)
    stay_with_run()  # that run is not of this machine: whether it lives cannot be told here
    owner = json.loads((tmp_path / "owner.json").read_text())
    (tmp_path / "owner.json").write_text(json.dumps({**owner, "run": "another"}))
    with pytest.raises(MachineError, match="has ended"):
        stay_with_run()


def test_a_process_that_is_no_job_is_left_alone(tmp_path, monkeypatch):
    threads = threading.active_count()
    stay_with_run()
    monkeypatch.setenv(RUN, f"abc {tmp_path / 'not-seen-here'}")
    stay_with_run()
    assert threading.active_count() == threads  # nobody watches it


def test_planning_alone_takes_no_lock(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    assert not list(tmp_path.iterdir())
    assert first.take() is None
    del second


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="run from a folder that you can write in"):
        RunLock(tmp_path / "file" / "locks").take()


def test_a_run_that_ended_well_needs_no_recovery(tmp_path):
    folder = tmp_path / ".snakemake/ercohort"
    lock = RunLock(folder)
    lock.take()
    torn = tmp_path / ".snakemake/metadata/abc"
    torn.parent.mkdir()
    torn.touch()
    lock.end()
    for handle in run_lock._held:
        os.close(handle)
    assert RunLock(folder).recover(tmp_path / "results") is None
    owner = json.loads((folder / "owner.json").read_text())
    (folder / "owner.json").write_text(json.dumps({**owner, "ended_well": False}))
    assert "1 results have no whole note" in str(RunLock(folder).recover(tmp_path / "results"))
    assert (tmp_path / ".snakemake/incomplete/abc").exists()


def test_times_to_come_are_settled_in_their_order(tmp_path: Path):
    now = time.time()
    for name, ahead in (("old", -500), ("tiles", 3600), ("nuclei", 3601), ("same", 3601)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now + ahead, now + ahead))
    told = RunLock(tmp_path / "locks").recover(tmp_path)
    assert told is not None
    assert told.startswith("3 results were newer")
    old, tiles, nuclei, same = (
        (tmp_path / name).stat().st_mtime for name in ("old", "tiles", "nuclei", "same")
    )
    assert old < now - 499 < tiles < nuclei == same <= time.time()
