"""Average precision of boxes, as COCO defines it, for truth that was drawn as boxes or outlines.

Unlike COCO there is no cap on the number of detections: a tile can hold thousands of nuclei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.annotated import AnnotatedSlide
from ercohort.points import IGNORED, inside

IOUS = np.linspace(0.5, 0.95, 10)
"""Thresholds of mAP50-95; the first is that of mAP50."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read off."""


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of each class, and its mean.

    Parameters
    ----------
    n_slides, n_boxes
        Slides whose truth has boxes, and the boxes.
    lowest_score
        The least sure detection: the figures are those of all detections above, and grow as it falls.
    by_class
        AP at each of `IOUS`, of the classes that have boxes in the truth.
    """

    n_slides: int
    n_boxes: int
    lowest_score: float | None
    by_class: dict[str, tuple[float, ...]]

    @property
    def map50(self) -> float:
        """Mean over classes at IoU 0.5."""
        return float(np.mean([values[0] for values in self.by_class.values()]))

    @property
    def map50_95(self) -> float:
        """Mean over classes and over the IoU thresholds 0.5, 0.55, ... 0.95."""
        return float(np.mean([np.mean(values) for values in self.by_class.values()]))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        return {
            "n_slides": self.n_slides,
            "n_boxes": self.n_boxes,
            "lowest_score": self.lowest_score,
            "map50": self.map50,
            "map50_95": self.map50_95,
            "by_class": {
                label: {"ap50": values[0], "ap50_95": float(np.mean(values))}
                for label, values in self.by_class.items()
            },
        }


@dataclass(frozen=True)
class _Hits:
    """Detections of one class on one slide: scores (N,), hits and excused (10, N); boxes in the truth."""

    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    excused: NDArray[np.bool_]
    n_truth: int


def average_precision(slides: Sequence[AnnotatedSlide], labels: Sequence[str]) -> AveragePrecision | None:
    """Average precision over all slides that have boxes on both sides; None if none has.

    A detection is right if it has its class's most overlapping box that no surer detection took, by at
    least the IoU threshold. One that is not, but holds the centre of an ignored nucleus or of one that was
    annotated as a point, counts nowhere. Detections and boxes count if their centre lies in the region.

    References
    ----------
    Lin et al., Microsoft COCO, ECCV 2014, and its reference evaluation: 101 recalls, precision made
    monotonic, thresholds 0.50:0.05:0.95.
    """
    usable = [slide for slide in slides if slide.pred.boxes is not None and _has_boxes(slide)]
    by_class = {}
    n_boxes = 0
    for label in labels:
        found = [_hits(slide, label) for slide in usable]
        n_truth = sum(one.n_truth for one in found)
        n_boxes += n_truth
        if n_truth:
            by_class[label] = _of_class(found, n_truth)
    if not by_class:
        return None
    scores = [float(slide.pred.score.min()) for slide in usable if len(slide.pred)]
    return AveragePrecision(len(usable), n_boxes, min(scores, default=None), by_class)


def _has_boxes(slide: AnnotatedSlide) -> bool:
    boxes = slide.truth.boxes
    return boxes is not None and bool(np.isfinite(boxes[slide.truth.label != IGNORED]).any())


def _of_class(found: Sequence[_Hits], n_truth: int) -> tuple[float, ...]:
    score = np.concatenate([one.score for one in found])
    order = np.argsort(-score, kind="stable")
    hit = np.concatenate([one.hit for one in found], axis=1)[:, order]
    excused = np.concatenate([one.excused for one in found], axis=1)[:, order]
    return tuple(
        interpolated_precision(own[~excuse], n_truth) for own, excuse in zip(hit, excused, strict=True)
    )


def interpolated_precision(hit: NDArray[np.bool_], n_truth: int) -> float:
    """Mean of the precision at recall 0, 0.01, ... 1, where each is the best at that recall or above.

    Parameters
    ----------
    hit
        (N,) whether a detection is right, surest first.
    n_truth
        Annotated nuclei, more than 0.
    """
    if not len(hit):
        return 0.0
    right = np.cumsum(hit)
    recall = right / n_truth
    precision = np.maximum.accumulate((right / np.arange(1, len(hit) + 1))[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[place].mean())


def _hits(slide: AnnotatedSlide, label: str) -> _Hits:
    pred, truth = slide.pred, slide.truth
    assert pred.boxes is not None
    assert truth.boxes is not None
    mine, own = pred.label == label, truth.label == label
    if slide.roi is not None:
        mine, own = mine & inside(pred.xy, slide.roi), own & inside(truth.xy, slide.roi)
    own &= np.isfinite(truth.boxes).all(axis=1)
    points = (truth.label == IGNORED) | ~np.isfinite(truth.boxes).all(axis=1)
    order = np.flatnonzero(mine)
    order = order[np.argsort(-pred.score[order], kind="stable")]
    boxes = pred.boxes[order]
    hit = match_boxes(boxes, truth.boxes[own], IOUS)
    excused = ~hit & _hold_a_point(boxes, truth.xy[points])
    return _Hits(pred.score[order], hit, excused, int(np.count_nonzero(own)))


def match_boxes(
    pred: NDArray[np.float64], truth: NDArray[np.float64], ious: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Say which detections are right at each threshold.

    Parameters
    ----------
    pred
        (N, 4) boxes x0, y0, x1, y1, surest first.
    truth
        (M, 4) boxes.
    ious
        (T,) least overlaps, inclusive.

    Returns
    -------
    (T, N) booleans.
    """
    i, j, iou = _overlaps(pred, truth, float(ious.min()))
    return np.stack([_take(i[iou >= least], j[iou >= least], len(pred), len(truth)) for least in ious])


def _overlaps(
    pred: NDArray[np.float64], truth: NDArray[np.float64], least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return all pairs with at least this IoU: by detection, then the most overlapping first."""
    from shapely import STRtree, box

    i, j = STRtree(box(*truth.T)).query(box(*pred.T)) if len(truth) and len(pred) else np.empty((2, 0), int)
    one, other = pred[i], truth[j]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    both = np.maximum(sides, 0).prod(axis=1)
    union = _area(one) + _area(other) - both
    iou = np.divide(both, union, out=np.zeros(len(both)), where=union > 0)
    order = np.lexsort((j, -iou, i))
    order = order[iou[order] >= least]
    return i[order], j[order], iou[order]


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _take(i: NDArray[np.int64], j: NDArray[np.int64], n_pred: int, n_truth: int) -> NDArray[np.bool_]:
    """Give every detection, surest first, its most overlapping box that is still free; (n_pred,)."""
    hit = np.zeros(n_pred, dtype=bool)
    contested = (np.bincount(i, minlength=n_pred)[i] > 1) | (np.bincount(j, minlength=n_truth)[j] > 1)
    hit[i[~contested]] = True
    taken: set[int] = set()
    for one, other in zip(i[contested].tolist(), j[contested].tolist(), strict=True):
        if not hit[one] and other not in taken:
            hit[one] = True
            taken.add(other)
    return hit


def _hold_a_point(boxes: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which boxes hold at least one of the points."""
    from shapely import STRtree, box, points

    result = np.zeros(len(boxes), dtype=bool)
    if len(boxes) and len(xy):
        result[STRtree(points(xy)).query(box(*boxes.T), predicate="intersects")[0]] = True
    return result
