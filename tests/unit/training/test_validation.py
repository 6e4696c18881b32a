"""Validation figures are those of hand-counted examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort.training.validation import LOWEST_SCORE, Nuclei, judge, take_best

MPP = 0.5  # 5 µm are 10 px


def nuclei(*rows):
    """Nuclei of 20 px; rows are (x, y, class, score)."""
    values = np.array(rows, np.float64).reshape(-1, 4)
    values = values[np.argsort(-values[:, 3], kind="stable")]
    boxes = np.hstack([values[:, :2] - 10, values[:, :2] + 10]).astype(np.float32)
    edge = (boxes < 1).any(1)
    return Nuclei(boxes, values[:, 2].astype(np.int64), values[:, 3].astype(np.float32), edge)


TRUTH = nuclei((50, 50, 0, 1), (100, 50, 0, 1), (50, 100, 1, 1), (100, 100, 1, 1))


def test_a_perfect_detector_has_ones():
    found = nuclei((50, 50, 0, 0.9), (100, 50, 0, 0.9), (50, 100, 1, 0.9), (100, 100, 1, 0.9))
    figures = judge([found], [TRUTH], n_classes=2, mpp=MPP)
    assert figures == pytest.approx(
        {"score": LOWEST_SCORE, "precision": 1, "recall": 1, "f1": 1, "class_f1": 1, "map50": 1}
    )


def test_centres_count_within_five_micrometres():
    near = nuclei((60, 50, 0, 0.9))
    far = nuclei((61, 50, 0, 0.9))
    truth = nuclei((50, 50, 0, 1))
    assert judge([near], [truth], n_classes=2, mpp=MPP)["f1"] == 1.0
    assert judge([far], [truth], n_classes=2, mpp=MPP)["f1"] == 0.0
    assert judge([far], [truth], n_classes=2, mpp=MPP / 2)["f1"] == 1.0


def test_a_wrong_class_counts_as_detected_but_not_in_its_class():
    found = nuclei((50, 50, 1, 0.9), (100, 50, 0, 0.9), (50, 100, 1, 0.9), (100, 100, 1, 0.9))
    figures = judge([found], [TRUTH], n_classes=2, mpp=MPP)
    assert figures["f1"] == 1.0
    assert figures["class_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_the_operating_point_is_where_the_mean_of_the_classes_is_best():
    found = nuclei(*_truth_at(0.8), (200, 200, 0, 0.395), (220, 200, 1, 0.305))
    figures = judge([found], [TRUTH], n_classes=2, mpp=MPP)
    assert figures["score"] == 0.4
    assert figures["f1"] == 1.0


def _truth_at(score):
    return [(50, 50, 0, score), (100, 50, 0, score), (50, 100, 1, score), (100, 100, 1, score)]


def test_average_precision_is_the_area_under_the_envelope():
    # Hit, false, hit: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    found = nuclei((50, 50, 0, 0.9), (300, 300, 0, 0.8), (100, 50, 0, 0.7))
    truth = nuclei((50, 50, 0, 1), (100, 50, 0, 1))
    assert judge([found], [truth], n_classes=1, mpp=MPP)["map50"] == pytest.approx((1 + 2 / 3) / 2)


def test_boxes_need_half_their_union_for_map50():
    truth = nuclei((50, 50, 0, 1))
    # Shifted by 6 of 20 px they share 14/26, by 7 they share 13/27.
    assert judge([nuclei((56, 50, 0, 0.9))], [truth], n_classes=1, mpp=MPP)["map50"] == 1.0
    assert judge([nuclei((57, 50, 0, 0.9))], [truth], n_classes=1, mpp=MPP)["map50"] == 0.0


def test_slivers_at_the_edge_are_no_mistakes():
    truth = nuclei((50, 50, 0, 1))
    sliver, inside = (5, 200, 0, 0.9), (60, 200, 0, 0.9)
    assert judge([nuclei((50, 50, 0, 0.9), sliver)], [truth], n_classes=1, mpp=MPP)["precision"] == 1.0
    assert judge([nuclei((50, 50, 0, 0.9), inside)], [truth], n_classes=1, mpp=MPP)["precision"] == 0.5


def test_classes_without_truth_do_not_count():
    found = nuclei((50, 50, 0, 0.9), (150, 150, 1, 0.06))
    assert judge([found], [nuclei((50, 50, 0, 1))], n_classes=3, mpp=MPP)["class_f1"] == 1.0


def test_nothing_found_and_nothing_annotated_are_zeros():
    none = nuclei()
    assert judge([none], [TRUTH], n_classes=2, mpp=MPP)["class_f1"] == 0.0
    assert judge([none], [none], n_classes=2, mpp=MPP)["map50"] == 0.0


def test_each_annotated_nucleus_is_taken_once_by_the_better_score():
    affinity = np.array([[0.9, 0.8], [0.95, 0.1], [0.3, 0.85]])
    assert take_best(affinity, 0.5).tolist() == [True, False, True]


@given(st.integers(0, 12), st.integers(0, 8), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_leaving_out_later_nuclei_changes_nothing_for_earlier_ones(n, m, kept, seed):
    affinity = np.random.default_rng(seed).random((n, m))
    assert take_best(affinity[:kept], 0.4).tolist() == take_best(affinity, 0.4)[:kept].tolist()
