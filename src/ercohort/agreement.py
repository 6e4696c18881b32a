"""Agreement between two measurements of the same slides, such as percent positive by eye and by machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ercohort.scoring import Z95


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval; None where the data cannot tell it."""

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None


@dataclass(frozen=True)
class BlandAltman:
    """Bias (mean difference) and 95 % limits of agreement (bias -/+ 1.96 standard deviations)."""

    bias: float | None
    sd: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Agreement:
    """How well two measurements agree over `n` slides."""

    n: int
    pearson: Estimate
    icc: Estimate
    bland_altman: BlandAltman


def agree(truth: ArrayLike, predicted: ArrayLike) -> Agreement:
    """Compare two measurements of the same slides.

    Parameters
    ----------
    truth, predicted
        (N,) values in the same unit and order; all finite.
    """
    first, second = _pair(truth, predicted)
    return Agreement(
        n=len(first),
        pearson=pearson(first, second),
        icc=icc_2_1(np.column_stack([first, second])),
        bland_altman=bland_altman(first, second),
    )


def pearson(truth: ArrayLike, predicted: ArrayLike) -> Estimate:
    """Pearson's correlation with the interval of Fisher's z (None below 4 slides).

    The value is None below 2 slides or when either measurement is the same on all of them.
    """
    from scipy.stats import pearsonr

    first, second = _pair(truth, predicted)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Estimate(None)
    result = pearsonr(first, second)
    value = float(result.statistic)
    if len(first) < 4:
        return Estimate(value)
    if abs(value) >= 1.0 - 1e-12:
        return Estimate(value, value, value)
    interval = result.confidence_interval(0.95)
    return Estimate(value, float(interval.low), float(interval.high))


def icc_2_1(ratings: ArrayLike) -> Estimate:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, single rater.

    Parameters
    ----------
    ratings
        (subjects, raters), all finite.

    Returns
    -------
    The value and its 95 % interval; None below 2 subjects or when all ratings are equal.

    References
    ----------
    Shrout & Fleiss, Psychological Bulletin 86 (1979) 420-428 (value, p. 423; worked example, table 2);
    McGraw & Wong, Psychological Methods 1 (1996) 30-46, ICC(A,1), table 7 (interval).
    """
    values = np.asarray(ratings, dtype=np.float64)
    n, k = values.shape
    if n < 2 or k < 2 or np.ptp(values) == 0:
        return Estimate(None)
    subjects, raters, error = _mean_squares(values)
    # Sums of squares of equal numbers leave rounding dust, which the F ratios below would magnify.
    if error <= 1e-14 * (subjects + raters):
        error = 0.0
    denominator = subjects + (k - 1) * error + k * (raters - error) / n
    icc = (subjects - error) / denominator
    if error == 0:
        # The F ratio of the interval does not exist; without rater bias the agreement is perfect.
        return Estimate(icc, icc, icc) if icc == 1.0 else Estimate(icc)
    low, high = _icc_interval(subjects, raters, error, icc, n, k)
    return Estimate(icc, low, high)


def _mean_squares(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Two-way analysis of variance without replication: mean squares of subjects, raters and error."""
    n, k = values.shape
    grand = values.mean()
    row, column = values.mean(axis=1), values.mean(axis=0)
    subjects = k * float(np.sum((row - grand) ** 2)) / (n - 1)
    raters = n * float(np.sum((column - grand) ** 2)) / (k - 1)
    residual = values - row[:, None] - column[None, :] + grand
    return subjects, raters, float(np.sum(residual**2)) / ((n - 1) * (k - 1))


def _icc_interval(
    subjects: float, raters: float, error: float, icc: float, n: int, k: int
) -> tuple[float, float]:
    from scipy.stats import f

    # A negative estimate says that the subjects' variance is 0; as it stands it can make the freedom vanish.
    icc = max(icc, 0.0)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * raters + b * error) ** 2 / (
        (a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    upper_f = float(f.ppf(0.975, n - 1, freedom))
    lower_f = float(f.ppf(0.975, freedom, n - 1))
    spread = k * raters + (k * n - k - n) * error
    low = n * (subjects - upper_f * error) / (upper_f * spread + n * subjects)
    high = n * (lower_f * subjects - error) / (spread + n * lower_f * subjects)
    return low, high


def bland_altman(truth: ArrayLike, predicted: ArrayLike) -> BlandAltman:
    """Bias and limits of agreement of `predicted - truth`; the limits need 2 slides.

    References
    ----------
    Bland & Altman, Lancet 327 (1986) 307-310.
    """
    first, second = _pair(truth, predicted)
    difference = second - first
    if len(difference) == 0:
        return BlandAltman(None, None, None, None)
    bias = float(difference.mean())
    if len(difference) == 1:
        return BlandAltman(bias, None, None, None)
    sd = float(difference.std(ddof=1))
    return BlandAltman(bias, sd, bias - Z95 * sd, bias + Z95 * sd)


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two (N,) arrays of one length are needed, got {first.shape} and {second.shape}")
    return first, second
