"""Lines on pictures: outlines of nuclei, and paths that may be dashed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
CASING: Colour = (255, 255, 255)

SMOOTH_PX = 1_000_000
"""Outlines on larger pictures are drawn at twice their size, not three times, before they are smoothed."""


def draw_ellipses(
    picture: Image.Image,
    boxes: NDArray[np.float64],
    classes: NDArray[np.int64],
    colours: Sequence[Colour],
    *,
    width: float,
) -> None:
    """Outline nuclei as ellipses in the colours of their classes, with a light casing, smoothly.

    Parameters
    ----------
    picture
        Drawn on in place.
    boxes
        x0, y0, x1, y1 in pixels of the picture, shape (n, 4).
    classes
        Index into `colours`, shape (n,).
    width
        Of the line, pixels.
    """
    if not len(boxes):
        return
    fine = 3 if picture.width * picture.height <= SMOOTH_PX else 2
    size = picture.width * fine, picture.height * fine
    casing = 0.45 * width
    edges = (boxes + np.array([-casing, -casing, casing, casing])) * fine
    _paste_ellipses(picture, CASING, edges, size, round((width + 2 * casing) * fine), 150)
    for index in np.unique(classes).tolist():
        edges = boxes[classes == index] * fine
        _paste_ellipses(picture, colours[index], edges, size, round(width * fine), 255)


def _paste_ellipses(
    picture: Image.Image,
    colour: Colour,
    edges: NDArray[np.float64],
    size: tuple[int, int],
    line: int,
    opacity: int,
) -> None:
    layer = Image.new("L", size, 0)
    draw = ImageDraw.Draw(layer)
    for edge in edges.tolist():
        draw.ellipse(edge, outline=opacity, width=max(line, 1))
    picture.paste(colour, (0, 0), layer.reduce(size[0] // picture.width))


def draw_path(
    picture: Image.Image,
    points: Sequence[tuple[float, float]],
    colour: Colour,
    *,
    width: int,
    dash: float = 0,
    cased: bool = False,
) -> None:
    """Draw a line through points, `cased` in white; with `dash`, dashes and gaps of that length, pixels."""
    draw = ImageDraw.Draw(picture)
    strokes = _dashes(np.asarray(points, np.float64), dash, picture.size) if dash else [list(points)]
    for fill, line in ((CASING, width + 4), (colour, width))[0 if cased else 1 :]:
        for stroke in strokes:
            draw.line(stroke, fill=fill, width=line, joint="curve")


def _dashes(path: NDArray[np.float64], dash: float, size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Cut a line into dashes; corners stay in them. Those far outside a picture of this size are left out."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    starts = np.arange(0, along[-1], 2 * dash)
    ends = np.minimum(starts + dash, along[-1])
    first, last = (np.stack([np.interp(at, along, axis) for axis in path.T], axis=1) for at in (starts, ends))
    near = ((first > -2 * dash) & (first < np.array(size) + 2 * dash)).all(axis=1)
    low, high = np.searchsorted(along, starts, "right"), np.searchsorted(along, ends, "left")
    return [
        [tuple(point) for point in (first[k], *path[low[k] : high[k]], last[k])]
        for k in np.flatnonzero(near).tolist()
    ]
