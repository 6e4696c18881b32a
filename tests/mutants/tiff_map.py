"""Where things lie in a classic little-endian TIFF: its directories, their entries, its tiles."""

from __future__ import annotations

import struct
from dataclasses import dataclass

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
DESCRIPTION, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES = 270, 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SUBSAMPLING = 282, 283, 296, 530
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, JPEG_TABLES = 322, 323, 324, 325, 347

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


@dataclass(frozen=True)
class Entry:
    """One tag of a directory: `at` is where its 12 bytes begin, `values_at` where its values do."""

    tag: int
    kind: int
    count: int
    at: int
    values_at: int

    @property
    def end(self) -> int:
        return self.values_at + self.count * SIZES.get(self.kind, 1)


@dataclass(frozen=True)
class Directory:
    """One page: `at` is where it begins, `next_at` where the offset of the next one is."""

    at: int
    next_at: int
    entries: dict[int, Entry]

    def integers(self, data: bytes, tag: int) -> list[int]:
        entry = self.entries[tag]
        letter = {1: "B", 3: "H", 4: "I", 13: "I"}[entry.kind]
        return list(struct.unpack_from(f"<{entry.count}{letter}", data, entry.values_at))

    def chunks(self, data: bytes) -> list[tuple[int, int]]:
        """Offset and size of every tile or strip."""
        tiled = TILE_OFFSETS in self.entries
        offsets = self.integers(data, TILE_OFFSETS if tiled else STRIP_OFFSETS)
        return list(zip(offsets, self.integers(data, TILE_SIZES if tiled else STRIP_SIZES), strict=True))


def directories(data: bytes) -> list[Directory]:
    """All directories of a sound file, in its order."""
    assert data[:4] == b"II*\0"
    found = []
    (at,) = struct.unpack_from("<I", data, 4)
    while at:
        (count,) = struct.unpack_from("<H", data, at)
        entries = {}
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, n, value = struct.unpack_from("<HHII", data, place)
            inside = n * SIZES.get(kind, 1) <= 4
            entries[tag] = Entry(tag, kind, n, place, place + 8 if inside else value)
        found.append(Directory(at, at + 2 + 12 * count, entries))
        (at,) = struct.unpack_from("<I", data, found[-1].next_at)
    return found
