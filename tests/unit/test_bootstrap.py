"""Intervals by slide: against a direct computation, degenerate cohorts, and the fewest positives."""

from __future__ import annotations

import numpy as np
import pytest

from ercohort.agreement import icc_2_1
from ercohort.bootstrap import bootstrap_intervals, fewest_positives
from ercohort.confusion import Confusion

RESAMPLES = 300


def slide(pp: int, pn: int, np_: int, nn: int, missed=(0, 0), spurious=(0, 0)) -> Confusion:
    """Counts; `pn` are annotated positive and found negative."""
    return Confusion(np.array([[pp, pn], [np_, nn]]), np.array(missed), np.array(spurious))


def cohort(n: int = 7) -> list[Confusion]:
    rng = np.random.default_rng(5)
    return [
        slide(*rng.integers(5, 60, 4).tolist(), rng.integers(0, 20, 2), rng.integers(0, 20, 2))
        for _ in range(n)
    ]


def test_every_figure_is_that_of_the_drawn_slides():
    slides = cohort()
    found = bootstrap_intervals(slides, RESAMPLES, seed=3)
    draws = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=RESAMPLES)
    direct: dict[str, list[float]] = {
        name: [] for name in ("f1", "mean", "bias", "icc", "rate")
    }  # one by one, through the same classes as the figures themselves
    for draw in draws:
        drawn = [one for one, times in zip(slides, draw.tolist(), strict=True) for _ in range(times)]
        pooled = sum(drawn, Confusion.zero())
        pairs = np.array([(one.percent_truth, one.percent_predicted) for one in drawn])
        direct["f1"].append(pooled.detection.f1)
        direct["mean"].append(pooled.class_mean["f1"])
        direct["rate"].append(pooled.false_positives_per_10k)
        direct["bias"].append(float((pairs[:, 1] - pairs[:, 0]).mean()))
        direct["icc"].append(icc_2_1(pairs).value)
    estimates = {
        "f1": found.detection_f1,
        "mean": found.class_mean_f1,
        "bias": found.percent_positive_bias,
        "icc": found.percent_positive_icc,
        "rate": found.false_positives_per_10k,
    }
    for name, estimate in estimates.items():
        low, high = np.percentile(direct[name], [2.5, 97.5])
        assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), rel=1e-9), name
        assert low < estimate.value < high
    assert (found.n_resamples, found.seed) == (RESAMPLES, 3)


def test_the_seed_decides():
    slides = cohort()
    first, again, other = (bootstrap_intervals(slides, RESAMPLES, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.detection_f1.ci_low != other.detection_f1.ci_low
    assert first.detection_f1.value == other.detection_f1.value


def test_equal_slides_have_intervals_of_no_width_and_one_slide_has_none():
    same = bootstrap_intervals([slide(8, 2, 1, 9)] * 5, RESAMPLES, 1)
    assert same.detection_f1.ci_low == same.detection_f1.ci_high == same.detection_f1.value
    biased = same.percent_positive_icc  # without variance between slides nothing agrees beyond chance
    assert (biased.value, biased.ci_low, biased.ci_high) == (0.0, 0.0, 0.0)
    alone = bootstrap_intervals([slide(8, 2, 1, 9)], RESAMPLES, 1)
    assert (alone.detection_f1.value, alone.detection_f1.ci_low) == (1.0, None)
    assert alone.percent_positive_icc.value is None


def test_resamples_without_a_value_are_left_out():
    # A quarter of the resamples has no annotated negative; the others have the same rate.
    positives, negatives = slide(10, 0, 0, 0), slide(0, 0, 1, 9)
    found = bootstrap_intervals([positives, negatives], RESAMPLES, 1)
    assert found.false_positives_per_10k.ci_low == found.false_positives_per_10k.ci_high == 1000.0
    empty = bootstrap_intervals([Confusion.zero(), Confusion.zero()], RESAMPLES, 1)
    assert (empty.detection_f1.value, empty.percent_positive_bias.value) == (None, None)


def test_the_fewest_positives_are_the_lowest_quarter_rounded_up_with_ties():
    # Percent positive by annotation 0, 10, 10, 50, 90; found wrong on the negatives: 2, 1, 3, 5, 1.
    slides = [
        slide(0, 0, 2, 98),
        slide(10, 0, 1, 89),
        slide(10, 0, 3, 87),
        slide(50, 0, 5, 45),
        slide(90, 0, 1, 9),
    ]
    found = fewest_positives("abcde", slides, RESAMPLES, 1)
    assert found is not None
    assert (found.slides, found.highest_percent) == (("a", "b", "c"), 10.0)
    assert (found.n_negative, found.n_false_positive) == (280, 6)
    assert found.false_positives_per_10k.value == pytest.approx(10_000 * 6 / 280)
    assert found.false_positives_per_10k.ci_low < found.false_positives_per_10k.value
    four = fewest_positives("abde", [slides[k] for k in (0, 1, 3, 4)], 0, 1)
    assert four is not None
    assert four.slides == ("a",)
    assert four.false_positives_per_10k.ci_low is None


def test_slides_without_annotated_negatives_have_no_rate():
    assert fewest_positives("a", [slide(5, 0, 0, 0)], RESAMPLES, 1) is None
    found = fewest_positives("ab", [slide(5, 0, 0, 0), slide(5, 0, 1, 4)], RESAMPLES, 1)
    assert found is not None
    assert found.slides == ("b",)
