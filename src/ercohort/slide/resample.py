"""Resampling with sub-pixel exactness.

Output pixel i covers the source interval [start + i * step, start + (i + 1) * step). When shrinking, its
value is the mean over that interval (parts of pixels count by their part); when enlarging, it is linear
interpolation at the interval's centre. At step 1 both are the same, at step 2 it is the mean of 2 x 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def resample(
    source: NDArray[np.uint8],
    start: tuple[float, float],
    step: tuple[float, float],
    out: NDArray[np.uint8],
) -> None:
    """Fill `out` from `source`.

    Parameters
    ----------
    source
        (rows, cols, 3), C-contiguous. It must hold every pixel that the output covers; what lies past its
        edge is taken from its edge.
    start
        x and y in source pixels of the upper left corner of the output.
    step
        Source pixels per output pixel, x and y.
    out
        (rows, cols, 3).
    """
    columns = _weights(start[0], step[0], out.shape[1], source.shape[1])
    rows = _weights(start[1], step[1], out.shape[0], source.shape[0])
    lines = source.reshape(source.shape[0], -1)
    lines.flags.writeable = (
        False  # one compiled version for the readers' buffers, some of which are read-only
    )
    _apply(lines, *rows, *columns, out)


def _weights(start: float, step: float, n: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return source indices and weights, both (n, taps), of the n output pixels along one axis."""
    if step >= 1:
        edges = start + step * np.arange(n + 1)
        first = np.floor(edges[:-1]).astype(np.int64)
        index = first[:, None] + np.arange(int(np.ceil(step)) + 1)
        overlap = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
        weight = np.clip(overlap, 0, None) / step
    else:
        centre = start + step * (np.arange(n) + 0.5) - 0.5
        first = np.floor(centre).astype(np.int64)
        index = first[:, None] + np.arange(2)
        weight = np.stack([1 - (centre - first), centre - first], axis=1)
    weight[weight < 1e-6] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, size - 1).astype(np.int32), weight.astype(np.float32)


@njit(cache=True, nogil=True)
def _apply(source, row_index, row_weight, col_index, col_weight, out):  # type: ignore[no-untyped-def]
    width = source.shape[1]
    line = np.empty(width, np.float32)
    for i in range(out.shape[0]):
        line[:] = np.float32(0)
        for tap in range(row_weight.shape[1]):
            weight = row_weight[i, tap]
            if weight > 0:
                row = source[row_index[i, tap]]
                for k in range(width):
                    line[k] += weight * np.float32(row[k])
        for j in range(out.shape[1]):
            red = np.float32(0.5)
            green = np.float32(0.5)
            blue = np.float32(0.5)
            for tap in range(col_weight.shape[1]):
                weight = col_weight[j, tap]
                k = col_index[j, tap] * 3
                red += weight * line[k]
                green += weight * line[k + 1]
                blue += weight * line[k + 2]
            out[i, j, 0] = np.uint8(min(red, np.float32(255)))
            out[i, j, 1] = np.uint8(min(green, np.float32(255)))
            out[i, j, 2] = np.uint8(min(blue, np.float32(255)))
