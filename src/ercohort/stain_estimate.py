"""Stain vectors of one slide, estimated from its own tissue.

After Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009,
1107-1110: the two stains span a plane in optical density, and are its outermost directions. There, one
percentile of all pixels serves for both; here brown and blue pixels are told apart by the default vectors
first and count the same, because on a slide of few positive nuclei the outermost percent holds no DAB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ercohort.errors import SlideError
from ercohort.stain import optical_density, stain_matrix
from ercohort.stain_vectors import DEFAULT_VECTORS, StainVectors

if TYPE_CHECKING:
    from ercohort.slide import Slide
    from ercohort.tissue import Tissue

WINDOW_PX = 256
WINDOW_MPP = 1.0
N_WINDOWS = 32
"""Windows that are looked at: half of them anywhere in the tissue, half where it is brownest."""

MAX_FAILED = 4
"""Windows that cannot be read before no more are tried: a damaged slide may keep its reader busy."""

MIN_PIXELS = 1_000
"""Blue and brown pixels without which nothing is estimated."""

MIN_APART_DEGREES = 20.0
MAX_OFF_DEGREES = 40.0
"""Estimates are believed if they are this far apart at least, and this far from the defaults at most."""

_MIN_OD = 0.15
_DARKEST = 5  # below, a pixel's colour is the scanner's noise
_BROWNEST = 0.02
_MOST = 20_000

# Chosen on simulated slides of known vectors (tests/unit/test_stain_estimate.py has the errors that remain).
_BLUE, _BROWN = (0.1, 50.0), (0.2, 80.0)
"""Least amount of the stain in a pixel, and the percentile of such pixels from which on they count: the upper
half of the blue ones; fewer of the brown ones, since pale DAB lies on haematoxylin."""
_BLUEST, _BROWNEST_ANGLE = 5.0, 99.0
"""Percentiles of the angle in the plane: Macenko's are 1 and 99; at the blue end glass scatters more."""


class ImplausibleError(Exception):
    """Why the default vectors are kept."""


def estimate_vectors(slide: Slide, tissue: Tissue) -> StainVectors:
    """Estimate a slide's stain vectors; where that gives nothing plausible, the defaults, saying why.

    Parameters
    ----------
    slide
        Opened; windows that cannot be read are passed over.
    tissue
        What `tissue.find_tissue` found on it.

    Returns
    -------
    Vectors of source `estimate`, or the defaults with a `message`.
    """
    try:
        return vectors_of(_sample(slide, tissue), tissue.background)
    except ImplausibleError as reason:
        return StainVectors(DEFAULT_VECTORS.hematoxylin, DEFAULT_VECTORS.dab, "default", str(reason))


def vectors_of(pixels: npt.NDArray[np.uint8], background: tuple[float, float, float]) -> StainVectors:
    """Estimate the stain vectors from pixels of tissue.

    Parameters
    ----------
    pixels
        (N, 3) uint8 RGB.
    background
        RGB of the slide's glass.

    Raises
    ------
    ImplausibleError
        Too few pixels of a stain, or vectors that no pair of these stains has.
    """
    density = optical_density(background)[pixels, [0, 1, 2]]
    density = density[(np.linalg.norm(density, axis=1) > _MIN_OD) & (pixels.min(axis=1) > _DARKEST)]
    amounts = density @ np.linalg.inv(stain_matrix())[:, :2]
    blue = density[_strongest(amounts[:, 0], amounts[:, 1], *_BLUE, "haematoxylin")]
    brown = density[_strongest(amounts[:, 1], amounts[:, 0], *_BROWN, "DAB")]
    plane = _plane(blue, brown)
    return _checked(_direction(blue, plane, _BLUEST), _direction(brown, plane, _BROWNEST_ANGLE))


def _strongest(
    own: npt.NDArray[np.float64], other: npt.NDArray[np.float64], least: float, percentile: float, name: str
) -> npt.NDArray[np.bool_]:
    """Say which pixels hold more of a stain than of the other, and of these the ones that hold most."""
    chosen = (own > least) & (own > other)
    n = int(chosen.sum())
    if n < MIN_PIXELS:
        raise ImplausibleError(f"too little {name} to estimate from: {n:,} of {len(own):,} pixels")
    return np.asarray(chosen & (own >= np.percentile(own[chosen], percentile)))


def _plane(blue: npt.NDArray[np.float64], brown: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return two axes (3, 2) of the plane of both stains: the first between them, the second towards DAB."""
    most = min(len(blue), len(brown), _MOST)
    both = np.concatenate([part[:: max(1, len(part) // most)][:most] for part in (blue, brown)])
    _, axes = np.linalg.eigh(both.T @ both)
    plane = axes[:, [2, 1]]
    towards = stain_matrix()[:2] @ plane
    return plane * [np.sign(towards[:, 0].sum()), np.sign(towards[1, 1] - towards[0, 1])]


def _direction(
    density: npt.NDArray[np.float64], plane: npt.NDArray[np.float64], percentile: float
) -> npt.NDArray[np.float64]:
    x, y = (density @ plane).T
    angle = np.percentile(np.arctan2(y, x), percentile)
    return np.asarray(plane @ [np.cos(angle), np.sin(angle)])


def _checked(hematoxylin: npt.NDArray[np.float64], dab: npt.NDArray[np.float64]) -> StainVectors:
    apart = degrees_between(hematoxylin, dab)
    if apart < MIN_APART_DEGREES:
        raise ImplausibleError(f"the estimated vectors are {apart:.0f} degrees apart, too few")
    for name, found, usual in (
        ("haematoxylin", hematoxylin, DEFAULT_VECTORS.hematoxylin), ("DAB", dab, DEFAULT_VECTORS.dab),
    ):  # fmt: skip
        off = degrees_between(found, usual)
        if off > MAX_OFF_DEGREES:
            raise ImplausibleError(f"the estimated {name} is {off:.0f} degrees from the usual one, too many")
        if found.min() < -0.05:
            raise ImplausibleError(f"the estimated {name} would lighten a colour, which no stain does")
    return StainVectors(_rounded(hematoxylin), _rounded(dab), "estimate")


def _rounded(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = np.maximum(vector, 0.0) / np.linalg.norm(np.maximum(vector, 0.0))
    return round(float(red), 4), round(float(green), 4), round(float(blue), 4)


def degrees_between(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the angle between two vectors."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _sample(slide: Slide, tissue: Tissue) -> npt.NDArray[np.uint8]:
    """Return (N, 3) pixels of windows in the tissue, the same on every run."""
    places = np.flatnonzero(tissue.found)  # without the margin of glass and what cannot be read
    if not len(places):
        raise ImplausibleError("there is no tissue to estimate from")
    pixels = tissue.thumbnail.reshape(-1, 3)[places]
    dab = (optical_density(tissue.background)[pixels, [0, 1, 2]] @ np.linalg.inv(stain_matrix()))[:, 1]
    brownest = places[dab >= np.quantile(dab, 1 - _BROWNEST)]
    random = np.random.default_rng(0)
    chosen = np.concatenate([random.choice(group, N_WINDOWS // 2) for group in (places, brownest)])
    rows, columns = np.divmod(np.unique(chosen), tissue.found.shape[1])
    side = WINDOW_PX * WINDOW_MPP / slide.info.mpp
    windows, n_failed = [], 0
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        x, y = (column + 0.5) * tissue.downsample_x - side / 2, (row + 0.5) * tissue.downsample_y - side / 2
        try:
            window = slide.read(round(x), round(y), round(side), round(side), size=(WINDOW_PX, WINDOW_PX))
        except SlideError:  # the detection step counts what cannot be read
            n_failed += 1
            if n_failed >= MAX_FAILED:
                break
            continue
        windows.append(window.reshape(-1, 3))
    if not windows:
        raise ImplausibleError("no window of the tissue could be read")
    return np.concatenate(windows)
