"""A window of a slide as a picture, whatever of it can be read.

Pixels come from the pyramid, block by block: memory does not grow with the slide, also where it has one level
only, and a damaged tile leaves a blank of its own size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ercohort.errors import SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.slide import SlideInfo

BLANK = (214, 217, 222)
"""Colour of what cannot be read."""

_BLOCK_PX = 2048
_SMALLEST_PX = 256
"""A block that cannot be read is quartered down to this side, to keep what is sound around the damage."""

_MAX_FAILURES = 100
"""After so many failed reads blocks are no longer quartered: each failure opens the slide anew."""

Box = tuple[int, int, int, int]


class Pixels(Protocol):
    """What a picture needs of a slide; `ercohort.slide.Slide` has it."""

    info: SlideInfo

    def level_for(self, downsample: float) -> int:
        """Coarsest level that is as fine as `downsample`."""

    def read_level(
        self, level: int, start: tuple[float, float], step: tuple[float, float], out: NDArray[np.uint8]
    ) -> None:
        """Fill `out`, (rows, cols, 3), from a level; `start` and `step` are pixels of that level."""


def read_picture(slide: Pixels, window: Box, size: tuple[int, int]) -> Image.Image:
    """Read a window from the level that suits the picture's size.

    Parameters
    ----------
    slide
        Source of pixels.
    window
        x, y, width, height in level-0 pixels of the slide frame.
    size
        Width and height of the picture, pixels.

    Returns
    -------
    RGB picture; `BLANK` where the slide cannot be read, background where the window hangs over it.
    """
    x, y, width, height = window
    level = slide.level_for(min(width / size[0], height / size[1]))
    scale = slide.info.level_downsamples[level]
    left, top = math.floor(x / scale), math.floor(y / scale)
    right, bottom = math.ceil((x + width) / scale), math.ceil((y + height) / scale)
    shrink = max(int(min(width / scale / size[0], height / scale / size[1])), 1)
    picture = _Reader(slide, level, shrink).read((left, top, right, bottom))
    if scale == shrink == 1 and picture.size == size:
        return picture
    x0, y0 = (x / scale - left) / shrink, (y / scale - top) / shrink
    x1 = min(x0 + width / scale / shrink, picture.width)
    y1 = min(y0 + height / scale / shrink, picture.height)
    return picture.resize(size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))


class _Reader:
    """Reads blocks of one level as it is, each shrunk by a whole number: no resampling needs to be loaded."""

    def __init__(self, slide: Pixels, level: int, shrink: int) -> None:
        self._slide = slide
        self._level = level
        self._shrink = shrink
        self._failures = 0

    def read(self, box: Box) -> Image.Image:
        """Read x0, y0, x1, y1 in pixels of the level."""
        x0, y0, x1, y1 = box
        shrink = self._shrink
        picture = Image.new("RGB", (-(-(x1 - x0) // shrink), -(-(y1 - y0) // shrink)), BLANK)
        side = max(_BLOCK_PX // shrink, 1) * shrink
        for top in range(y0, y1, side):
            for left in range(x0, x1, side):
                block = left, top, min(left + side, x1), min(top + side, y1)
                part = Image.fromarray(self._block(block))
                part = part.reduce(shrink) if shrink > 1 else part
                picture.paste(part, ((left - x0) // shrink, (top - y0) // shrink))
        return picture

    def _block(self, box: Box) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = box
        pixels = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        try:
            self._slide.read_level(self._level, (x0, y0), (1.0, 1.0), pixels)
        except SlideError:
            self._failures += 1
            pixels[:] = BLANK
            if max(x1 - x0, y1 - y0) > _SMALLEST_PX and self._failures < _MAX_FAILURES:
                x, y = (x0 + x1 + 1) // 2, (y0 + y1 + 1) // 2
                for a, b in ((x0, x), (x, x1)):
                    for c, d in ((y0, y), (y, y1)):
                        if a < b and c < d:
                            pixels[c - y0 : d - y0, a - x0 : b - x0] = self._block((a, c, b, d))
        return pixels
