"""Twins: boxes of different tiles that are one nucleus, and which of them stays.

Boxes of different tiles are twins if

1. their IoU exceeds `nms_iou`, or
2. one of them is cut and lies in the other by more than `seam_ios` of its own area, or
3. they could be two estimates of one centre: the centres differ by less than twice the slack in x and y and
   each lies in the other box (of a cut box, it is enough that its own does), the IoU exceeds `TWIN_IOU`, and
   neither has a better partner among the other tile's boxes. This catches small nuclei, whose IoU falls below
   `nms_iou` when two estimates differ by a few pixels; the last condition keeps real neighbours apart that
   both tiles see.

Twins are resolved greedily: whole boxes in canonical order (see `nms`), then cut ones, the larger first; each
keeps its place unless a better twin did.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit
from ercohort.nms import Float32s, canonical_order, intersection, sortable

SLACK_PX = 3.0
"""How far a tile's estimate of a centre may be off, pixels at the detector's scale (1.5 µm at 0.5 µm/px).

Two estimates differ by less than twice this. Between windows a detector's edges move by one or two pixels.
"""

TWIN_IOU = np.float32(0.1)
"""Least IoU of two estimates of one nucleus: at 9 px, with every edge off by up to 2 px, it is 0.148."""

STRONG, WEAK = 2, 1  # twins by overlap (rules 1 and 2), twins by centre (rule 3)


def resolve(
    boxes: Float32s,
    score: Float32s,
    tile_id: NDArray[np.int32],
    cut: NDArray[np.bool_],
    *,
    scale: float,
    nms_iou: float,
    seam_ios: float,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Keep one of every set of twins.

    Parameters
    ----------
    boxes, score, tile_id, cut
        (N, 4), (N,), (N,), (N,) emitted boxes, level-0 pixels.
    scale, nms_iou, seam_ios
        See `seams.resolve_shard`.

    Returns
    -------
    kept
        (N,) bool.
    component
        (N,) index of one member of each box's component; a box without candidate twins is its own.
    """
    kept = np.ones(len(boxes), np.bool_)
    component = np.arange(len(boxes))
    pair, kind, iou = _candidate_pairs(boxes, tile_id, cut, 2 * SLACK_PX * scale, nms_iou, seam_ios)
    if len(pair) == 0:
        return kept, component
    nodes, local = np.unique(pair, return_inverse=True)
    local = local.reshape(pair.shape)
    order = _seam_order(boxes[nodes], score[nodes], tile_id[nodes], cut[nodes])
    rank = np.empty(len(nodes), np.int64)
    rank[order] = np.arange(len(nodes))
    twins = (kind == STRONG) | _best_partners(rank[local], tile_id[nodes][order], iou, kind == WEAK)
    better, worse = np.sort(rank[local[twins]], axis=1).T
    by_better = np.argsort(better, kind="stable")
    kept[nodes[order]] = _drop_worse(better[by_better], worse[by_better], len(nodes))
    component[nodes] = nodes[_components(local, len(nodes))]
    return kept, component


def _candidate_pairs(
    boxes: Float32s,
    tile_id: NDArray[np.int32],
    cut: NDArray[np.bool_],
    reach: float,
    nms_iou: float,
    seam_ios: float,
) -> tuple[NDArray[np.int64], NDArray[np.uint8], Float32s]:
    """Pairs of boxes of different tiles that may be twins: (M, 2) indices, rule, IoU.

    The plane is cut into strips about two boxes high. In each, boxes are sorted by x0 and compared with
    those that begin before they end: time grows with the pairs that overlap, whatever the sizes.
    """
    if len(boxes) == 0:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.uint8), np.zeros(0, np.float32)
    strip_height = max(2.0 * float((boxes[:, 3] - boxes[:, 1]).mean(dtype=np.float64)), 1.0)
    top = float(boxes[:, 1].min())
    first = ((boxes[:, 1] - top) / strip_height).astype(np.int64)
    count = ((boxes[:, 3] - top) / strip_height).astype(np.int64) - first + 1
    entry = np.repeat(np.arange(len(boxes), dtype=np.int32), count)
    strip = first[entry] + np.arange(len(entry)) - np.repeat(np.cumsum(count) - count, count)
    key = strip.astype(np.uint64) << np.uint64(32) | sortable(boxes[:, 0])[entry]
    order = np.argsort(key)
    entry, strip = entry[order], strip[order].astype(np.int32)
    return _sweep(
        boxes[entry], tile_id[entry], cut[entry], entry, strip, first.astype(np.int32),
        reach, np.float32(nms_iou), np.float32(seam_ios),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _sweep(boxes, tile_id, cut, entry, strip, first, reach, nms_iou, seam_ios):  # type: ignore[no-untyped-def]
    pair = np.empty((1024, 2), np.int64)
    kind = np.empty(1024, np.uint8)
    iou = np.empty(1024, np.float32)
    n = 0
    for i in range(len(entry)):
        end = boxes[i, 2]
        j = i + 1
        while j < len(entry) and strip[j] == strip[i] and boxes[j, 0] < end:
            # A pair is met in every strip that both boxes enter; the first of them counts.
            if tile_id[i] != tile_id[j] and strip[i] == max(first[entry[i]], first[entry[j]]):
                rule, overlap = _compare(boxes[i], boxes[j], cut[i], cut[j], reach, nms_iou, seam_ios)
                if rule > 0:
                    if n == len(kind):
                        pair = np.concatenate((pair, np.empty_like(pair)))
                        kind = np.concatenate((kind, np.empty_like(kind)))
                        iou = np.concatenate((iou, np.empty_like(iou)))
                    pair[n, 0], pair[n, 1] = entry[i], entry[j]
                    kind[n], iou[n] = rule, overlap
                    n += 1
            j += 1
    return pair[:n], kind[:n], iou[:n]


@njit(cache=True, nogil=True)
def _compare(a, b, a_cut, b_cut, reach, nms_iou, seam_ios):  # type: ignore[no-untyped-def]
    """Which rule may make two boxes twins (STRONG, WEAK or 0), and their IoU."""
    shared = intersection(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])
    if shared <= np.float32(0):
        return 0, np.float32(0)
    a_area = (a[2] - a[0]) * (a[3] - a[1])
    b_area = (b[2] - b[0]) * (b[3] - b[1])
    iou = shared / (a_area + b_area - shared)
    # The share is of the cut box's own area: a small whole nucleus beside a big cut one is no twin of it.
    if (
        iou > nms_iou
        or (a_cut and shared / a_area > seam_ios)
        or (b_cut and shared / b_area > seam_ios)
    ):  # fmt: skip
        return STRONG, iou
    ax, ay = 0.5 * (np.float64(a[0]) + a[2]), 0.5 * (np.float64(a[1]) + a[3])
    bx, by = 0.5 * (np.float64(b[0]) + b[2]), 0.5 * (np.float64(b[1]) + b[3])
    a_holds_b = a[0] <= bx <= a[2] and a[1] <= by <= a[3]
    b_holds_a = b[0] <= ax <= b[2] and b[1] <= ay <= b[3]
    if a_cut or b_cut:
        near = (a_cut and b_holds_a) or (b_cut and a_holds_b)
    else:
        near = a_holds_b and b_holds_a and abs(ax - bx) < reach and abs(ay - by) < reach
    return (WEAK if near and iou > TWIN_IOU else 0), iou


def _seam_order(
    boxes: Float32s, score: Float32s, tile_id: NDArray[np.int32], cut: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Rank whole boxes in canonical order, then cut ones, of which the larger shows more of its nucleus."""
    order = canonical_order(boxes, score, tile_id)
    area = (boxes[order, 2] - boxes[order, 0]) * (boxes[order, 3] - boxes[order, 1])
    return order[np.argsort(np.where(cut[order], -area, -np.inf), kind="stable")]


def _best_partners(
    pair: NDArray[np.int64], tile_id: NDArray[np.int32], iou: Float32s, weak: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which `weak` pairs are each other's best (IoU, then rank) among the two tiles' candidates.

    `pair` holds ranks, (M, 2); `tile_id` is by rank.
    """
    best = np.zeros(len(pair), np.bool_)
    if not weak.any():
        return best
    source = np.concatenate([pair[:, 0], pair[:, 1]])
    target = np.concatenate([pair[:, 1], pair[:, 0]])
    order = np.lexsort((target, -np.concatenate([iou, iou]), tile_id[target], source))
    new_group = np.ones(len(order), np.bool_)
    new_group[1:] = np.diff(source[order]) != 0
    new_group[1:] |= np.diff(tile_id[target[order]]) != 0
    leads = np.zeros(len(order), np.bool_)
    leads[order[new_group]] = True
    return weak & leads[: len(pair)] & leads[len(pair) :]


@njit(cache=True, nogil=True)
def _drop_worse(better, worse, n):  # type: ignore[no-untyped-def]
    """Greedy choice by rank; the pairs come in order of their better rank, so each is decided when met."""
    kept = np.ones(n, np.bool_)
    for a, b in zip(better, worse):  # noqa: B905  numba knows no `strict`
        if kept[a]:
            kept[b] = False
    return kept


@njit(cache=True, nogil=True)
def _components(pair, n):  # type: ignore[no-untyped-def]
    """Lowest member of each node's connected component."""
    root = np.arange(n)
    for i in range(len(pair)):
        a, b = pair[i, 0], pair[i, 1]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        root[max(a, b)] = min(a, b)
    for i in range(n):
        root[i] = root[root[i]]
    return root
