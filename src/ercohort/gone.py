"""Results whose slide, or file of regions, is not there: a share that is not mounted, an archive.

What was finished stays: a file that is gone makes a slide `missing` only where it has no results yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ercohort.errors import MachineError
from ercohort.files import read_json, write_json
from ercohort.sheet import Sample
from ercohort.slide.fingerprint import content_hash, fingerprint


@dataclass(frozen=True)
class Source:
    """A file of the sheet, as the steps are given it.

    Parameters
    ----------
    path
        The file.
    fingerprint
        What changes with it; of a file that is gone or closed to this user, that of the results; None where
        neither is known.
    is_kept
        Whether the file cannot be read and the results of it are kept.
    """

    path: str
    fingerprint: str | None
    is_kept: bool = False


def find_source(sample: Sample, folder: Path) -> Source:
    """Look at a slide's file, and where it cannot be read, at its results.

    Parameters
    ----------
    sample
        The slide's row in the sheet.
    folder
        Its results.
    """
    now = fingerprint(sample.path)
    if now is not None:
        return Source(sample.path, now)
    made_of = _made_of(folder)
    if not made_of.get("fingerprint"):
        return Source(sample.path, None)
    before = _same_file(made_of, sample.path)
    if before is None:
        return Source(sample.path, "not there, but there are results", is_kept=True)
    return Source(before, made_of["fingerprint"], is_kept=True)


def find_regions(sample: Sample, folder: Path) -> Source | None:
    """Look at the file of a slide's regions, and where it cannot be read, at the slide's results.

    Returns
    -------
    None where the sheet names no such file.
    """
    if sample.roi is None:
        return None
    now = content_hash(sample.roi)
    if now is not None:
        return Source(sample.roi, now)
    made_of = _made_of(folder).get("regions")
    made_of = made_of if isinstance(made_of, dict) else {}
    before = _same_file(made_of, sample.roi)
    if before is None or not made_of.get("fingerprint"):
        return Source(sample.roi, None)  # the sheet names another file than before: that is no file at all
    return Source(before, made_of["fingerprint"], is_kept=True)


def _made_of(folder: Path) -> dict[str, Any]:
    """Return which files the results of a slide were made of.

    Not of slide.json: that is removed before the step that makes it, also where the step then refuses.
    """
    found = _read(folder / "summary.json").get("slide")
    return found if isinstance(found, dict) else {}


def _same_file(made_of: Mapping[str, Any], path: str) -> str | None:
    """Return the path of before if it is that of the sheet.

    Once the file is gone, the sheet's reader cannot tell any more that it lay beside the sheet.
    """
    before = str(made_of.get("path", ""))
    return before if before == path or before.endswith(f"{os.sep}{path}") else None


Kind = Literal["slides", "regions"]


def note_absent(absent: Mapping[Kind, Iterable[str]], file: Path) -> None:
    """Write down, for the jobs of a run, which files it does not see; before the first of them.

    Parameters
    ----------
    absent
        Ids of the slides of which the run sees no file of that kind.
    """
    write_json(file, {kind: list(ids) for kind, ids in absent.items()})


def is_seen_by_run(slide_id: str, file: Path, kind: Kind = "slides") -> bool:
    """Tell a job, perhaps on another machine, whether its run sees a file; False where that is not known.

    Parameters
    ----------
    file
        What `note_absent` wrote.
    """
    absent = _read(file).get(kind)
    return isinstance(absent, list) and slide_id not in absent


def gone_error(path: str, to_give_it_up: str) -> MachineError:
    """Return the error about a file that was expected: its absence is no status, and replaces no results."""
    return MachineError(
        f"{path}: it was there before, and is gone or closed to this user; mount its share or put it back, "
        f"and run the same command again; to give it up, {to_give_it_up}"
    )


def kept_line(kept: list[str]) -> str:
    """Say which results are kept though the slides are gone; nothing where there are none."""
    if not kept:
        return ""
    shown = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
    return (
        f"{len(kept)} finished slides are not there now (or their regions, or this user may not read them), "
        f"and their results are kept: {shown}; to change that, mount their share, or take their rows out of "
        "the sheet"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
