"""Telling whether a slide is still the same one, without reading it whole or opening it.

Imports no image library: the workflow asks this for every slide each time it starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_SAMPLE_BYTES = 65_536


def files_of(path: Path) -> list[Path]:
    """Return the files that make a slide: of MIRAX with those of its folder, of DICOM all of its folder."""
    found: Iterable[Path]
    if path.is_dir():
        found = path.iterdir()
    elif path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        found = [path, *path.with_suffix("").iterdir()]
    elif path.suffix.lower() == ".dcm":
        found = path.parent.iterdir()
    else:
        found = [path]
    return sorted(part for part in found if part.is_file())


def bytes_on_disk(path: Path) -> int:
    """Return the size of a slide, companion files included."""
    return sum(part.stat().st_size for part in files_of(path))


def fingerprint(path: str) -> str | None:
    """Return what changes when a slide is replaced, but not when it is touched or moved; None if it is gone.

    The size of all its files, and a hash of the beginning, middle and end of the first (of DICOM, of the file
    that is named): a copy that broke off keeps the size of the whole on some file systems.
    """
    try:
        named = Path(path)
        files = files_of(named)
        if not files or not named.exists():  # of MIRAX the folder may be there alone
            return None
        if named.suffix.lower() == ".dcm" and named in files:
            files = [named, *files]
        size = sum(part.stat().st_size for part in set(files))
        digest = hashlib.sha256()
        with files[0].open("rb") as file:
            length = file.seek(0, 2)
            for start in (0, length // 2, length - _SAMPLE_BYTES):
                file.seek(max(start, 0))
                digest.update(file.read(_SAMPLE_BYTES))
    except (OSError, ValueError):  # a name with a zero byte is no path
        return None
    return f"{size}-{digest.hexdigest()[:16]}"


def content_hash(path: str) -> str | None:
    """Return what changes with any byte of a small file; None if it cannot be read."""
    try:
        if not Path(path).is_file():  # a pipe may never end
            return None
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except (OSError, ValueError):
        return None
