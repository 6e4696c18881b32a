"""Which squares of a slide a person is asked to label.

Squares are tried at many random places in the tissue; of these, squares that do not overlap are taken one
after another, in random order or the least certain first. More regions of the same seed are the same ones and
some more.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.config import PrelabelSettings
from ercohort.record import TissueRecord
from ercohort.slide import SlideInfo

TISSUE_SHARES = (0.6, 0.3, 1e-6)
"""Least share of tissue in a region; the next one where the tissue is too small for the one before."""

N_CANDIDATES = 4000
"""Squares tried on a slide."""


def pick_regions(
    mask: NDArray[np.bool_],
    tissue: TissueRecord,
    info: SlideInfo,
    settings: PrelabelSettings,
    *,
    slide_id: str,
    margin_um: float = 0.0,
    nuclei: pl.DataFrame | None = None,
    least_score: float = 0.0,
) -> NDArray[np.int64]:
    """Pick the regions of one slide.

    Parameters
    ----------
    mask, tissue
        (rows, cols) tissue mask, and its scale.
    info
        Size, bounds and scale of the slide.
    settings
        How many, how large, how chosen.
    slide_id
        Slides with the same seed get different places.
    margin_um
        By how much the mask was widened (`tissue.margin_um`): glass, which is not what a region is for.
    nuclei
        What the present model found on the slide, `schema.NUCLEI`: needed to choose the uncertain.
    least_score
        Score at which the model takes a nucleus at all (the operating point).

    Returns
    -------
    (R, 4) int64
        x0, y0, x1, y1, level-0 pixels of the slide frame, inside the bounds, in the order chosen. Fewer than
        asked for where no more fit; none where there is no tissue. A scanned area that is smaller than a
        region makes the region smaller.

    Notes
    -----
    The uncertainty of a nucleus is ``(1 - score) / (1 - least_score)``: 1 for one that the model would just
    not have taken, 0 for one it is sure of. That of a square is the mean over the nuclei whose centre it
    holds ("least confidence": Lewis and Gale, SIGIR 1994) and over average ones, as many as squares of this
    slide hold on average: with two doubtful nuclei, a square does not come before one with a hundred.
    """
    side = min(round(settings.region_um / info.mpp), info.bounds[2], info.bounds[3])
    rng = np.random.default_rng([settings.seed, *hashlib.blake2b(slide_id.encode(), digest_size=16).digest()])
    scale = np.array([tissue.downsample_x, tissue.downsample_y])
    mask = _narrow(mask, margin_um / (info.mpp * float(scale.mean())))
    squares = _candidates(mask, scale, info.bounds, side, rng)
    if not len(squares):
        return squares
    if settings.choose == "uncertain" and nuclei is not None:
        doubt = _uncertainty(squares, nuclei, mask.shape, scale, least_score)
        squares = squares[np.argsort(-doubt, kind="stable")]
    share = _sums(mask, squares / np.tile(scale, 2)) * scale.prod() / side**2
    chosen = np.empty((0, 4), np.int64)
    for least in TISSUE_SHARES:
        chosen = _add_free(chosen, squares[share >= least], settings.regions)
    return chosen


def _narrow(mask: NDArray[np.bool_], margin: float) -> NDArray[np.bool_]:
    """Take off the margin, pixels, by which a mask was widened; all of it where nothing would be left."""
    from scipy import ndimage

    if margin < 0.5:
        return mask
    narrow = np.asarray(ndimage.distance_transform_edt(mask) > margin)
    return narrow if narrow.any() else mask


def _candidates(
    mask: NDArray[np.bool_],
    scale: NDArray[np.float64],
    bounds: tuple[int, int, int, int],
    side: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Squares around random points of the tissue, pushed inside the bounds, (N, 4)."""
    places = np.flatnonzero(mask)
    if not len(places) or side < 1:
        return np.empty((0, 4), np.int64)
    rows, cols = np.divmod(rng.choice(places, N_CANDIDATES), mask.shape[1])
    centres = (np.stack([cols, rows], axis=1) + rng.random((N_CANDIDATES, 2))) * scale
    low = np.array(bounds[:2])
    corners = np.clip(np.rint(centres - side / 2).astype(np.int64), low, low + bounds[2:] - side)
    return np.concatenate([corners, corners + side], axis=1)


def _add_free(chosen: NDArray[np.int64], squares: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Add the first squares that overlap none before them, until there are `n`."""
    left = squares
    for square in chosen:
        left = left[_apart(left, square)]
    while len(left) and len(chosen) < n:
        square = left[0]
        chosen = np.concatenate([chosen, square[None]])
        left = left[_apart(left, square)]
    return chosen


def _apart(squares: NDArray[np.int64], square: NDArray[np.int64]) -> NDArray[np.bool_]:
    right_or_below, left_or_above = squares[:, :2] >= square[2:], squares[:, 2:] <= square[:2]
    return np.asarray((right_or_below | left_or_above).any(axis=1))


def _uncertainty(
    squares: NDArray[np.int64],
    nuclei: pl.DataFrame,
    shape: tuple[int, int],
    scale: NDArray[np.float64],
    least_score: float,
) -> NDArray[np.float64]:
    """Uncertainty of each square, (N,); nuclei are counted on the grid of the mask."""
    boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float64)
    doubt = np.clip((1 - nuclei["score"].to_numpy().astype(np.float64)) / (1 - least_score), 0, 1)
    places = ((boxes[:, :2] + boxes[:, 2:]) / 2 / scale).astype(np.int64)
    cells = np.clip(places, 0, np.array(shape)[::-1] - 1) @ np.array([1, shape[1]])
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    doubts = np.bincount(cells, doubt, minlength=shape[0] * shape[1]).reshape(shape)
    inside = squares / np.tile(scale, 2)
    held = _sums(counts, inside)
    average = float(doubt.mean()) if len(doubt) else 0.0
    return np.asarray((_sums(doubts, inside) + average * held.mean()) / np.maximum(held + held.mean(), 1))


def _sums(image: NDArray[np.generic], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of an image over each box, (N,); pixels that a box holds in part count in part.

    The boxes are x0, y0, x1, y1 in pixels of the image. Over whole pixels the integral image is exact, and
    between them it is bilinear.
    """
    rows, cols = image.shape
    integral = np.zeros((rows + 1, cols + 1))
    np.cumsum(np.cumsum(image, axis=0, dtype=np.float64), axis=1, out=integral[1:, 1:])
    x0, y0, x1, y1 = np.clip(boxes, 0, [cols, rows, cols, rows]).T

    def at(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        col, row = np.minimum(x.astype(np.int64), cols - 1), np.minimum(y.astype(np.int64), rows - 1)
        right, down = x - col, y - row
        above = integral[row, col] * (1 - right) + integral[row, col + 1] * right
        below = integral[row + 1, col] * (1 - right) + integral[row + 1, col + 1] * right
        return np.asarray(above * (1 - down) + below * down)

    return at(x1, y1) - at(x0, y1) - at(x1, y0) + at(x0, y0)
