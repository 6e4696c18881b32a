"""A small look into TIFF files in pure Python: it cannot crash on a broken one.

Only the layout is read (which pages exist, their size, tiling and compression), never pixels.
Written after the TIFF 6.0 and BigTIFF specifications.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_PAGES = 64
"""Pages looked at: more than any slide has, and an end for files whose pages form a loop."""

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _TILE_WIDTH = 256, 257, 258, 259, 277, 322


@dataclass(frozen=True)
class TiffPage:
    """Layout of one page; width and height in pixels, `compression` is the TIFF code (7 is JPEG)."""

    index: int
    width: int
    height: int
    tiled: bool
    compression: int
    samples: int
    bits: int


class TiffLayoutError(ValueError):
    """The file is no TIFF, or its page list is broken."""


def read_pages(path: str | Path) -> list[TiffPage]:
    """Return the pages of a TIFF in file order.

    Raises
    ------
    TiffLayoutError
        If the file is no TIFF or its pages cannot be walked.
    OSError
        If the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            return _walk(file)
        except (struct.error, OverflowError, ValueError) as error:
            if isinstance(error, TiffLayoutError):
                raise
            raise TiffLayoutError("its page list lies past the end of the file") from None


def _walk(file: BinaryIO) -> list[TiffPage]:
    order, big, offset = _header(file)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise TiffLayoutError("the page list is a loop")
        if len(pages) == MAX_PAGES:
            break
        seen.add(offset)
        tags, offset = _directory(file, order, big, offset)
        pages.append(_page(len(pages), tags))
    if not pages:
        raise TiffLayoutError("it names no page")
    return pages


def _header(file: BinaryIO) -> tuple[str, bool, int]:
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise TiffLayoutError("not a TIFF")
    (version,) = struct.unpack_from(order + "H", head, 2)
    if version == 42:
        return order, False, struct.unpack_from(order + "I", head, 4)[0]
    if version == 43:
        return order, True, struct.unpack_from(order + "Q", head, 8)[0]
    raise TiffLayoutError("not a TIFF")


def _directory(file: BinaryIO, order: str, big: bool, offset: int) -> tuple[dict[int, int], int]:
    """Return the first value of every integer tag, and where the next directory is."""
    count_format, entry_format, next_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    _seek(file, offset)
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    if count > 4096:
        raise TiffLayoutError(f"a page of {count} tags")
    size = struct.calcsize(order + entry_format)
    entries = file.read(count * size)
    (following,) = struct.unpack(order + next_format, file.read(struct.calcsize(order + next_format)))
    tags: dict[int, int] = {}
    for tag, kind, n, raw in struct.iter_unpack(order + entry_format, entries):
        if kind not in _INTEGERS or n == 0:
            continue
        if n * _SIZES[kind] > len(raw):  # several values are kept elsewhere; the first one is enough
            (place,) = struct.unpack(order + next_format, raw)
            _seek(file, place)
            raw = file.read(_SIZES[kind])
        tags[tag] = struct.unpack_from(order + _INTEGERS[kind], raw)[0]
    return tags, following


def _seek(file: BinaryIO, offset: int) -> None:
    if offset >= os.fstat(file.fileno()).st_size:
        raise TiffLayoutError("its page list lies past the end of the file")
    file.seek(offset)


def _page(index: int, tags: dict[int, int]) -> TiffPage:
    return TiffPage(
        index=index,
        width=tags.get(_WIDTH, 0),
        height=tags.get(_HEIGHT, 0),
        tiled=_TILE_WIDTH in tags,
        compression=tags.get(_COMPRESSION, 1),
        samples=tags.get(_SAMPLES, 1),
        bits=tags.get(_BITS, 1),
    )
