"""Running work on a file of unknown soundness in a child process.

A damaged file can crash a C library or keep it busy for ever; neither must take the caller along.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ercohort
from ercohort.errors import MachineError, SlideError, Status

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

MEMORY_MB = 4096
"""Memory that a child may allocate: many times what any sound slide needs."""

_PR_SET_PDEATHSIG = 1

_SPARE_S = 5
"""So much later than its parent would a child end itself: it outlives a killed parent by no more."""


def call(module: str, arguments: dict[str, Any], *, path: str, timeout_s: float) -> Any:
    """Run `python -m module` on JSON arguments, and return the JSON it answers with.

    Parameters
    ----------
    module
        A module that ends with `serve(function)`.
    path
        The file that is worked on, for messages.
    timeout_s
        Seconds after which the child is ended.

    Raises
    ------
    SlideError
        What the child raised; `unreadable` if it crashed, ran too long or took more than `MEMORY_MB`.
    OSError
        Machine trouble that the child met (no disk space).
    MachineError
        If the child was ended from outside, by the system's memory limit for one.
    RuntimeError
        If the child failed in a way that nobody foresaw.
    """
    task = json.dumps({"arguments": arguments, "path": path, "seconds": timeout_s, "parent": os.getpid()})
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, task],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlideError(Status.UNREADABLE, took_too_long(path, timeout_s)) from None
    if done.returncode < 0:
        raise SlideError(Status.UNREADABLE, cause_of_death(path, -done.returncode, timeout_s))
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{module} failed on {path}:\n{done.stderr.strip()}")
    return result_of(json.loads(lines[-1]))


def serve(function: Callable[..., Any]) -> None:
    """Be the child: call `function` with the arguments of the command line, and print what comes of it."""
    task = json.loads(sys.argv[1])
    _end_with_parent(task["parent"])
    limit_time(task["seconds"])
    limit_memory()
    print(json.dumps(answer(partial(function, **task["arguments"]), task["path"])), flush=True)
    # Not a normal exit: after damaged files the libraries may crash while they tidy up.
    os._exit(0)


def _end_with_parent(parent: int) -> None:
    """Let the system end this process with the one that called it: a killed job must leave nobody who writes.

    (Strictly: with the thread that called it, which waits here for the answer.)
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before this was said
        os._exit(1)


def answer(work: Callable[[], Any], path: str) -> dict[str, Any]:
    """Return what came of `work` on a file, as JSON can hold it; `result_of` takes it apart again."""
    try:
        return {"result": work()}
    except SlideError as error:
        return {"status": error.status.value, "message": error.message}
    except MemoryError:
        if not _limited_here:
            return {"machine": "not enough memory to read the slide; give the job more (--set-resources)"}
        return {
            "status": Status.UNREADABLE.value,
            "message": f"{path}: it needs more than {MEMORY_MB:,} MB of memory to read; "
            "export it as a tiled pyramidal TIFF",
        }
    except OSError as error:
        return {"errno": error.errno, "message": str(error)}


def result_of(answer: dict[str, Any]) -> Any:
    """Return the result in a child's answer, or raise the error in it."""
    if "status" in answer:
        raise SlideError(Status(answer["status"]), answer["message"])
    if "machine" in answer:
        raise MachineError(answer["machine"])
    if "errno" in answer:
        raise OSError(answer["errno"], answer["message"])
    return answer["result"]


_limited_here = False


def limit_memory() -> None:
    """Let this process allocate no more than `MEMORY_MB`: absurd sizes in a file must not fill the machine.

    A lower limit that was there before stays; running into that one is the machine's trouble.
    """
    global _limited_here
    _, highest = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_MB << 20
    if highest == resource.RLIM_INFINITY or highest > limit:
        # What is allocated, not what is mapped (RLIMIT_AS): libraries map far more than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))
        _limited_here = True


def limit_time(seconds: float | None) -> None:
    """Let the system end this process after some time, also where its parent was killed; None: no limit."""
    signal.alarm(0 if seconds is None else math.ceil(seconds) + _SPARE_S)


def took_too_long(path: str, timeout_s: float) -> str:
    """Return the message about a file whose reading does not end."""
    return f"{path}: reading it did not end within {timeout_s:g} s; check the file and the disk it is on"


def cause_of_death(path: str, number: int, timeout_s: float) -> str:
    """Return the message about a file whose reader a signal ended.

    Raises
    ------
    MachineError
        If the signal came from outside.
    """
    if number == signal.SIGALRM:  # of `limit_time`
        return took_too_long(path, timeout_s)
    name = signal.Signals(number).name
    if number in _FROM_OUTSIDE:
        raise MachineError(
            f"reading {path} was ended from outside ({name}): out of memory, or cancelled; run again"
        )
    return f"{path}: it crashes the slide reader ({name}); copy or export the slide again"


def environment() -> dict[str, str]:
    """Return the environment of a child: it imports this very package."""
    package = str(Path(ercohort.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
