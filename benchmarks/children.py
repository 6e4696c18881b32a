"""What every measurement stands on: work in a process of its own, the machine's name, the revision.

A child starts with nothing loaded, so its peak memory is its own; the source tree that it imports can be
another revision's.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
WORK = Path(__file__).with_name("work.py")


class ChildError(Exception):
    """A measured process failed; the message ends with what it said last."""


def do(task: str, *, source: Path = ROOT, cores: int | None = None, **arguments: Any) -> dict[str, Any]:
    """Run a task of `work.py` in a process of its own.

    Parameters
    ----------
    source
        Root of the source tree whose package and config the process uses.
    cores
        Processors that it may run on; all if not given.
    arguments
        Of the task, as JSON can hold them.

    Returns
    -------
    What the task returned, with `wall`: seconds from the start of the process to its end.
    """
    return run_json([sys.executable, str(WORK), task, json.dumps(arguments)], source=source, cores=cores)


def run_json(
    command: Sequence[str], *, source: Path = ROOT, cores: int | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run a command whose last line of output is a JSON object; return that with `wall` in seconds.

    Raises
    ------
    ChildError
        It failed or took longer than `timeout` seconds.
    """
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    begun = perf_counter()
    try:
        child = subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, allowed)), *command],
            cwd=source, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ChildError(f"stopped after {timeout:.0f} s") from None
    wall = perf_counter() - begun
    if child.returncode:
        raise ChildError("\n".join(child.stderr.splitlines()[-5:]) or f"exit code {child.returncode}")
    return {**json.loads(child.stdout.splitlines()[-1]), "wall": wall}


def machine() -> str:
    """Processor, cores that may be used, memory."""
    name = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def revision(source: Path = ROOT) -> str:
    """Short git revision, with `+` where tracked files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "-uno"))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log value over log size: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
