"""Squares of some pixels of a picture or mask: their sums, and back to pixels. The last may be cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def square_px(scale_um: float, side_um: float) -> int:
    """Return the side of a square of `side_um` in pixels of `scale_um`, at least 1."""
    return max(1, round(side_um / scale_um))


def square_sums(values: NDArray[Any], side: int) -> NDArray[np.int64]:
    """Add up a mask or a picture (rows, cols) in each square of `side` pixels."""
    rows = np.add.reduceat(values, range(0, values.shape[0], side), axis=0, dtype=np.int64)
    return np.asarray(np.add.reduceat(rows, range(0, values.shape[1], side), axis=1))


def square_areas(shape: tuple[int, ...], side: int) -> NDArray[np.int64]:
    """Return the pixels of each of these squares."""
    high, wide = (np.diff([*range(0, size, side), size]) for size in shape[:2])
    return np.asarray(high[:, None] * wide[None, :])


def squares_to_pixels(squares: NDArray[np.bool_], side: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of these squares, cut to (rows, cols)."""
    return np.repeat(np.repeat(squares, side, axis=0), side, axis=1)[: shape[0], : shape[1]]
