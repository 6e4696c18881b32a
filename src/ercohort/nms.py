"""Greedy class-agnostic non-maximum suppression, and the one order in which boxes are looked at.

The order is by score, descending, then y0, then x0, then the tile, then y1 and x1, on the stored float32
values, so every backend, thread count and layout of shards agrees. IoU is computed in float32, each
operation rounded once: a kernel on another device can agree to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit

Float32s = NDArray[np.float32]

BASE_CELL = 8.0
"""Side of the finest grid cell, pixels; boxes are gridded by size class, each class twice the one before."""


def greedy_nms(boxes: Float32s, score: Float32s, iou: float) -> NDArray[np.int64]:
    """Drop every box that overlaps a better one by more than `iou`; any number of boxes, no cap.

    Parameters
    ----------
    boxes
        (N, 4) x0, y0, x1, y1.
    score
        (N,)
    iou
        Intersection over union, 0 <= iou < 1, above which two boxes are the same nucleus.

    Returns
    -------
    (K,) indices of the kept boxes, in canonical order.

    Raises
    ------
    ValueError
        A coordinate or score is not finite.
    """
    boxes = np.ascontiguousarray(boxes, np.float32)
    score = np.ascontiguousarray(score, np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(score).all()):
        raise ValueError("boxes and scores must be finite numbers; the detector gave NaN or infinity")
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    order = canonical_order(boxes, score)
    return order[_greedy(boxes[order], np.float32(iou))]


def canonical_order(
    boxes: Float32s, score: Float32s, tile_id: NDArray[np.int32] | None = None
) -> NDArray[np.int64]:
    """Rank the boxes from best to worst: score descending, y0, x0, tile, y1, x1, index."""
    ties: list[NDArray[np.generic]] = [boxes[:, 0], boxes[:, 3], boxes[:, 2]]
    if tile_id is not None:
        ties.insert(1, tile_id)
    return order_by(~sortable(score), sortable(boxes[:, 1]), *ties)


def order_by(
    first: NDArray[np.uint32], second: NDArray[np.uint32], *ties: NDArray[np.generic]
) -> NDArray[np.int64]:
    """Find the indices that sort by `first`, then `second`, then each of `ties`, then the index.

    One sort of 64-bit keys, and a slower one of the few rows whose keys are equal: about six times as
    fast as `numpy.lexsort` over all columns.
    """
    key = first.astype(np.uint64) << np.uint64(32) | second
    order = np.argsort(key)
    key = key[order]
    equal = key[1:] == key[:-1]
    if equal.any():
        tied = np.zeros(len(key), np.bool_)
        tied[1:] = equal
        tied[:-1] |= equal
        rows = order[tied]
        order[tied] = rows[np.lexsort((rows, *(column[rows] for column in reversed(ties)), key[tied]))]
    return order


def sortable(values: Float32s) -> NDArray[np.uint32]:
    """Unsigned integers in the order of the float32 `values` (no NaN); the two zeros are equal."""
    # Adding zero turns -0.0 into 0.0, which compare equal but differ in bits.
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(0x80000000))


@njit(cache=True, nogil=True, inline="always")
def intersection(ax0, ay0, ax1, ay1, bx0, by0, bx1, by1):  # type: ignore[no-untyped-def]
    """Area that two boxes share, float32, 0 where they only touch."""
    width = min(ax1, bx1) - max(ax0, bx0)
    height = min(ay1, by1) - max(ay0, by0)
    if width <= np.float32(0) or height <= np.float32(0):
        return np.float32(0)
    return width * height


@njit(cache=True, nogil=True)
def _greedy(boxes, iou):  # type: ignore[no-untyped-def]
    """Kept rows of `boxes`, which are in order.

    Kept boxes are listed by size class and by the cell that holds their centre. IoU > t needs the larger
    sides to be within a factor of t, so a box is compared with few size classes, in each with the cells that
    the centre of a touching box can lie in: no pair is missed, and large boxes cost the small ones nothing.
    """
    n = boxes.shape[0]
    x, y = np.float64(boxes[:, 0].min()), np.float64(boxes[:, 1].min())
    width, height = boxes[:, 2].max() - x, boxes[:, 3].max() - y
    base = BASE_CELL
    while (width / base + 1) * (height / base + 1) > 4 * n + 8192:
        base *= 2
    size_class = np.empty(n, np.int64)
    for i in range(n):
        size_class[i] = _size_class(_side(boxes[i]), base)
    n_classes = size_class.max() + 1
    start = np.zeros(n_classes + 1, np.int64)
    columns = np.empty(n_classes, np.int64)
    for k in range(n_classes):
        cell = base * 2.0**k
        columns[k] = int(width / cell) + 1
        start[k + 1] = start[k] + columns[k] * (int(height / cell) + 1)
    head = np.full(start[n_classes], -1, np.int32)
    following = np.empty(n, np.int32)
    kept = np.empty(n, np.int64)
    n_kept = 0
    for i in range(n):
        k = size_class[i]
        cell = base * 2.0**k
        row = int((_middle(boxes[i, 1], boxes[i, 3]) - y) / cell)
        place = start[k] + row * columns[k] + int((_middle(boxes[i, 0], boxes[i, 2]) - x) / cell)
        # Its own cell first: most boxes of a nucleus fall to one whose centre lies beside theirs.
        if _is_clear(boxes, i, iou, head[place], following) and _is_free(
            boxes, i, iou, x, y, base, columns, start, head, following
        ):
            following[i] = head[place]
            head[place] = i
            kept[n_kept] = i
            n_kept += 1
    return kept[:n_kept]


@njit(cache=True, nogil=True)
def _is_free(boxes, i, iou, x, y, base, columns, start, head, following):  # type: ignore[no-untyped-def]
    """Whether no kept box overlaps box i too much."""
    x0, y0, x1, y1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
    share = 0.999 * iou  # a little less, for the rounding of the float32 IoU
    side = _side(boxes[i])
    lowest = min(_size_class(side * share, base), len(columns) - 1)
    highest = len(columns) - 1
    if share > 1e-3:
        highest = min(highest, _size_class(side / share, base))
    for k in range(lowest, highest + 1):
        cell = base * 2.0**k
        n_rows = (start[k + 1] - start[k]) // columns[k]
        # IoU > t needs more than a share t of the width and of the height in common, and a box of this class
        # reaches from its centre by half a cell at most.
        reach_x, reach_y = 0.5 * cell - share * (x1 - x0), 0.5 * cell - share * (y1 - y0)
        left, right = x0 - x - reach_x, x1 - x + reach_x
        top, bottom = y0 - y - reach_y, y1 - y + reach_y
        for row in range(max(int(top / cell), 0), min(int(bottom / cell), n_rows - 1) + 1):
            for column in range(max(int(left / cell), 0), min(int(right / cell), columns[k] - 1) + 1):
                if not _is_clear(boxes, i, iou, head[start[k] + row * columns[k] + column], following):
                    return False
    return True


@njit(cache=True, nogil=True)
def _is_clear(boxes, i, iou, j, following):  # type: ignore[no-untyped-def]
    """Whether box i overlaps none of a cell's boxes, j and those that follow it, too much."""
    x0, y0, x1, y1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
    area = (x1 - x0) * (y1 - y0)
    while j >= 0:
        bx0, by0, bx1, by1 = boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3]
        shared = intersection(x0, y0, x1, y1, bx0, by0, bx1, by1)
        if shared > np.float32(0):
            union = area + (bx1 - bx0) * (by1 - by0) - shared
            if shared / union > iou:
                return False
        j = following[j]
    return True


@njit(cache=True, nogil=True)
def _size_class(side, base):  # type: ignore[no-untyped-def]
    """Least k such that a box of this side is no larger than a cell of base * 2^k."""
    k = 0
    while base < side:
        base *= 2.0
        k += 1
    return k


@njit(cache=True, nogil=True)
def _side(box):  # type: ignore[no-untyped-def]
    return max(np.float64(box[2]) - box[0], np.float64(box[3]) - box[1])


@njit(cache=True, nogil=True)
def _middle(low, high):  # type: ignore[no-untyped-def]
    return 0.5 * (np.float64(low) + np.float64(high))
