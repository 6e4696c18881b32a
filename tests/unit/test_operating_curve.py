"""The figures over the score: known counts at every step, the chosen point, the area."""

from __future__ import annotations

import numpy as np
import pytest

from ercohort.annotated import AnnotatedSlide
from ercohort.confusion import Score
from ercohort.operating_curve import trace_curve
from ercohort.points import Points

P, N = LABELS = ("Positive", "Negative")


def points(rows) -> Points:
    """Make points of (x, label, score)."""
    xy = np.array([(x, 0.0) for x, _, _ in rows]).reshape(-1, 2)
    return Points(xy, np.array([own for _, own, _ in rows], np.str_), np.array([s for *_, s in rows], float))


def slide(pred, truth, area=0.5, roi=None) -> AnnotatedSlide:
    true = points([(x, own, 1.0) for x, own in truth])
    return AnnotatedSlide("a", points(pred), true, roi, 0.5, "slide.json", area, "tissue")


def by_score(curve):
    return {point.score: point for point in curve}


@pytest.fixture
def curve():
    pred = [(0, P, 0.9), (100, P, 0.5), (200, N, 0.3), (300, N, 0.06), (400, P, 0.2)]
    one = slide(pred, [(0, P), (100, N), (200, N), (300, N)])
    return trace_curve([one], LABELS, lowest=0.05, chosen=0.25, radius_um=5)


def test_the_curve_runs_from_the_lowest_score_to_095_with_the_chosen_one(curve):
    scores = [point.score for point in curve]
    assert (scores[0], scores[-1], len(scores)) == (0.05, 0.95, 37)
    assert 0.25 in scores
    assert scores == sorted(set(scores))


def test_every_point_counts_the_detections_above_its_score(curve):
    found = by_score(curve)
    assert found[0.05].pooled.detection == Score(tp=4, fp=1, fn=0)
    assert found[0.25].pooled.detection == Score(tp=3, fp=0, fn=1)
    assert found[0.5].pooled.detection == Score(tp=1, fp=0, fn=3)  # 0.5 itself is not above 0.5
    assert found[0.95].pooled.detection == Score(tp=0, fp=0, fn=4)
    # At 0.05 three of five are positive, of the annotated one of four; at 0.95 there is no percentage.
    assert found[0.05].bias == pytest.approx(60 - 25)
    assert found[0.95].bias is None


def test_false_positives_are_per_square_millimetre_and_by_class(curve):
    lowest = by_score(curve)[0.05]
    assert lowest.false_positives_per_mm2 == 2.0
    # Of the positive class, the one at 100 is false as well; of the negatives that one is missed.
    assert lowest.of_class(P) == (1.0, 4.0)
    assert lowest.of_class(N) == (pytest.approx(2 / 3), 0.0)
    figures = lowest.to_dict()
    assert figures["by_class"][P] == {"sensitivity": 1.0, "false_positives_per_mm2": 4.0}
    assert figures["percent_positive_bias"] == pytest.approx(35)


def test_areas_add_up_and_one_unknown_area_leaves_no_rate():
    pred, truth = [(0, P, 0.5), (50, P, 0.5)], [(0, P)]
    two = trace_curve(
        [slide(pred, truth), slide(pred, truth, 1.5)], LABELS, lowest=0.05, chosen=None, radius_um=5
    )
    assert two[0].false_positives_per_mm2 == 1.0
    one = trace_curve(
        [slide(pred, truth), slide(pred, truth, None)], LABELS, lowest=0.05, chosen=None, radius_um=5
    )
    assert one[0].false_positives_per_mm2 is None


def test_the_curve_begins_where_the_detections_do():
    made_at_04 = slide([(0, P, 0.41), (50, N, 0.9)], [(0, P), (50, N)])
    found = trace_curve([made_at_04], LABELS, lowest=0.05, chosen=None, radius_um=5)
    assert found[0].score == 0.4
    unscored = slide([(0, P, 1.0)], [(0, P)])
    assert len(trace_curve([unscored], LABELS, lowest=0.05, chosen=None, radius_um=5)) == 1


def test_a_stronger_detection_that_goes_leaves_its_nucleus_to_the_next():
    # The nearer detection is the less sure one: above its score the other one takes the nucleus.
    one = slide([(0, N, 0.3), (4, P, 0.8)], [(0, P)])
    found = by_score(trace_curve([one], LABELS, lowest=0.05, chosen=0.5, radius_um=5))
    assert found[0.275].pooled.matched.tolist() == [[0, 1], [0, 0]]
    assert found[0.5].pooled.matched.tolist() == [[1, 0], [0, 0]]


def test_a_region_leaves_out_detections_beside_it():
    roi = np.array([[0.0, -10, 60, 10]])
    one = slide([(0, P, 0.5), (70, P, 0.5)], [(0, P), (80, P)], roi=roi)
    found = trace_curve([one], LABELS, lowest=0.05, chosen=None, radius_um=5)
    assert found[0].pooled.detection == Score(1, 0, 0)
