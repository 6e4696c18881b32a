"""Tissue and regions of a slide as the pictures draw them.

Regions that count, regions with a row of their own and what is left out differ in their lines, not in colour
alone: whole, dashed, and dashed with hatching.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ercohort.canvas import (
    APART,
    INK,
    LEFT_OUT,
    LINES,
    PAPER,
    REGION,
    REGION_EDGE,
    RGB,
    TISSUE_EDGE,
    font,
)
from ercohort.strokes import draw_path

if TYPE_CHECKING:
    import shapely
    from numpy.typing import NDArray

    from ercohort.roi import Roi

EDGE = 2
HATCH = 18
NAME_SIZE = 24


def outline_tissue(
    picture: Image.Image,
    mask: NDArray[np.bool_],
    window: tuple[float, float, float, float],
    colour: RGB = TISSUE_EDGE,
) -> None:
    """Draw the border of the tissue mask; a border that is the picture's own edge is left out.

    Parameters
    ----------
    picture
        Drawn on in place.
    mask
        Tissue, shape (rows, cols).
    window
        x0, y0, x1, y1 of the picture in pixels of the mask.
    """
    tissue = Image.fromarray(mask.astype(np.uint8) * 255)
    tissue = tissue.resize(picture.size, Image.Resampling.BILINEAR, box=window)
    solid = np.asarray(tissue) >= 128
    rows, cols = solid.shape
    inner = np.pad(solid, EDGE, mode="edge")
    inner = np.logical_and.reduce([inner[shift : shift + rows] for shift in range(2 * EDGE + 1)])
    inner = np.logical_and.reduce([inner[:, shift : shift + cols] for shift in range(2 * EDGE + 1)])
    border = (solid & ~inner).view(np.uint8) * 190
    picture.paste(colour, (0, 0), Image.fromarray(border))


def roi_key(roi: Roi) -> list[tuple[str, str]]:
    """Entries of the key for what of the regions is drawn."""
    names = [name for name in roi.names if name in roi.outlined]
    kinds = {
        ("Region", REGION): any(name not in roi.apart for name in names),
        ("Region with a row of its own", APART): any(name in roi.apart for name in names),
        ("Left out", LEFT_OUT): roi.excluded is not None,
    }
    return [entry for entry, there in kinds.items() if there]


def draw_roi(
    picture: Image.Image, roi: Roi, origin: tuple[int, int], scale: float, *, bare: bool = False
) -> None:
    """Outline the regions with their names, and hatch what is left out.

    Parameters
    ----------
    picture
        Drawn on in place.
    roi
        Level-0 pixels of the slide frame.
    origin
        Level-0 pixel at the picture's corner.
    scale
        Pixels of the picture per level-0 pixel.
    bare
        Outlines alone, where what they hold is to be seen.
    """
    if roi.excluded is not None:
        rings = _rings(roi.excluded, origin, scale)
        if not bare:
            _hatch(picture, rings)
        _draw_rings(picture, [ring for part in rings for ring in part], LEFT_OUT)
    labels = []
    for name, shape in zip(roi.names, roi.shapes, strict=True):
        if name in roi.outlined:
            rings = _rings(shape, origin, scale)
            _draw_rings(
                picture, [ring for part in rings for ring in part], APART if name in roi.apart else REGION
            )
            # At the top of its largest part, where the name hides little of what was counted.
            outer = max((part[0] for part in rings), key=_extent)
            labels.append((name, outer[outer[:, 1].argmin()]))
    for name, place in [] if bare else labels:
        _name(picture, name, place)


def _extent(ring: NDArray[np.float64]) -> float:
    return float(np.ptp(ring, axis=0).prod())


def _rings(shape: shapely.Geometry, origin: tuple[int, int], scale: float) -> list[list[NDArray[np.float64]]]:
    """Outer ring and holes of every part, pixels of the picture."""
    import shapely

    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    return [
        [(shapely.get_coordinates(ring) - origin) * scale for ring in (part.exterior, *part.interiors)]
        for part in parts
    ]


def _draw_rings(picture: Image.Image, rings: list[NDArray[np.float64]], kind: str) -> None:
    colour, width, dash = LINES[kind]
    for ring in rings:
        points = [(x, y) for x, y in ring.tolist()]
        draw_path(picture, points, colour, width=width, dash=dash, cased=True)


def _hatch(picture: Image.Image, rings: list[list[NDArray[np.float64]]]) -> None:
    """Draw diagonal lines inside polygons, but not in their holes."""
    inside = Image.new("L", picture.size, 0)
    fill = ImageDraw.Draw(inside)
    for outer, *holes in rings:
        fill.polygon(outer.ravel().tolist(), fill=255)
        for hole in holes:
            fill.polygon(hole.ravel().tolist(), fill=0)
    down, across = np.ogrid[: picture.height, : picture.width]
    phase = (down + across) % HATCH
    dark = np.where(phase < 3, 255, 0).astype(np.uint8)
    light = np.where((phase == HATCH - 1) | (phase == 3), 160, 0).astype(np.uint8)
    solid = np.asarray(inside)
    picture.paste(PAPER, (0, 0), Image.fromarray(np.minimum(light, solid)))
    picture.paste(INK, (0, 0), Image.fromarray(np.minimum(dark, solid)))


def _name(picture: Image.Image, name: str, place: NDArray[np.float64]) -> None:
    """Write a region's name above a point of its outline, inside the picture."""
    type_ = font(NAME_SIZE, bold=True)
    width = type_.getlength(name) + 16
    left = float(np.clip(place[0] - width / 2, 2, max(picture.width - width - 2, 2)))
    bottom = float(np.clip(place[1] - 6, NAME_SIZE + 14, picture.height - 2))
    draw = ImageDraw.Draw(picture, "RGBA")
    box = (left, bottom - NAME_SIZE - 10, left + width, bottom)
    draw.rounded_rectangle(box, 6, fill=(*PAPER, 230), outline=REGION_EDGE, width=2)
    draw.text((left + 8, bottom - 9), name, fill=INK, font=type_, anchor="ls")
