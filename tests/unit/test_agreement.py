"""Agreement statistics against published worked examples and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ercohort.agreement import agree, bland_altman, icc_2_1, pearson

# Shrout & Fleiss, Psychological Bulletin 86 (1979), table 2: 6 subjects, 4 judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)

percent = st.floats(0, 100, allow_nan=False)


def test_icc_of_shrout_and_fleiss():
    estimate = icc_2_1(SHROUT_FLEISS)
    assert estimate.value == pytest.approx(0.290, abs=5e-4)
    # The interval that the R package psych prints for this table: 0.019 to 0.761.
    assert estimate.ci_low == pytest.approx(0.019, abs=5e-4)
    assert estimate.ci_high == pytest.approx(0.761, abs=5e-4)


def test_icc_equals_its_variance_components():
    """ICC(2,1) = subject variance over subject + rater + error variance, each from the mean squares."""
    n, k = SHROUT_FLEISS.shape
    subjects, raters, error = 11.24, 32.49, 1.02  # table 3 of the paper, rounded there
    by_hand = (subjects - error) / (subjects + (k - 1) * error + k * (raters - error) / n)
    assert icc_2_1(SHROUT_FLEISS).value == pytest.approx(by_hand, abs=2e-3)


def test_icc_sees_bias_that_pearson_does_not():
    truth = np.array([5.0, 20, 40, 60, 80])
    shifted = truth + 20
    assert pearson(truth, shifted).value == pytest.approx(1.0)
    icc = icc_2_1(np.column_stack([truth, shifted])).value
    # By hand: error 0, MSB = 2 var = 1810, rater term k MSC / n = 2 * 1000 / 5.
    assert icc == pytest.approx(1810 / (1810 + 400))


def test_perfect_agreement_is_one():
    truth = [0.0, 3.5, 12.0, 55.5, 91.2]
    result = agree(truth, truth)
    assert (result.icc.value, result.icc.ci_low, result.icc.ci_high) == (1.0, 1.0, 1.0)
    assert result.pearson.value == pytest.approx(1.0)
    assert (result.bland_altman.bias, result.bland_altman.lower, result.bland_altman.upper) == (0, 0, 0)


@given(st.lists(st.tuples(percent, percent), min_size=3, max_size=12))
def test_icc_does_not_depend_on_order_and_lies_in_its_interval(pairs):
    values = np.array(pairs)
    if np.ptp(values) < 1:
        values[0, 0] += 10
    first, turned = icc_2_1(values), icc_2_1(values[::-1, ::-1])
    assert first.value == pytest.approx(turned.value, abs=1e-9)
    assert first.value <= 1 + 1e-12
    if first.ci_low is not None:
        assert first.ci_low <= first.value + 1e-9
        assert first.value <= first.ci_high + 1e-9


def test_a_negative_icc_still_has_an_interval_around_it():
    # The published degrees of freedom are 0 here, and the F quantiles not a number.
    estimate = icc_2_1([[0, 3], [0, 3], [1, 2]])
    assert estimate.value == estimate.ci_low == estimate.ci_high == pytest.approx(-2 / 17)
    turned = icc_2_1([[0, 3], [3, 1], [1, 2], [2, 0]])
    assert turned.ci_low < turned.value < 0 < turned.ci_high < 1


def test_pearson_is_scipys():
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 100, 20)
    b = a + rng.normal(0, 15, 20)
    expected = stats.pearsonr(a, b)
    estimate = pearson(a, b)
    assert estimate.value == pytest.approx(expected.statistic)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_bland_altman_by_hand():
    limits = bland_altman([10, 20, 30, 40], [12, 19, 33, 42])
    # Differences 2, -1, 3, 2: mean 1.5, sum of squares about it 9.
    assert limits.bias == pytest.approx(1.5)
    assert limits.sd == pytest.approx(np.sqrt(9 / 3))
    assert limits.lower == pytest.approx(1.5 - 1.96 * np.sqrt(3), abs=1e-3)
    assert limits.upper == pytest.approx(1.5 + 1.96 * np.sqrt(3), abs=1e-3)


def test_what_the_data_cannot_tell_is_none():
    assert pearson([5.0], [6.0]).value is None
    assert pearson([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]).value is None
    assert pearson([1.0, 2.0, 3.0], [1.0, 2.5, 3.0]).ci_low is None
    assert icc_2_1([[5.0, 6.0]]).value is None
    assert icc_2_1(np.full((4, 2), 7.0)).value is None
    assert bland_altman([], []).bias is None
    assert bland_altman([3.0], [5.0]).lower is None


def test_arrays_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        agree([1.0, 2.0], [1.0])
