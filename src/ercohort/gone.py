"""Slides whose results are there while their file is not: a share that is not mounted, an archive.

What was finished stays: a file that is gone makes a slide `missing` only where it has no results yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ercohort.errors import Status
from ercohort.files import read_json, write_json
from ercohort.sheet import Sample
from ercohort.slide.fingerprint import fingerprint


@dataclass(frozen=True)
class Source:
    """The file of a slide, as the steps are given it.

    Parameters
    ----------
    path
        The file.
    fingerprint
        `slide.fingerprint` of it; of a file that is gone, that of the results; None where neither is known.
    is_kept
        Whether the file is gone and the results of it are kept.
    """

    path: str
    fingerprint: str | None
    is_kept: bool = False


def find_source(sample: Sample, folder: Path) -> Source:
    """Look at a slide's file, and where it is gone, at its results.

    Parameters
    ----------
    sample
        The slide's row in the sheet.
    folder
        Its results.
    """
    now = fingerprint(sample.path)
    if now is not None or os.path.lexists(sample.path) or not is_finished(folder):
        return Source(sample.path, now)
    # Not of slide.json: that is removed before the step that makes it, also where the step then refuses.
    record = _read(folder / "summary.json").get("slide", {})
    made_of = str(record.get("path", ""))
    # Once the file is gone, the sheet's reader cannot tell any more that it lay beside the sheet.
    same = made_of == sample.path or made_of.endswith(f"{os.sep}{sample.path}")
    if same and record.get("fingerprint"):
        return Source(made_of, record["fingerprint"], is_kept=True)
    return Source(sample.path, "not there, but there are results", is_kept=True)


def is_finished(folder: Path) -> bool:
    """Tell whether a slide has results that were made of its file."""
    status = _read(folder / "summary.json").get("row", {}).get("status")
    return status is not None and status != Status.MISSING


def note_absent(samples: Iterable[Sample], file: Path) -> None:
    """Write down, for the jobs of a run, which slides it does not see; before the first of them."""
    write_json(file, [sample.slide_id for sample in samples if not os.path.lexists(sample.path)])


def is_seen_by_run(slide_id: str, file: Path) -> bool:
    """Tell a job, perhaps on another machine, whether its run sees a slide; False where that is not known.

    Parameters
    ----------
    file
        What `note_absent` wrote.
    """
    try:
        return slide_id not in read_json(file)
    except (OSError, ValueError):
        return False


def kept_line(kept: list[str]) -> str:
    """Say which results are kept though the slides are gone; nothing where there are none."""
    if not kept:
        return ""
    shown = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
    return (
        f"{len(kept)} finished slides are not there now, and their results are kept: {shown}; "
        "to change that, mount their share, or take their rows out of the sheet"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
