"""Resampling with sub-pixel exactness.

Output pixel i covers the source interval [start + i * step, start + (i + 1) * step). When shrinking, its
value is the mean over that interval (parts of pixels count by their part); when enlarging, it is linear
interpolation at the interval's centre. At step 1 both are the same, at step 2 it is the mean of 2 x 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit


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
    lines, pixels = source.reshape(source.shape[0], -1), out.reshape(out.shape[0], -1, copy=False)
    lines.flags.writeable = (
        False  # one compiled version for the readers' buffers, some of which are read-only
    )
    if step == (2.0, 2.0) and _is_inside(source, start, out):
        _halve(lines, int(start[0]), int(start[1]), pixels)
        return
    column, share = _weights(start[0], step[0], out.shape[1], source.shape[1])
    rows = _weights(start[1], step[1], out.shape[0], source.shape[0])
    _apply(lines, *rows, 3 * column, share, pixels)


def _is_inside(source: NDArray[np.uint8], start: tuple[float, float], out: NDArray[np.uint8]) -> bool:
    """Whether the output is made of whole 2 x 2 pixels of the source."""
    (x, y), (rows, cols) = start, out.shape[:2]
    whole = float(x).is_integer() and float(y).is_integer() and x >= 0 and y >= 0
    return whole and x + 2 * cols <= source.shape[1] and y + 2 * rows <= source.shape[0]


def _weights(start: float, step: float, n: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return source indices and weights, both (n, taps), of the n output pixels along one axis.

    There are three taps or more.
    """
    if step >= 1:
        edges = start + step * np.arange(n + 1)
        first = np.floor(edges[:-1]).astype(np.int64)
        index = first[:, None] + np.arange(max(3, int(np.ceil(step)) + 1))
        overlap = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
        weight = np.clip(overlap, 0, None) / step
    else:
        centre = start + step * (np.arange(n) + 0.5) - 0.5
        first = np.floor(centre).astype(np.int64)
        index = first[:, None] + np.arange(3)
        weight = np.stack([1 - (centre - first), centre - first, np.zeros(n)], axis=1)
    weight[weight < 1e-6] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, size - 1).astype(np.int32), weight.astype(np.float32)


@njit(cache=True, nogil=True)
def _halve(source, x, y, out):  # type: ignore[no-untyped-def]
    """Give the means of 2 x 2 pixels, as `_apply` does at step 2, in a third of its time."""
    n = out.shape[1]
    line = np.empty(2 * n, np.uint16)
    for i in range(out.shape[0]):
        upper = source[y + 2 * i, 3 * x : 3 * x + 2 * n]
        lower = source[y + 2 * i + 1, 3 * x : 3 * x + 2 * n]
        for k in range(2 * n):
            line[k] = np.uint16(upper[k]) + np.uint16(lower[k])
        for j in range(n // 3):
            for c in range(3):
                four = np.uint32(line[6 * j + c]) + np.uint32(line[6 * j + 3 + c])
                out[i, 3 * j + c] = np.uint8((four + np.uint32(2)) >> np.uint32(2))


@njit(cache=True, nogil=True)
def _apply(source, row_index, row_weight, place, weight, out):  # type: ignore[no-untyped-def]
    """Resample; rows first. `place` and `weight` are of the columns, `place` counted in bytes of a row."""
    width, n = source.shape[1], out.shape[1]
    line = np.empty(width, np.float32)
    narrow = np.empty(n, np.float32)
    for i in range(out.shape[0]):
        line[:] = np.float32(0)
        for tap in range(row_weight.shape[1]):
            share = row_weight[i, tap]
            if share > 0:
                row = source[row_index[i, tap]]
                for k in range(width):
                    line[k] += share * np.float32(row[k])
        if weight.shape[1] == 3:
            _across_three(line, place, weight, narrow)
        else:
            _across(line, place, weight, narrow)
        for k in range(n):
            out[i, k] = np.uint8(min(narrow[k], np.float32(255)))


@njit(cache=True, nogil=True)
def _across(line, place, weight, out):  # type: ignore[no-untyped-def]
    for j in range(len(weight)):
        red = green = blue = np.float32(0.5)
        for tap in range(weight.shape[1]):
            share = weight[j, tap]
            k = place[j, tap]
            red += share * line[k]
            green += share * line[k + 1]
            blue += share * line[k + 2]
        out[3 * j], out[3 * j + 1], out[3 * j + 2] = red, green, blue


@njit(cache=True, nogil=True)
def _across_three(line, place, weight, out):  # type: ignore[no-untyped-def]
    """Do the same without the inner loop; up to half the scale nearly all the time went there."""
    half = np.float32(0.5)
    for j in range(len(weight)):
        p, q, r = np.uint32(place[j, 0]), np.uint32(place[j, 1]), np.uint32(place[j, 2])
        a, b, c = weight[j, 0], weight[j, 1], weight[j, 2]
        out[3 * j] = half + a * line[p] + b * line[q] + c * line[r]
        out[3 * j + 1] = half + a * line[p + 1] + b * line[q + 1] + c * line[r + 1]
        out[3 * j + 2] = half + a * line[p + 2] + b * line[q + 2] + c * line[r + 2]
