"""Running work on a file of unknown soundness in a child process.

A damaged file can crash a C library or keep it busy for ever; neither must take the caller along.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ercohort
from ercohort.errors import MachineError, SlideError, Status

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def call(module: str, arguments: dict[str, Any], *, path: str, timeout_s: float | None) -> Any:
    """Run `python -m module` on JSON arguments, and return the JSON it answers with.

    Parameters
    ----------
    module
        A module that ends with `serve(function)`.
    path
        The file that is worked on, for messages.
    timeout_s
        Seconds after which the child is ended; None for no limit.

    Raises
    ------
    SlideError
        What the child raised; `unreadable` if it crashed or ran too long.
    OSError
        Machine trouble that the child met (no disk space).
    MachineError
        If the child was ended from outside, by the system's memory limit for one.
    RuntimeError
        If the child failed in a way that nobody foresaw.
    """
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlideError(
            Status.UNREADABLE,
            f"{path}: reading it did not end within {timeout_s:g} s; check the file and the disk it is on",
        ) from None
    if done.returncode < 0:
        _explain_signal(-done.returncode, path)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{module} failed on {path}:\n{done.stderr.strip()}")
    answer = json.loads(lines[-1])
    if "status" in answer:
        raise SlideError(Status(answer["status"]), answer["message"])
    if "machine" in answer:
        raise MachineError(answer["machine"])
    if "errno" in answer:
        raise OSError(answer["errno"], answer["message"])
    return answer["result"]


def serve(function: Callable[..., Any]) -> None:
    """Be the child: call `function` with the arguments of the command line, and print what comes of it."""
    try:
        answer = {"result": function(**json.loads(sys.argv[1]))}
    except SlideError as error:
        answer = {"status": error.status.value, "message": error.message}
    except MemoryError:
        answer = {"machine": "not enough memory to read the slide; give the job more (--set-resources)"}
    except OSError as error:
        answer = {"errno": error.errno, "message": str(error)}
    print(json.dumps(answer), flush=True)
    # Not a normal exit: after damaged files the libraries may crash while they tidy up.
    os._exit(0)


def _explain_signal(number: int, path: str) -> None:
    name = signal.Signals(number).name
    if number in _FROM_OUTSIDE:
        raise MachineError(
            f"reading {path} was ended from outside ({name}): out of memory, or cancelled; run again"
        )
    raise SlideError(
        Status.UNREADABLE, f"{path}: it crashes the slide reader ({name}); copy or export the slide again"
    )


def _environment() -> dict[str, str]:
    package = str(Path(ercohort.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
