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
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_MOST_LISTED = 1 << 26
"""Bytes of a list of tiles up to which it is read whole: 16 million tiles."""

_ONE_CHANNEL = {0: "white is zero", 3: "palette", 4: "mask"}
"""Values of the photometric tag that only a page of one channel can have (TIFF 6.0, section 8)."""

_SEPARATE = 2
"""Value of the planar tag where each channel has tiles of its own."""


@dataclass(frozen=True)
class TiffPage:
    """Layout of one page; width and height in pixels, `compression` is the TIFF code (7 is JPEG).

    `fault` says where what the page states about its tiles contradicts itself.
    """

    index: int
    width: int
    height: int
    tiled: bool
    compression: int
    samples: int
    bits: int
    fault: str | None = None


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
        tags, counts, offset = _directory(file, order, big, offset)
        pages.append(_page(len(pages), tags, counts))
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


def _directory(
    file: BinaryIO, order: str, big: bool, offset: int
) -> tuple[dict[int, int], dict[int, int], int]:
    """Return the first value of every integer tag, how many it has, and where the next directory is."""
    count_format, entry_format, next_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    _seek(file, offset)
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    if count > 4096:
        raise TiffLayoutError(f"a page of {count} tags")
    size = struct.calcsize(order + entry_format)
    entries = file.read(count * size)
    (following,) = struct.unpack(order + next_format, file.read(struct.calcsize(order + next_format)))
    tags: dict[int, int] = {}
    counts: dict[int, int] = {}
    for tag, kind, n, raw in struct.iter_unpack(order + entry_format, entries):
        if kind not in _INTEGERS or n == 0:
            continue
        place = None
        if n * _SIZES[kind] > len(raw):  # several values are kept elsewhere; the first one is enough
            (place,) = struct.unpack(order + next_format, raw)
            _seek(file, place)
            raw = file.read(_SIZES[kind])
        tags[tag] = struct.unpack_from(order + _INTEGERS[kind], raw)[0]
        counts[tag] = n
        if tag == _TILE_BYTES and not tags[tag] and not _any_tile(file, raw, n * _SIZES[kind], place):
            counts[tag] = 0
    return tags, counts, following


def _any_tile(file: BinaryIO, raw: bytes, length: int, place: int | None) -> bool:
    """Tell whether any of the byte counts of a page is not zero."""
    if place is not None and length <= _MOST_LISTED:
        file.seek(place)
        raw = file.read(length)
    return any(raw)


def _seek(file: BinaryIO, offset: int) -> None:
    if offset >= os.fstat(file.fileno()).st_size:
        raise TiffLayoutError("its page list lies past the end of the file")
    file.seek(offset)


def _page(index: int, tags: dict[int, int], counts: dict[int, int]) -> TiffPage:
    return TiffPage(
        index=index,
        width=tags.get(_WIDTH, 0),
        height=tags.get(_HEIGHT, 0),
        tiled=_TILE_WIDTH in tags,
        compression=tags.get(_COMPRESSION, 1),
        samples=tags.get(_SAMPLES, 1),
        bits=tags.get(_BITS, 1),
        fault=_fault(tags, counts),
    )


def _fault(tags: dict[int, int], counts: dict[int, int]) -> str | None:
    """Compare a tiled page's size with its list of tiles, and its channels with what they are said to mean.

    Libraries read what they find there: a slide of another width than it was written with is scrambled, one
    of another tile size is empty, and one of other colours is not tissue, all without an error.
    """
    if _TILE_WIDTH not in tags:
        return None
    if tags.get(_SAMPLES, 1) > 2 and (meaning := _ONE_CHANNEL.get(tags.get(_PHOTOMETRIC, -1))):
        return f"a page of {tags[_SAMPLES]} channels says that it has one ({meaning!r})"
    sides = [(tags.get(_WIDTH, 0), tags[_TILE_WIDTH]), (tags.get(_HEIGHT, 0), tags.get(_TILE_HEIGHT, 0))]
    if not all(size and tile for size, tile in sides):
        return "a page or its tiles have no size"
    across, down = (-(-size // tile) for size, tile in sides)
    needed = across * down * (tags.get(_SAMPLES, 1) if tags.get(_PLANAR) == _SEPARATE else 1)
    for tag in (_TILE_OFFSETS, _TILE_BYTES):
        if counts.get(tag, 0) != needed:
            return (
                f"a page of {sides[0][0]} x {sides[1][0]} px in tiles of {sides[0][1]} x {sides[1][1]} px "
                f"has {needed} of them, and the file has {counts.get(tag, 0)}"
            )
    return None
