"""The whole slide at a coarse scale, also when parts of it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ercohort.errors import SlideError, Status

if TYPE_CHECKING:
    from ercohort.slide.reader import Slide

_BLOCK_PX = 2048
"""Side of a block, in pixels of the level that is read: memory does not grow with the slide."""

_SMALLEST_PX = 256
"""A block that cannot be read is quartered down to this side, to keep what is sound around the damage."""

_MAX_FAILURES = 400
"""After so many failed reads blocks are no longer quartered: each failure opens the slide anew."""


@dataclass(frozen=True)
class Overview:
    """The whole slide at a coarse scale.

    Attributes
    ----------
    pixels
        (rows, cols, 3) uint8 RGB; background where the slide cannot be read.
    readable
        (rows, cols) bool.
    step
        Level-0 pixels per pixel of the picture, x and y: the picture covers the slide exactly.
    """

    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    step: tuple[float, float]


@dataclass(frozen=True)
class _Block:
    """A part of the picture, in its pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def quarters(self) -> Iterator[_Block]:
        x, y = (self.left + self.right) // 2, (self.top + self.bottom) // 2
        for left, right in ((self.left, x), (x, self.right)):
            for top, bottom in ((self.top, y), (y, self.bottom)):
                if left < right and top < bottom:
                    yield _Block(left, top, right, bottom)

    @property
    def side(self) -> int:
        return max(self.right - self.left, self.bottom - self.top)


def read_overview(slide: Slide, mpp: float, threads: int = 1) -> Overview:
    """Read the whole slide at about `mpp` µm per pixel, `threads` blocks at once.

    Raises
    ------
    SlideError
        `unreadable`, if nothing of it can be read.
    """
    info = slide.info
    cols, rows = (max(1, round(size * info.mpp / mpp)) for size in (info.width, info.height))
    step = (info.width / cols, info.height / rows)
    level = slide.level_for(min(step))
    reader = _BlockReader(
        slide,
        level,
        Overview(np.empty((rows, cols, 3), np.uint8), np.ones((rows, cols), bool), step),
    )
    side = max(1, int(_BLOCK_PX / reader.level_step))
    blocks = [
        _Block(left, top, min(left + side, cols), min(top + side, rows))
        for top in range(0, rows, side)
        for left in range(0, cols, side)
    ]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(reader.read, blocks))
    if not reader.overview.readable.any():
        raise SlideError(
            Status.UNREADABLE, f"{info.path}: no part of it can be decoded; copy or scan it again"
        )
    return reader.overview


class _BlockReader:
    """Fills an overview block by block; blocks do not overlap, so threads need no lock."""

    def __init__(self, slide: Slide, level: int, overview: Overview) -> None:
        self._slide = slide
        self._level = level
        self._scale = slide.info.level_downsamples[level]
        self._failures = 0
        self.overview = overview
        self.level_step = max(overview.step) / self._scale

    def read(self, block: _Block) -> None:
        step_x, step_y = (value / self._scale for value in self.overview.step)
        part = np.s_[block.top : block.bottom, block.left : block.right]
        pixels = np.empty((block.bottom - block.top, block.right - block.left, 3), np.uint8)
        try:
            self._slide.read_level(
                self._level,
                (block.left * step_x, block.top * step_y),
                (step_x, step_y),
                pixels,
            )
            self.overview.pixels[part] = pixels
        except SlideError:
            self._failures += 1
            if (
                block.side * self.level_step > _SMALLEST_PX
                and block.side > 1
                and self._failures < _MAX_FAILURES
            ):
                for quarter in block.quarters():
                    self.read(quarter)
                return
            self.overview.pixels[part] = self._slide.info.background
            self.overview.readable[part] = False
