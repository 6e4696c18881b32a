"""Average precision of boxes: known answers, and the rules about ignored nuclei, points and regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort.annotated import AnnotatedSlide
from ercohort.average_precision import IOUS, average_precision, interpolated_precision, match_boxes
from ercohort.points import IGNORED, Points

P, N = LABELS = ("Positive", "Negative")


def box(x: float, y: float = 0.0, side: float = 10.0) -> tuple[float, float, float, float]:
    return x, y, x + side, y + side


def points(rows, scores=None) -> Points:
    """Make points of (box, label)."""
    boxes = np.array([own for own, _ in rows], dtype=np.float64).reshape(-1, 4)
    label = np.array([own for _, own in rows], dtype=np.str_)
    score = np.ones(len(rows)) if scores is None else np.array(scores)
    return Points((boxes[:, :2] + boxes[:, 2:]) / 2, label, score, boxes)


def slide(pred, scores, truth, roi=None) -> AnnotatedSlide:
    return AnnotatedSlide("a", points(pred, scores), points(truth), roi, 0.5, "slide.json")


def test_precision_is_read_at_101_recalls_from_the_best_to_come():
    # Right, wrong, right, right of 4: precision 1, 1/2, 2/3, 3/4 at recall 1/4, 1/4, 1/2, 3/4.
    # Recalls 0 to 0.25 read 1 (26 of them), 0.26 to 0.75 read 3/4 (50), the rest 0.
    hit = np.array([True, False, True, True])
    assert interpolated_precision(hit, 4) == pytest.approx((26 + 50 * 0.75) / 101, abs=1e-12)
    assert interpolated_precision(np.array([], dtype=bool), 3) == 0.0
    assert interpolated_precision(np.array([True, True]), 2) == 1.0


def test_a_small_slide_by_hand():
    truth = [(box(0), P), (box(100), P), (box(200), N)]
    # Shifted by 2 of 10 px the IoU is 8/12: right up to the threshold 0.65.
    pred = [(box(0), P), (box(102), P), (box(300), P), (box(200), P)]
    found = average_precision([slide(pred, [0.9, 0.8, 0.7, 0.6], truth)], LABELS)
    assert found is not None
    by_iou = found.by_class[P]
    assert by_iou[:4] == (1.0,) * 4
    assert by_iou[4:] == pytest.approx([51 / 101] * 6)
    assert found.by_class[N] == (0.0,) * 10
    assert found.map50 == 0.5
    assert found.map50_95 == pytest.approx((4 + 6 * 51 / 101) / 20)
    assert (found.n_slides, found.n_boxes, found.lowest_score) == (1, 3, 0.6)


def test_a_box_goes_to_the_surest_detection_and_the_next_takes_what_is_left():
    truth = np.array([box(0), box(4)])
    # Both lie best on the first box; the second still has the other one above 0.4.
    pred = np.array([box(0.5), box(1)])
    assert match_boxes(pred, truth, np.array([0.4, 0.6, 0.95])).tolist() == [
        [True, True],
        [True, False],
        [False, False],
    ]


def test_of_two_boxes_a_detection_takes_the_more_overlapping_one():
    # Were the first to take the box at 3, the second would find none.
    truth, pred = np.array([box(0), box(3)]), np.array([box(1), box(4)])
    assert match_boxes(pred, truth, np.array([0.5])).tolist() == [[True, True]]
    assert match_boxes(pred, truth[::-1], np.array([0.5])).tolist() == [[True, True]]


def test_an_iou_of_exactly_the_threshold_is_right():
    truth, pred = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 5]])
    assert match_boxes(pred, truth, np.array([0.5])).tolist() == [[True]]
    assert match_boxes(pred, truth, np.array([0.5001])).tolist() == [[False]]


def test_detections_on_ignored_nuclei_and_on_points_count_nowhere():
    boxes = [(box(0), P), (box(50), IGNORED), ((np.nan,) * 4, P)]
    truth = points(boxes)
    truth.xy[2] = (105, 5)
    pred = points([(box(0), P), (box(51), P), (box(100), P)], [0.5, 0.9, 0.8])
    one = AnnotatedSlide("a", pred, truth, None, 0.5, "slide.json")
    found = average_precision([one], LABELS)
    assert found is not None
    assert (found.n_boxes, found.map50) == (1, 1.0)


def test_only_what_lies_in_the_regions_counts():
    roi = np.array([[0.0, 0, 50, 50]])
    truth, pred = [(box(0), P), (box(60), P)], [(box(60), P), (box(0), P), (box(80), P)]
    found = average_precision([slide(pred, [0.9, 0.8, 0.7], truth, roi)], LABELS)
    assert found is not None
    assert (found.n_boxes, found.map50_95) == (1, 1.0)


def test_slides_are_ranked_together_and_points_alone_have_no_average_precision():
    sure = slide([(box(0), P)], [0.9], [(box(50), P)])
    right = slide([(box(0), P)], [0.8], [(box(0), P)])
    found = average_precision([right, sure], LABELS)
    assert found is not None
    # The surest is wrong: precision 1/2 at recall 1/2.
    assert found.map50 == pytest.approx(0.5 * 51 / 101)
    alone = Points(np.zeros((1, 2)), np.array([P]), np.ones(1))
    assert average_precision([AnnotatedSlide("a", right.pred, alone, None, 0.5, "")], LABELS) is None
    assert average_precision([], LABELS) is None


corners = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(6, 14)), max_size=10)


@given(corners, corners)
def test_no_box_is_taken_twice_and_the_shortcut_changes_nothing(pred, truth):
    one, other = (np.array([box(*own) for own in rows], float).reshape(-1, 4) for rows in (pred, truth))
    hits = match_boxes(one, other, IOUS)
    for hit, least in zip(hits, IOUS, strict=True):
        free = set(range(len(other)))
        for index, own in enumerate(one):
            overlaps = [(_iou(own, other[j]), -j) for j in free]
            best = max(overlaps, default=(0.0, 0))
            assert hit[index] == (best[0] >= least)
            if hit[index]:
                free.discard(-best[1])


def _iou(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    return both / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - both)
