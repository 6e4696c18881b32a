"""The files that QuPath reads objects from: JSON, packed or not, and zips of such.

Small files that unpack to gigabytes are refused before they are unpacked. Rules of names: `PathIO.java`.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from ercohort.geojson_schema import fail
from ercohort.turns import in_turn
from ercohort.zip_file import read_entry

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")

MOST_BYTES = 2**31 - 1
"""Of one collection: QuPath reads it into one piece of text."""

MOST_UNPACKED = 8 * 10**9
"""Bytes of all collections of a zip."""

MOST_RATIO = 100
"""Of unpacked to packed bytes; that of real files is 5 to 15, that of a bomb can be 1,000."""

FEW_BYTES = 16 * 2**20
"""What is unpacked whatever its ratio."""

_NOT_ZIP = (
    zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, struct.error, NotImplementedError,
    OverflowError, RuntimeError, ValueError,
)  # fmt: skip
"""What unpacking raises; the last of them where numbers of a damaged file make no sense."""

Looked = TypeVar("Looked")


def read_contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Where and what: the JSON of each collection in a file."""
    return read_each(path, lambda content: content)


def read_each(path: Path, look: Callable[[bytes], Looked]) -> Iterator[tuple[str, Looked]]:
    """Yield where each collection of a file is, and what `look` makes of it, in threads.

    Raises
    ------
    GeoJSONError
        The file is none that QuPath opens, is damaged, or unpacks to what no list of objects does.
    """
    if not path.is_file():
        fail(str(path), "there is no such file", "check the path")
    if path.suffix == ".zip":
        yield from _entries(path, look)
    elif path.name.endswith(SUFFIXES):
        yield str(path), look(_unpack(str(path), path.stat().st_size, path.read_bytes))
    else:
        fail(str(path), "QuPath opens no file of this name", f"end it in {', '.join(SUFFIXES)} or .zip")


def _entries(path: Path, look: Callable[[bytes], Looked]) -> Iterator[tuple[str, Looked]]:
    try:
        archive = zipfile.ZipFile(path)
    except _NOT_ZIP:
        fail(str(path), "is no zip", "write the file again")
    with archive:
        _check_sizes(path, archive.infolist())
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if not names:
            fail(str(path), "the zip is empty", "put a .geojson file into it")
        for name in names:
            if not name.endswith(SUFFIXES):
                fail(f"{path}: {name}", "QuPath skips an entry of this name", "end it in .geojson")

        def read(name: str) -> tuple[str, Looked]:
            where, size = f"{path}: {name}", archive.getinfo(name).file_size
            return where, look(_unpack(where, size, partial(read_entry, archive, name)))

        yield from in_turn(read, names)


def _check_sizes(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse a small zip that unpacks to what no disk or memory holds."""
    packed = sum(entry.compress_size for entry in entries)
    if any(entry.header_offset < 0 for entry in entries):
        fail(str(path), "is damaged", "write the file again")
    if packed > path.stat().st_size:
        fail(str(path), "its entries lie over one another", "write the file again")
    if sum(entry.file_size for entry in entries) > MOST_UNPACKED:
        fail(str(path), f"it unpacks to more than {MOST_UNPACKED / 1e9:.0f} GB", "write several files")
    for entry in entries:
        _check_room(f"{path}: {entry.filename}", entry.file_size, entry.compress_size)


def _check_room(where: str, size: int, packed: int) -> None:
    if size > MOST_BYTES:
        fail(where, f"it holds more than {MOST_BYTES / 1e9:.1f} GB, and QuPath reads it as one piece",
             "write several entries in a zip")  # fmt: skip
    if size > _most_unpacked(packed):
        fail(where, f"it unpacks to more than {MOST_RATIO} times its size, as no list of objects does",
             "export it again")  # fmt: skip


def _most_unpacked(packed: int) -> int:
    return min(MOST_BYTES, max(FEW_BYTES, MOST_RATIO * packed))


def _unpack(where: str, size: int, read: Callable[[], bytes]) -> bytes:
    """Read content of `size` bytes, which may be packed once more."""
    _check_room(where, size, size)
    try:
        content = read()
        if not where.endswith(".gz"):
            return content
        most = _most_unpacked(len(content))
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            content = file.read(most + 1)
    except _NOT_ZIP as error:
        fail(where, f"cannot be unpacked ({error})", "write the file again")
    _check_room(where, len(content), most // MOST_RATIO)
    return content
