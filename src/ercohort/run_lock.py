"""One run at a time in a working folder, and no job that outlives its run.

Two files in `.snakemake/ercohort/`, locked with `flock`, which the kernel lets go of when a process dies: no
lock is ever left behind. The run holds `run.lock` for itself. Every job shares `jobs.lock`, and ends itself
soon after its run was killed; the next run waits for that, so that no two jobs write one file.

On a cluster, a job that was queued for a run that has ended finds another run's id in `owner.json`, or
none that runs, and ends before it writes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from ercohort.errors import InputError, MachineError
from ercohort.files import read_json, write_json
from ercohort.locks import is_held, try_lock
from ercohort.recover import mark_torn_records, settle_times

LOGGER = logging.getLogger("ercohort")

FOLDER = Path(".snakemake/ercohort")
RUN = "ERCOHORT_RUN"
"""Environment variable of the jobs: the id of their run, a space, and the folder of its locks."""

_BESIDE_S = 0.5
"""Seconds between two looks of a job at a run on its own machine."""

_AFAR_S = 10.0
"""The same where the run is on another machine: a look goes over the network."""

_held: list[int] = []
"""Descriptors that hold this process's locks until it ends."""


class RunLock:
    """The lock of one run; made when the workflow begins to plan, taken before its first job.

    Parameters
    ----------
    folder
        Of the lock files.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._seen = _owner(folder)
        try:
            self._busy = (folder / "run.lock").exists() and is_held(folder / "run.lock")
        except OSError:
            self._busy = False  # `take` says so

    def recover(self, results: Path) -> str | None:
        """Set right what an earlier run left, before this one is planned; return what to tell of it."""
        if self._busy:
            return None
        try:
            ended_well = self._seen is None or self._seen.get("ended_well", False)
            n_torn = 0 if ended_well else mark_torn_records(self._folder.parent)
            n_late = settle_times(results)
        except OSError as error:
            return f"{error}: results cannot be changed"
        told = {
            f"{n_torn} results have no whole note of how they were made; they are made again": n_torn,
            f"{n_late} results were newer than this machine's clock; their times were set to now": n_late,
        }
        return "; ".join(line for line, n_found in told.items() if n_found) or None

    def end(self) -> None:
        """Say that the run ended well."""
        owner = _owner(self._folder)
        if owner is not None and _held:
            write_json(self._folder / "owner.json", {**owner, "ended_well": True})

    def take(self) -> str | None:
        """Hold the lock until this process ends.

        Jobs of an earlier run that was killed are waited for. This process's environment names the run, for
        its jobs.

        Returns
        -------
        A warning, where the file system has no locks.

        Raises
        ------
        InputError
            Another run works here, or did while this one was planned.
        MachineError
            The lock files cannot be written.
        """
        path = self._folder / "run.lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = try_lock(path)
            while handle is None and not is_held(path):  # a job of a killed run has just looked
                time.sleep(0.05)
                handle = try_lock(path)
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            raise MachineError(f"{path}: {error.strerror}; run from a folder that you can write in") from None
        except OSError as error:
            if not os.access(self._folder, os.W_OK):
                raise MachineError(
                    f"{path}: {error.strerror}; run from a folder that you can write in"
                ) from None
            return (
                f"{path}: this file system has no locks ({error.strerror}); "
                "make sure that no other run works in this folder"
            )
        owner = _owner(self._folder)
        if handle is None:
            raise InputError(
                f"another run works in this folder: {_describe(owner)}; wait until it ends, or end it first"
            )
        if self._busy or owner != self._seen:
            os.close(handle)
            raise InputError(
                f"another run worked in this folder when this one began, and has ended: {_describe(owner)}; "
                "start again"
            )
        _held.append(handle)
        self._sign()
        return None

    def _sign(self) -> None:
        """Say whose the folder is, then wait until the jobs of earlier runs have ended."""
        run = uuid.uuid4().hex
        owner = {"run": run, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        write_json(self._folder / "owner.json", owner)
        handle = os.open(self._folder / "jobs.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("ercohort: waiting until the jobs of a run that was killed here have ended", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.close(handle)
        os.environ[RUN] = f"{run} {self._folder.absolute()}"


def stay_with_run() -> None:
    """End this job when its run has ended, soon after; a process that is no job of a run is left alone.

    Raises
    ------
    MachineError
        The run has ended already: a job that waited in a queue.
    """
    run, _, where = os.environ.get(RUN, "").partition(" ")
    folder = Path(where)
    if not run or not (folder / "owner.json").exists():
        return  # by hand, or on a machine that does not see the run's folder
    try:
        handle = try_lock(folder / "jobs.lock", shared=True)
        if handle is None or _has_ended(run, folder):
            raise MachineError("the run that started this job has ended; the job ends without writing")
    except OSError as error:
        LOGGER.warning("%s: %s; this job does not notice the end of its run", folder, error)
        return
    _held.append(handle)
    threading.Thread(target=_look, args=(run, folder), name="stay with run", daemon=True).start()


def _look(run: str, folder: Path) -> None:
    owner = _owner(folder) or {}
    pause = _BESIDE_S if owner.get("host") == socket.gethostname() else _AFAR_S
    while True:
        time.sleep(pause)
        try:
            if not _has_ended(run, folder):
                continue
        except OSError:
            continue  # a network that is gone for a while
        LOGGER.error("the run that started this job has ended; the job ends too")
        os._exit(1)


def _has_ended(run: str, folder: Path) -> bool:
    """Whether a run has ended; of one on another machine, whether another took its place."""
    owner = _owner(folder)
    if owner is None:
        return False  # the folder is gone: that is for the job's own files to say
    if owner.get("run") != run:
        return True
    return owner.get("host") == socket.gethostname() and not is_held(folder / "run.lock")


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        owner = read_json(folder / "owner.json")
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _describe(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "it has not said which"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(owner.get("since", 0)))
    return f"process {owner.get('pid')} on {owner.get('host')}, since {since}"
