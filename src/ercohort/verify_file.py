"""One file as `ercohort verify` sees it: as it is, beside what is known of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ercohort.checksums import Checksum
from ercohort.files import read_json


@dataclass
class Seen:
    """A file as it is, beside what is known of it.

    Parameters
    ----------
    noted
        By the step that wrote it.
    collected
        SHA-256 in `checksums.sha256`.
    found
        Of the file itself; None if it is missing.
    unreadable
        Why a file that is there could not be read.
    """

    path: Path
    noted: Checksum | None = None
    collected: str | None = None
    found: Checksum | None = None
    unreadable: str = ""

    @property
    def expected(self) -> set[str]:
        """The checksums that it should have: one, if all is well."""
        return {sha for sha in (self.noted and self.noted.sha256, self.collected) if sha}

    @property
    def as_noted(self) -> bool:
        """It is what the step that wrote it noted."""
        return bool(self.found and self.noted and self.found.sha256 == self.noted.sha256)

    @property
    def known(self) -> bool:
        """It is what the step that wrote it noted, or else what was collected."""
        return self.found is not None and self.found.sha256 in self.expected


@dataclass
class Slide:
    """A slide's folder and its files, by name."""

    slide_id: str
    folder: Path
    files: dict[str, Seen] = field(default_factory=dict)


def again(path: Path) -> str:
    """Return the cure for a file that is not what it should be."""
    return f"put the original back, or add `--forcerun {path}` to your snakemake command to make it again"


def describe_change(seen: Seen) -> str:
    """Say how a file differs from what was written; empty if it does not."""
    if seen.found is None:
        return f"cannot be read ({seen.unreadable})" if seen.unreadable else "is missing"
    if seen.known or not seen.expected:
        return ""
    size = seen.noted.bytes if seen.noted else None
    if size is not None and seen.found.bytes < size:
        return f"is {seen.found.bytes:,} of the {size:,} bytes that were written: cut off or edited"
    return "is not what the run wrote: edited, or from another run"


def read_json_or_none(path: Path) -> Any:
    """Read a JSON file that may be missing or damaged."""
    try:
        return read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None
