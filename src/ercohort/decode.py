"""From the raw output of a YOLO head to the nuclei of one tile."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ercohort.kernels import njit
from ercohort.nms import greedy_nms

Boxes = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def decode_tile(head: npt.NDArray[np.float32], *, tile_px: int, score: float, nms_iou: float) -> Boxes:
    """Return what the network sees in one tile: every anchor above the threshold, less its duplicates.

    One best class per anchor, then NMS regardless of class: NMS within classes would leave a positive and a
    negative box on one nucleus. There is no cap on the number of boxes.

    Parameters
    ----------
    head
        (4 + classes, anchors) float32: centre x, centre y, width, height in pixels of the tile, then one
        probability per class (the head of YOLOv8 as Ultralytics exports it).
    tile_px
        Side of the tile, pixels; boxes are clipped to it.
    score
        An anchor counts if its best class has more than this.
    nms_iou
        Of two boxes that overlap more than this, the better one stays.

    Returns
    -------
    boxes
        (N, 4) float32: x0, y0, x1, y1, pixels of the tile.
    scores
        (N,) float32, descending.
    labels
        (N,) uint8, the best class; the first of equals.
    """
    return decode_and_count(head, tile_px=tile_px, score=score, nms_iou=nms_iou)[0]


def decode_and_count(
    head: npt.NDArray[np.float32], *, tile_px: int, score: float, nms_iou: float
) -> tuple[Boxes, int]:
    """Return what `decode_tile` returns, and how many anchors hold numbers that are no nucleus.

    Those are dropped: no finite class, a size or place that is not finite, a box above the threshold that
    has no area or lies outside the tile. A sound network gives none.
    """
    boxes, scores, labels, n_dropped = _above(head, np.float32(tile_px), np.float32(score))
    kept = greedy_nms(boxes, scores, nms_iou)
    return (boxes[kept], scores[kept], labels[kept]), n_dropped


@njit(cache=True, nogil=True)
def _above(
    head: npt.NDArray[np.float32], side: np.float32, threshold: np.float32
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint8], int]:
    """Boxes of all anchors above the threshold, clipped; those that are no nucleus are only counted."""
    rows, anchors = head.shape
    boxes = np.empty((anchors, 4), np.float32)
    scores = np.empty(anchors, np.float32)
    labels = np.empty(anchors, np.uint8)
    zero = np.float32(0.0)
    half = np.float32(0.5)
    n = n_dropped = 0
    for anchor in range(anchors):
        best = np.float32(-np.inf)
        label = 0
        for row in range(4, rows):
            if head[row, anchor] > best:
                best = head[row, anchor]
                label = row - 4
        if not math.isfinite(best):  # minus infinity: no class was a number
            n_dropped += 1
            continue
        if best <= threshold:
            continue
        if not math.isfinite(head[2, anchor] + head[3, anchor]):
            n_dropped += 1
            continue  # clipping would make a box as large as the tile of it
        half_width = head[2, anchor] * half
        half_height = head[3, anchor] * half
        x0 = max(head[0, anchor] - half_width, zero)
        y0 = max(head[1, anchor] - half_height, zero)
        x1 = min(head[0, anchor] + half_width, side)
        y1 = min(head[1, anchor] + half_height, side)
        if not (x1 > x0 and y1 > y0):
            n_dropped += 1
            continue
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = x0, y0, x1, y1
        scores[n] = best
        labels[n] = label
        n += 1
    return boxes[:n].copy(), scores[:n].copy(), labels[:n].copy(), n_dropped
