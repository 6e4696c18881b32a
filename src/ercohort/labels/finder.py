"""Nuclei without a trained detector: optical density, blobs, and the darker half of each.

It knows stain and size, nothing of what a tumour cell looks like: lymphocytes, stroma and pigment are found
as well, and pale or crowded nuclei are missed. Good enough to correct by hand, not to count with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ercohort.schema import NEGATIVE, POSITIVE
from ercohort.stain import measure, optical_density, stain_matrix

MPP = 0.5
"""Scale to look at, µm per pixel; finer pictures only cost time."""

DAB_POSITIVE = 0.2
"""Mean DAB density of a positive nucleus, at least: as by default in QuPath's positive cell detection."""

LEAST_CONTRAST = 0.1
"""Density of a nucleus above its surroundings: the default threshold of QuPath's cell detection."""

AREA_UM2 = (10.0, 400.0)
"""Least and greatest area of a nucleus, as by default in QuPath's cell detection."""

_RADII_UM = (2.5, 3.5, 4.5, 6.0)
"""Radii of nuclei that the blob filter is tuned to."""

_SURROUNDINGS_UM = 16.0
"""Side of the square in which the faintest spot is taken for what surrounds a nucleus."""

_REACH_UM = 9.0
"""What is farther from the middle of a nucleus is not a part of it."""


@dataclass(frozen=True, eq=False)
class FoundNuclei:
    """Nuclei of one picture.

    Attributes
    ----------
    boxes
        (N, 4) float32: x0, y0, x1, y1, pixels of the picture.
    labels
        (N,) text, `Positive` or `Negative`.
    scores
        (N,) float32, contrast c as c / (c + `LEAST_CONTRAST`): 0.5 at the faintest that is taken.
    dab_od, hematoxylin_od
        (N,) float32, mean optical densities in the nucleus, as `ercohort.stain.measure` defines them.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.str_]
    scores: NDArray[np.float32]
    dab_od: NDArray[np.float32]
    hematoxylin_od: NDArray[np.float32]


def find_nuclei(
    image: NDArray[np.uint8], *, mpp: float, background: tuple[float, float, float]
) -> FoundNuclei:
    """Find the nuclei in a brightfield picture of haematoxylin and DAB.

    Densities of both stains are added and smoothed, and their surroundings are subtracted. The middle of a
    nucleus is a maximum over place and scale of the Laplacian of Gaussian (Lindeberg, Int J Comput Vis
    1998;30:79-116). Each pixel belongs to the nearest middle, and to the nucleus if it has at least half of
    its contrast, which also parts nuclei in contact. The box is that of the ellipse with the same second
    moments. The class follows from the mean DAB density in it (`DAB_POSITIVE`).

    Parameters
    ----------
    image
        (rows, cols, 3) uint8 RGB.
    mpp
        µm per pixel, 0.2 to 1.
    background
        RGB of the glass.

    Returns
    -------
    FoundNuclei
        In order of their middles, by rows. None in an empty picture.
    """
    contrast = _contrast(image, mpp, background)
    middles = _middles(contrast, mpp)
    boxes, peaks = _outline(contrast, middles, mpp)
    dab, hematoxylin = measure(image, boxes, background)
    labels = np.where(dab >= DAB_POSITIVE, POSITIVE, NEGATIVE)
    return FoundNuclei(boxes, labels, peaks / (peaks + np.float32(LEAST_CONTRAST)), dab, hematoxylin)


def _contrast(
    image: NDArray[np.uint8], mpp: float, background: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Density of both stains above the surroundings, (rows, cols)."""
    from scipy import ndimage

    table = optical_density(background).astype(np.float32)
    density = np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
    stains = density @ np.linalg.inv(stain_matrix()).astype(np.float32)[:, :2]
    smooth = ndimage.gaussian_filter(np.maximum(stains, 0).sum(axis=2), 0.75 / mpp)
    side = max(3, round(_SURROUNDINGS_UM / mpp))
    surroundings = ndimage.gaussian_filter(ndimage.grey_opening(smooth, (side, side)), side / 4)
    return np.asarray(np.maximum(smooth - surroundings, 0), np.float32)


def _middles(contrast: NDArray[np.float32], mpp: float) -> NDArray[np.int64]:
    """Rows and columns of the middles of nuclei, (N, 2)."""
    from scipy import ndimage

    blob = np.full(contrast.shape, -np.inf, np.float32)
    for radius in _RADII_UM:
        sigma = radius / mpp / np.sqrt(2)
        np.maximum(blob, -(sigma**2) * ndimage.gaussian_laplace(contrast, sigma), out=blob)
    highest = blob == ndimage.maximum_filter(blob, footprint=_disk(_RADII_UM[0] / mpp))
    tops, n = ndimage.label(highest & (blob > 0) & (contrast > LEAST_CONTRAST), np.ones((3, 3)))
    # A flat top is one nucleus; its first pixel stands for it.
    _, first = np.unique(tops, return_index=True)
    return np.stack(np.unravel_index(first[len(first) - n :], tops.shape), axis=1)


def _disk(radius: float) -> NDArray[np.bool_]:
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(x * x + y * y <= radius * radius)


def _outline(
    contrast: NDArray[np.float32], middles: NDArray[np.int64], mpp: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (N, 4) of the nuclei around the middles, and their contrast (N,); too small and large ones go."""
    from scipy import ndimage

    if not len(middles):
        return np.empty((0, 4), np.float32), np.empty(0, np.float32)
    rows, cols = middles.T
    seed = np.zeros(contrast.shape, np.int32)
    seed[rows, cols] = np.arange(1, len(middles) + 1)
    distance, nearest = ndimage.distance_transform_edt(seed == 0, return_indices=True)
    owner = seed[tuple(nearest)] - 1
    peaks = contrast[rows, cols]
    mine = (contrast >= np.maximum(peaks / 2, LEAST_CONTRAST / 2)[owner]) & (distance <= _REACH_UM / mpp)
    y, x = np.nonzero(mine)
    of = owner[y, x]
    n = np.bincount(of, minlength=len(middles)).astype(np.float64)
    sides = []
    for place in (x + 0.5, y + 0.5):
        mean = np.bincount(of, place, minlength=len(n)) / n
        variance = np.maximum(np.bincount(of, place**2, minlength=len(n)) / n - mean**2, 0) + 1 / 12
        # The variance of an ellipse along an axis is a quarter of its half-axis squared.
        sides += [mean - 2 * np.sqrt(variance), mean + 2 * np.sqrt(variance)]
    boxes = np.stack([sides[0], sides[2], sides[1], sides[3]], axis=1).astype(np.float32)
    area = n * mpp**2
    keep = (area >= AREA_UM2[0]) & (area <= AREA_UM2[1])
    return boxes[keep], peaks[keep]
