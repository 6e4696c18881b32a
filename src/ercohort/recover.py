"""What is set right before a run is planned: times in the future, and notes that a full disk cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

_STEP_S = 1e-5
"""Between the times that files of the future are given; file systems keep a millionth of a second."""

_NO_RESULTS = ("logs", "benchmarks")
"""Folders of many files whose times nobody asks for."""


def settle_times(results: Path, now: float | None = None) -> int:
    """Bring times of files that lie in the future to the present, in their order.

    A clock that was ahead, and was set right, leaves results that are newer than all that is made next: steps
    would then fail, run again, or not run where they should. Returns how many files there were.
    """
    now = time.time() if now is None else now
    late = sorted((found.st_mtime_ns, path) for path, found in _files(results) if found.st_mtime > now)
    times = {mtime: rank for rank, mtime in enumerate(sorted({mtime for mtime, _ in late}))}
    for mtime, path in late:
        settled = now - (len(times) - times[mtime]) * _STEP_S
        os.utime(path, (settled, settled))
    return len(late)


def mark_torn_records(folder: Path = Path(".snakemake")) -> int:
    """Mark what Snakemake has no whole note of as incomplete, so that it is made again.

    A disk that was full when a step ended leaves results without the note of the settings they were made
    with: a later change of these would pass unseen. Returns how many there were.
    """
    n_torn = 0
    for path, found in _files(folder / "metadata"):
        if found.st_size == 0 or not Path(path).read_bytes().rstrip().endswith(b"}"):
            marker = folder / "incomplete" / os.path.relpath(path, folder / "metadata")
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text("{}")
            n_torn += 1
    return n_torn


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files below a folder; those that go away meanwhile are left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_RESULTS]
        for name in names:
            path = os.path.join(root, name)
            try:
                yield path, os.stat(path)
            except OSError:
                continue
