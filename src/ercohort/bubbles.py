"""Air bubbles under the coverslip, found on the overview by their rims.

Where mounting medium meets air, light is bent past the lens: a bubble has a dark rim of some 10 to 30 µm,
which is grey whatever lies under it, since it takes the same share of all colours. Stains and what is mixed
of them do not. A bubble is a rim that closes around an area without dents; tissue texture, hairs and dust
close around none of this size.

Found are rims, not what lies inside: a bubble that the edge of the picture, a fold or another one cuts open
is missed, and so are most with rims thinner than 10 µm. Of bubbles of 200 and 400 µm drawn into 12 real
fields of Ki-67, with rims of 15 and 25 µm, 44 of 48 were found (`tests/real_data/test_quality.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ercohort.squares import square_areas, square_px, square_sums, squares_to_pixels

PIXEL_UM = 8.0
"""Scale that rims are looked for at, µm per pixel; a finer picture is averaged to it."""

WIDEST_RIM_UM = 80.0
"""What is darker than everything around it and wider than this is no rim."""

DARK, GREY = 25, 0.80
"""Least optical density of a rim above what lies around it, in hundredths, in the channel where it is least,
and the least share that this is of the channel where it is most (haematoxylin 0.4, DAB 0.35, both mixed up
to 0.7)."""

PALE_DARK, PALE_GREY = 10, 0.60
"""The same of the parts of a rim between those that are sure; texture under it colours them."""

SURE_SHARE = 0.2
"""Least share of a rim that is sure."""

LEAST_AREA_UM2 = np.pi * 50.0**2 / 2
"""Least area inside the rim of a bubble, µm²: of one of 100 µm, half is rim."""

LEAST_SOLIDITY = 0.85
"""Least area inside the rim by that of its convex hull."""

RIM_UM = 16.0
"""The area inside is widened by this, µm, to take in its rim."""

_EIGHT = np.ones((3, 3), bool)
_ROWS = 512  # worked on at a time


def find_bubbles(
    picture: NDArray[np.uint8], glass: tuple[float, float, float], scale_um: float
) -> NDArray[np.bool_]:
    """Return where bubbles are, rims included, (rows, cols) of the picture.

    Parameters
    ----------
    picture
        (rows, cols, 3) RGB of a brightfield slide.
    glass
        Colour of the glass, RGB 0 to 255.
    scale_um
        Side of a pixel, µm.
    """
    side = square_px(scale_um, PIXEL_UM)
    rims = _rims(_densities(picture, glass, side), square_px(side * scale_um, WIDEST_RIM_UM))
    inside = _insides(rims, side * scale_um)
    if inside.any():
        from scipy import ndimage

        width = square_px(side * scale_um, RIM_UM)
        inside = ndimage.binary_dilation(inside, _EIGHT, iterations=width)
    return squares_to_pixels(inside, side, picture.shape)


def _densities(picture: NDArray[np.uint8], glass: tuple[float, float, float], side: int) -> NDArray[np.uint8]:
    """Return the optical density of squares of `side` pixels in hundredths, (3, rows, cols)."""
    from ercohort.stain import optical_density

    table = np.minimum(100 * optical_density(glass), 255).astype(np.uint8)
    channels = [table[:, channel][picture[..., channel]] for channel in range(3)]
    if side > 1:
        areas = square_areas(picture.shape, side)
        channels = [(square_sums(channel, side) / areas).astype(np.uint8) for channel in channels]
    return np.stack(channels)


def _rims(density: NDArray[np.uint8], widest: int) -> NDArray[np.bool_]:
    """Return what is darker than all around it, no wider than `widest` pixels, and grey: (rows, cols)."""
    from scipy import ndimage

    sure = np.zeros(density.shape[1:], bool)
    likely = np.zeros_like(sure)
    for top in range(0, len(sure), _ROWS):
        # Each pixel of these rows sees all that an opening of this size looks at.
        first, last = max(0, top - 2 * widest), top + _ROWS + 2 * widest
        around = density[:, first:last]
        excess = np.stack([channel - ndimage.grey_opening(channel, (widest, widest)) for channel in around])[
            :, top - first : top - first + _ROWS
        ]
        least, most = excess.min(axis=0), excess.max(axis=0)
        rows = np.s_[top : top + _ROWS]
        sure[rows] = (least >= DARK) & (least >= GREY * most)
        likely[rows] = (least >= PALE_DARK) & (least >= PALE_GREY * most)
    if not sure.any():
        return sure
    pieces, n_pieces = ndimage.label(likely, _EIGHT)
    n_pixels, n_sure = (np.bincount(pieces[mask], minlength=n_pieces + 1) for mask in (likely, sure))
    is_rim = n_sure >= SURE_SHARE * n_pixels
    is_rim[0] = False
    return np.asarray(is_rim[pieces] | sure)


def _insides(rims: NDArray[np.bool_], pixel_um: float) -> NDArray[np.bool_]:
    """Return the areas without dents that rims close around."""
    from scipy import ndimage

    inside = np.zeros_like(rims)
    pieces, _ = ndimage.label(ndimage.binary_dilation(rims, _EIGHT), _EIGHT)  # gaps of two pixels are closed
    least_px = LEAST_AREA_UM2 / pixel_um**2
    for number, window in enumerate(ndimage.find_objects(pieces), 1):
        if pieces[window].size < least_px:
            continue
        piece = pieces[window] == number
        holes, n_holes = ndimage.label(ndimage.binary_fill_holes(piece) & ~piece)
        areas = np.bincount(holes.ravel())
        for hole in range(1, n_holes + 1):
            if areas[hole] >= least_px and _solidity(holes == hole) >= LEAST_SOLIDITY:
                inside[window] |= holes == hole
    return inside


def _solidity(mask: NDArray[np.bool_]) -> float:
    """Return the area of a mask by that of its convex hull."""
    from shapely import MultiPoint

    rows, cols = np.nonzero(mask)
    corners = [(cols + right, rows + below) for right in (0, 1) for below in (0, 1)]
    hull = MultiPoint(np.concatenate([np.stack(corner, axis=1) for corner in corners])).convex_hull
    return float(mask.sum() / hull.area)
