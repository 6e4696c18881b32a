"""Detections of one slide paired with its annotations, and counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ercohort.confusion import Confusion
from ercohort.matching import Matches, Method, match_points
from ercohort.points import IGNORED, ROI, inside
from ercohort.schema import LABELS


def evaluate_points(
    pred_xy: ArrayLike,
    pred_label: ArrayLike,
    pred_score: ArrayLike,
    truth_xy: ArrayLike,
    truth_label: ArrayLike,
    radius_px: float,
    *,
    method: Method = "hungarian",
    roi: ROI | None = None,
    labels: tuple[str, ...] = LABELS,
) -> tuple[Confusion, Matches]:
    """Compare the detections of one slide with its annotations.

    Parameters
    ----------
    pred_xy, truth_xy
        (N, 2) and (M, 2) centres, pixels.
    pred_label, truth_label
        (N,) and (M,) classes of `labels`, or `Ignored`. Detections that pair with an ignored point, after
        all other points took theirs, and detections labelled so, count nowhere.
    pred_score
        (N,) scores; of two detections equally near, the greedy method takes the surer one.
    radius_px
        Greatest distance of a pair, inclusive, pixels.
    roi
        Region, see `points.inside`: only points and detections whose centre lies in it count.
    labels
        All classes, in the order of the counts.

    Returns
    -------
    The counts, and the pairs as indices into the arrays that were given.

    Raises
    ------
    InputError
        A coordinate is not finite, the radius is not above 0, or the method is unknown.
    ValueError
        A class is none of `labels`.
    """
    p_xy, p_label = _points(pred_xy), np.asarray(pred_label, dtype=np.str_)
    t_xy, t_label = _points(truth_xy), np.asarray(truth_label, dtype=np.str_)
    # Surest first: the greedy method then settles ties by score.
    pred = np.argsort(-np.asarray(pred_score, dtype=np.float64), kind="stable")
    pred = pred[(p_label[pred] != IGNORED) & _counts(p_xy[pred], roi)]
    truth_in = _counts(t_xy, roi)
    truth = np.flatnonzero((t_label != IGNORED) & truth_in)
    ignored = np.flatnonzero((t_label == IGNORED) & truth_in)

    pairs = match_points(p_xy[pred], t_xy[truth], radius_px, method)
    of_pred, of_truth = pred[pairs.pred], truth[pairs.truth]
    left = np.delete(pred, pairs.pred)
    on_ignored = match_points(p_xy[left], t_xy[ignored], radius_px, method)
    matched = [_tally(p_label[of_pred[t_label[of_truth] == label]], labels) for label in labels]
    confusion = Confusion(
        matched=np.array(matched),
        missed=_tally(t_label[np.delete(truth, pairs.truth)], labels),
        spurious=_tally(p_label[np.delete(left, on_ignored.pred)], labels),
        ignored=len(on_ignored),
        labels=labels,
    )
    if sum(confusion.n_truth.values()) != len(truth):
        raise ValueError(f"an annotated nucleus is of none of the classes {labels}")
    return confusion, Matches(of_pred, of_truth, pairs.distance)


def _points(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1, 2)


def _counts(xy: NDArray[np.float64], roi: ROI | None) -> NDArray[np.bool_]:
    return np.ones(len(xy), dtype=bool) if roi is None else inside(xy, roi)


def _tally(own: NDArray[np.str_], labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Count each class, in the order of `labels`."""
    return np.array([np.count_nonzero(own == label) for label in labels], dtype=np.int64)
