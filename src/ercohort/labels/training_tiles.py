"""Training tiles cut from labelled regions.

A tile may teach only what a person has looked at: outside the region it is grey, and a nucleus of an ignored
class is painted over with the colour around it, so that it is neither nucleus nor background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ercohort.labels.annotations import SlideLabels, in_regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.slide import SlideInfo

PAD = 114
"""Grey outside the region: what Ultralytics pads pictures with, so the detector knows it as nothing."""

MIN_VISIBLE = 0.4
"""A nucleus cut by the edge of a tile is labelled there if its centre or this share of its box is inside."""

_RING = 1.6
_RIM = 1.15


class Pixels(Protocol):
    """What tiles need of a slide; `ercohort.slide.Slide` has it."""

    info: SlideInfo

    def read(
        self, x: int, y: int, w: int, h: int, *, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Window in level-0 pixels as RGB of `size` (width, height)."""


@dataclass(frozen=True)
class Window:
    """Where a tile lies on its slide; level-0 pixels of the slide frame.

    Parameters
    ----------
    region, number
        The region, and the tile in it, counted from 0.
    x, y, side
        The square that the tile shows.
    inside
        x0, y0, x1, y1 of the region's part of it.
    """

    region: int
    number: int
    x: int
    y: int
    side: int
    inside: tuple[int, int, int, int]

    def name(self, slide_id: str) -> str:
        """Name of the tile, from which its slide can be told."""
        return f"{slide_id}__r{self.region}_t{self.number}"


@dataclass(frozen=True)
class Tile:
    """A picture and its nuclei, pixels of the picture.

    Parameters
    ----------
    image
        (rows, cols, 3) uint8 RGB.
    boxes
        (N, 4) float64, cut at the region and at the picture's edge.
    classes
        (N,) int64, index of the class.
    ignored
        (K, 4) float64, nuclei that were painted over.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    ignored: NDArray[np.float64]


def lay_out_windows(
    regions: NDArray[np.float64], *, slide_mpp: float, mpp: float, tile_px: int
) -> list[Window]:
    """Cover every region with tiles.

    A region as large as a tile or larger is covered by as few tiles as can do it, evenly spread; where they
    do not fit exactly they overlap. A smaller region lies in the middle of one tile.

    Parameters
    ----------
    regions
        (R, 4), level-0 pixels.
    slide_mpp, mpp
        µm per pixel of the slide and of the tiles.
    tile_px
        Side of a tile, pixels.
    """
    side = max(1, round(tile_px * mpp / slide_mpp))
    windows = []
    # Outwards to whole pixels, so that no centre in a region is off its tiles.
    whole = np.concatenate([np.floor(regions[:, :2]), np.ceil(regions[:, 2:])], axis=1).astype(np.int64)
    for region, (x0, y0, x1, y1) in enumerate(whole.tolist()):
        corners = [(x, y) for y in _starts(y0, y1, side) for x in _starts(x0, x1, side)]
        for number, (x, y) in enumerate(corners):
            inside = max(x, x0), max(y, y0), min(x + side, x1), min(y + side, y1)
            windows.append(Window(region, number, x, y, side, inside))
    return windows


def _starts(low: int, high: int, side: int) -> list[int]:
    """Spread the tiles along one axis."""
    length = high - low
    if length <= side:
        return [low - (side - length) // 2]
    return [round(start) for start in np.linspace(low, high - side, -(-length // side)).tolist()]


def cut_tile(
    slide: Pixels, window: Window, labels: SlideLabels, names: tuple[str, ...], *, tile_px: int
) -> Tile:
    """Read one tile and place its nuclei.

    Parameters
    ----------
    slide
        Source of pixels.
    window
        Where the tile lies.
    labels
        All labels of the slide.
    names
        Classes of the detector, in its order.
    tile_px
        Side of the picture, pixels.

    Raises
    ------
    SlideError
        `unreadable`, if these pixels cannot be decoded.
    """
    origin = np.array([window.x, window.y, window.x, window.y], np.float64)
    scale = tile_px / window.side
    mine = in_regions(labels.boxes, labels.regions[window.region : window.region + 1])[:, 0]
    boxes = (labels.boxes[mine] - origin) * scale
    limit = (np.array(window.inside, np.float64) - origin) * scale
    ignored = _touching((labels.ignored - origin) * scale, limit)
    image = slide.read(window.x, window.y, window.side, window.side, size=(tile_px, tile_px))
    if len(ignored):
        image = paint_over(image, ignored, _touching(boxes, limit))
    image = _grey_outside(image, limit)
    clipped = np.concatenate([np.maximum(boxes[:, :2], limit[:2]), np.minimum(boxes[:, 2:], limit[2:])], 1)
    sides = np.maximum(clipped[:, 2:] - clipped[:, :2], 0)
    visible = sides.prod(axis=1) >= MIN_VISIBLE * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    has_centre = ((middle >= 0) & (middle < tile_px)).all(axis=1)
    keep = (visible | has_centre) & (sides > 0).all(axis=1)
    classes = np.array([names.index(label) for label in labels.labels[mine].tolist()], np.int64)
    return Tile(image, clipped[keep], classes[keep], ignored)


def paint_over(
    image: NDArray[np.uint8], ignored: NDArray[np.float64], kept: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Paint nuclei over with the middle colour of what surrounds them; no labelled nucleus is touched.

    Parameters
    ----------
    image
        (rows, cols, 3) RGB.
    ignored, kept
        (K, 4) and (N, 4) boxes of the nuclei to paint over and to leave, pixels of the image.
    """
    result = image.copy()
    shape = image.shape[:2]
    spared = np.zeros(shape, bool)
    for box in kept:
        spared |= _ellipse(shape, box, 1.0)
    free = ~spared
    for box in ignored:
        free &= ~_ellipse(shape, box, _RIM)
    overall = np.median(image[free], axis=0) if free.any() else np.full(3, PAD)
    for box in ignored:
        near = free & _ellipse(shape, box, _RING)
        colour = np.median(image[near], axis=0) if near.any() else overall
        result[_ellipse(shape, box, _RIM) & ~spared] = colour
    return result


def _ellipse(shape: tuple[int, ...], box: NDArray[np.float64], grow: float) -> NDArray[np.bool_]:
    """Pixels whose middle lies in the box's ellipse, grown about its centre."""
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum(grow * (box[2:] - box[:2]) / 2, 1e-9)
    x = (np.arange(shape[1]) + 0.5 - centre[0]) / radius[0]
    y = (np.arange(shape[0]) + 0.5 - centre[1]) / radius[1]
    inside: NDArray[np.bool_] = x**2 + y[:, None] ** 2 <= 1
    return inside


def _touching(boxes: NDArray[np.float64], limit: NDArray[np.float64]) -> NDArray[np.float64]:
    seen = (boxes[:, 2:] > limit[:2]) & (boxes[:, :2] < limit[2:])
    return boxes[seen.all(axis=1)]


def _grey_outside(image: NDArray[np.uint8], limit: NDArray[np.float64]) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = np.clip(np.rint(limit), 0, image.shape[0]).astype(np.int64).tolist()
    result = np.full_like(image, PAD)
    result[y0:y1, x0:x1] = image[y0:y1, x0:x1]
    return result


def yolo_lines(tile: Tile) -> str:
    """Boxes as YOLO text: `class x y width height` a line, centre and size as shares of the picture."""
    size = tile.image.shape[0]
    lines = []
    for label, (x0, y0, x1, y1) in zip(tile.classes.tolist(), (tile.boxes / size).tolist(), strict=True):
        lines.append(f"{label} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n")
    return "".join(lines)
