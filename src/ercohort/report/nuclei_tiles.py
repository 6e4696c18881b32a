"""The nuclei of a slide by tile of the viewer: outlines where they can be seen, else how many lie where.

A tile at zoom `k` shows `TILE` x `TILE` screen pixels of 2**k level-0 pixels each (k < 0: enlarged); its
origin is the slide's scanned part. Nuclei are kept in Morton order of their tile at zoom 0, so that those of
any tile of any coarser zoom lie together, and a tile costs what it holds, whatever the slide holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.schema import class_index, class_names

TILE = 512
GRID = 128
"""Bins along a side of a tile that shows density."""

MIN_OUTLINE_PX = 3.0
"""Smaller on the screen than this, nuclei are shown as density."""

OUTLINES, DENSITY = 1, 2
"""What a tile holds; the first number of its bytes."""


@dataclass(frozen=True)
class NucleiTiles:
    """The nuclei of one slide, in Morton order.

    Attributes
    ----------
    boxes
        (N, 4) float32, level-0 pixels from the corner of the scanned part.
    classes, scores, grades
        (N,) uint8: index into `labels`; score x 255, rounded down; 0 to 3.
    cells
        (N,) uint64, rising: Morton code of the zoom-0 tile that holds the centre.
    labels
        The detector's classes.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.uint8]
    scores: NDArray[np.uint8]
    grades: NDArray[np.uint8]
    cells: NDArray[np.uint64]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, nuclei: pl.DataFrame, origin: tuple[int, int]) -> NucleiTiles:
        """Sort nuclei: columns x0, y0, x1, y1, score, label, and grade where it is known."""
        x, y = origin
        boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float32)
        boxes -= np.array([x, y, x, y], np.float32)
        centre = np.maximum((boxes[:, :2] + boxes[:, 2:]) / 2, 0)
        cell = (centre // TILE).astype(np.uint64)
        codes = spread(cell[:, 0]) | (spread(cell[:, 1]) << np.uint64(1))
        order = np.argsort(codes, kind="stable")
        grades = (
            nuclei["grade"].fill_null(0).to_numpy() if "grade" in nuclei.columns else np.zeros(len(order))
        )
        scores = np.floor(np.clip(nuclei["score"].to_numpy(), 0, 1) * 255)
        return cls(
            boxes=np.ascontiguousarray(boxes[order]),
            classes=class_index(nuclei["label"])[order].astype(np.uint8),
            scores=scores[order].astype(np.uint8),
            grades=grades[order].astype(np.uint8),
            cells=codes[order],
            labels=class_names(nuclei.schema["label"]),
        )

    @classmethod
    def read(cls, path: Path, origin: tuple[int, int]) -> NucleiTiles:
        """Read a slide's `nuclei.parquet`."""
        columns = ["x0", "y0", "x1", "y1", "score", "label"]
        known = pl.read_parquet_schema(path)
        return cls.of(pl.read_parquet(path, columns=[*columns, *({"grade"} & known.keys())]), origin)

    @cached_property
    def greatest_outline_zoom(self) -> int:
        """Coarsest zoom at which the median nucleus still is `MIN_OUTLINE_PX` wide on the screen."""
        if not len(self.boxes):
            return 0
        side = float(np.median(self.boxes[:, 2:] - self.boxes[:, :2]))
        return max(int(np.floor(np.log2(max(side, 1) / MIN_OUTLINE_PX))), 0)

    def tile(self, zoom: int, column: int, row: int, *, score: float = 0.0) -> bytes:
        """Return what a tile shows, as the page reads it.

        Parameters
        ----------
        zoom, column, row
            Which tile.
        score
            Of density, only nuclei from this score on are counted; outlines bring theirs along.

        Returns
        -------
        Little-endian uint32 kind and count. `OUTLINES`: boxes (n, 4) float32 in level-0 pixels from the
        tile's corner, then classes, scores, grades (n,) uint8. `DENSITY`: nuclei, uint16, of each class
        in GRID x GRID bins.
        """
        if zoom > self.greatest_outline_zoom:
            return self._density(zoom, column, row, score)
        return self._outlines(zoom, column, row)

    def _outlines(self, zoom: int, column: int, row: int) -> bytes:
        side = TILE * 2.0**zoom
        x, y = column * side, row * side
        chosen = []
        # A nucleus whose centre lies in the next tile may reach into this one.
        for start, stop in self._around(max(zoom, 0), column * side, row * side):
            boxes = self.boxes[start:stop]
            seen = (boxes[:, 2] > x) & (boxes[:, 0] < x + side) & (boxes[:, 3] > y) & (boxes[:, 1] < y + side)
            chosen.append(start + np.flatnonzero(seen))
        index = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        boxes = self.boxes[index] - np.array([x, y, x, y], np.float32)
        parts = (boxes, self.classes[index], self.scores[index], self.grades[index])
        return struct.pack("<II", OUTLINES, len(index)) + b"".join(part.tobytes() for part in parts)

    def _density(self, zoom: int, column: int, row: int, score: float) -> bytes:
        start, stop = self._range(zoom, column, row)
        side = TILE * 2**zoom
        boxes, classes = self.boxes[start:stop], self.classes[start:stop]
        if score > 0:
            kept = self.scores[start:stop] >= int(score * 255)
            boxes, classes = boxes[kept], classes[kept]
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array([column * side, row * side], np.float32)
        place = np.clip(centre * (GRID / side), 0, GRID - 1).astype(np.int64)
        flat = (classes.astype(np.int64) * GRID + place[:, 1]) * GRID + place[:, 0]
        counts = np.bincount(flat, minlength=len(self.labels) * GRID * GRID)
        head = struct.pack("<II", DENSITY, len(self.labels))
        return head + np.minimum(counts, 65535).astype("<u2").tobytes()

    def _around(self, zoom: int, x: float, y: float) -> Iterator[tuple[int, int]]:
        side = TILE * 2**zoom
        column, row = int(x // side), int(y // side)
        for line in range(max(row - 1, 0), row + 2):
            for place in range(max(column - 1, 0), column + 2):
                start, stop = self._range(zoom, place, line)
                if stop > start:
                    yield start, stop

    def _range(self, zoom: int, column: int, row: int) -> tuple[int, int]:
        """Rows of the nuclei whose centre lies in a tile of zoom 0 or coarser."""
        code = int(spread(np.uint64(column))) | (int(spread(np.uint64(row))) << 1)
        limits = np.array([code << 2 * zoom, (code + 1) << 2 * zoom], np.uint64)
        start, stop = np.searchsorted(self.cells, limits)
        return int(start), int(stop)


def spread(values: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Put a zero between the bits of numbers below 2**16, for a Morton code."""
    bits = np.asarray(values, np.uint64) & np.uint64(0xFFFF)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits
