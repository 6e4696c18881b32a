"""SHA-256 of every file that a run writes: noted by the step that wrote it, collected for the cohort.

A step leaves `checksums/<step>.json` beside what it wrote, so that no large file is read again later, and
steps of one slide that run at the same time share no file. `results/checksums.sha256` collects them in the
format of `sha256sum -c`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ercohort.errors import InputError
from ercohort.files import atomic_path, write_json

COLLECTED = "checksums.sha256"
RECORDS = "checksums"

SLIDE_FILES = (
    "slide.json", "tissue.png", "thumbnail.jpg", "tiles.parquet", "nuclei.parquet",
    "failed_tiles.csv", "summary.json", "nuclei.geojson.zip", "overlay.jpg", "heatmap.png",
    "fields.jpg", "od_histogram.png",
)  # fmt: skip
"""What every slide's folder holds after a run, whatever became of the slide."""

COHORT_FILES = (
    "cohort_er.csv", "cohort_er.parquet", "cohort_er_regions.csv", "cohort_er_regions.parquet",
    "timings.csv", "run.json",
)  # fmt: skip
ENGINE_FILES = ("engine.json",)


@dataclass(frozen=True)
class Checksum:
    """A file as it was written.

    Parameters
    ----------
    sha256
        64 hexadecimal digits.
    bytes
        Size.
    n_features
        Nuclei of a QuPath file, as read back by the step that wrote it; else None.
    """

    sha256: str
    bytes: int
    n_features: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        counted = {} if self.n_features is None else {"n_features": self.n_features}
        return {"sha256": self.sha256, "bytes": self.bytes, **counted}


def checksum(path: str | Path, n_features: int | None = None) -> Checksum:
    """Return the checksum of a file, read once in pieces.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    """
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Checksum(digest.hexdigest(), file.tell(), n_features)


def note(step: str, *paths: str | Path, n_features: int | None = None) -> None:
    """Note the checksums of the files that a step has just written, all in one folder."""
    folder = Path(paths[0]).parent
    found = {Path(path).name: checksum(path, n_features).to_dict() for path in paths}
    write_json(folder / RECORDS / f"{step}.json", found)


def read_notes(folder: Path) -> dict[str, Checksum]:
    """Return what the steps noted of a folder, by file name; damaged notes are left out."""
    found: dict[str, Checksum] = {}
    for path in sorted((folder / RECORDS).glob("*.json")):
        try:
            found |= parse_notes(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue  # `verify` then finds the files by what was collected
    return found


def parse_notes(values: Any) -> dict[str, Checksum]:
    """Return what a note says, as far as it can be understood."""
    found: dict[str, Checksum] = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict) and "/" not in name:
            sha256, size, counted = (value.get(key) for key in ("sha256", "bytes", "n_features"))
            if isinstance(sha256, str) and isinstance(size, int) and isinstance(counted, int | None):
                found[name] = Checksum(sha256, size, counted)
    return found


def collect(results: Path, slides: Iterable[str]) -> int:
    """Write `checksums.sha256` from what the steps noted; only files without a note are read.

    Parameters
    ----------
    results
        The results folder.
    slides
        Slide ids, in the order of the sheet.

    Returns
    -------
    Number of files.
    """
    folders = {"": COHORT_FILES, "engine/": ENGINE_FILES}
    folders |= {f"slides/{slide_id}/": SLIDE_FILES for slide_id in slides}
    found: dict[str, str] = {}
    for start, files in folders.items():
        notes = read_notes(results / start)
        for name in dict.fromkeys([*files, *notes]):
            path = results / start / name
            if path.exists():
                found[start + name] = (notes.get(name) or checksum(path)).sha256
    write_collected(results / COLLECTED, found)
    return len(found)


def write_collected(path: Path, sha256: dict[str, str]) -> None:
    """Write a file for `sha256sum -c`: hash and name, relative to the file's folder."""
    with atomic_path(path) as temporary:
        lines = (f"{digest}  {name}\n" for name, digest in sha256.items())
        temporary.write_text("".join(lines), encoding="utf-8")


def read_collected(path: Path) -> dict[str, str]:
    """Read a file of checksums: hash by name.

    Raises
    ------
    InputError
        A line is no checksum, or names a file outside the folder.
    """
    found: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        digest, separator, name = line.partition("  ")
        if not (separator and _is_sha256(digest) and _stays_inside(name)):
            raise InputError(f"{path}, line {number}: is no checksum of a file in the folder")
        found[name] = digest
    return found


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _stays_inside(name: str) -> bool:
    parts: Sequence[str] = name.split("/")
    return all(part not in ("", ".", "..") for part in parts)
