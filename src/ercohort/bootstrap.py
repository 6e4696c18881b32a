"""How far the figures would move with other slides of the same kind: percentile bootstrap by slide.

Nuclei of one slide share its stain, scanner and tumour, so slides are drawn, not nuclei (Efron & Tibshirani,
An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ercohort.agreement import Estimate, icc_2_1
from ercohort.confusion import Confusion
from ercohort.operating_curve import mean_bias

FEWEST_SHARE = 0.25
"""Share of the slides, those of the lowest percent positive, that `fewest_positives` looks at."""


@dataclass(frozen=True)
class Intervals:
    """The figures of all slides with 95 % intervals.

    Parameters
    ----------
    n_resamples, seed
        How often slides were drawn, with replacement, and from which seed.
    detection_f1, class_mean_f1, false_positives_per_10k
        See `confusion.Confusion`; of the counts of all slides, pooled.
    percent_positive_bias
        Mean over slides of percent positive by detection minus by annotation, points.
    percent_positive_icc
        ICC(2,1) of percent positive.
    """

    n_resamples: int
    seed: int
    detection_f1: Estimate
    class_mean_f1: Estimate
    percent_positive_bias: Estimate
    percent_positive_icc: Estimate
    false_positives_per_10k: Estimate


@dataclass(frozen=True)
class FewPositives:
    """False positives on the slides of the fewest positives, where they decide the 1 % call.

    Parameters
    ----------
    slides
        The quarter of the slides (rounded up) of the lowest percent positive by annotation, and any as
        low as the last of them; only slides with annotated negatives are ranked.
    highest_percent
        Percent positive by annotation of the last of them.
    n_negative, n_false_positive
        Their annotated negatives, and positive detections on those or on no nucleus.
    false_positives_per_10k
        The second per 10,000 of the first; the interval is from resampling these slides.
    """

    slides: tuple[str, ...]
    highest_percent: float
    n_negative: int
    n_false_positive: int
    false_positives_per_10k: Estimate


def bootstrap_intervals(confusions: Sequence[Confusion], n_resamples: int, seed: int) -> Intervals:
    """Draw slides with replacement and take the 2.5th and 97.5th percentile of each figure.

    Resamples in which a figure has no value (as F1 of slides without a nucleus) are left out of its
    interval. With fewer than 2 slides there is none.

    Parameters
    ----------
    confusions
        One for each slide, all of the same classes; at least one.
    n_resamples, seed
        How often, and what decides the draws.
    """
    pooled = sum(confusions, Confusion.zero(confusions[0].labels))
    draws = _draws(len(confusions), n_resamples, seed)
    counts = _pooled_counts(confusions)
    percents = _percents(confusions)
    known = np.isfinite(percents).all(axis=1)
    percents, paired = percents[known], draws[:, known]
    biases = _ratio(paired @ (percents[:, 1] - percents[:, 0]), paired.sum(axis=1))
    icc = icc_2_1(percents).value if len(percents) else None
    return Intervals(
        n_resamples,
        seed,
        _estimate(pooled.detection.f1, draws, _f1(draws, counts[:, :3])),
        _estimate(pooled.class_mean["f1"], draws, _class_mean_f1(draws, counts[:, 3:-2])),
        _estimate(mean_bias(confusions), paired, biases),
        _estimate(icc, paired, _icc(paired, percents)),
        _estimate(pooled.false_positives_per_10k, draws, _rate(draws, counts[:, -2:])),
    )


def fewest_positives(
    names: Sequence[str], confusions: Sequence[Confusion], n_resamples: int, seed: int
) -> FewPositives | None:
    """Count false positives on the slides of the fewest positives; None without annotated negatives.

    Parameters
    ----------
    names, confusions
        Slide ids and their counts.
    n_resamples, seed
        For the interval; 0 resamples give none.
    """
    ranked = sorted(
        (confusion.percent_truth, name, confusion)
        for name, confusion in zip(names, confusions, strict=True)
        if confusion.n_negative_truth and confusion.percent_truth is not None
    )
    if not ranked:
        return None
    highest = ranked[math.ceil(FEWEST_SHARE * len(ranked)) - 1][0]
    chosen = [(name, confusion) for percent, name, confusion in ranked if percent <= highest]
    few = [confusion for _, confusion in chosen]
    pooled = sum(few, Confusion.zero(few[0].labels))
    draws = _draws(len(few), n_resamples, seed)
    return FewPositives(
        tuple(name for name, _ in chosen),
        highest,
        pooled.n_negative_truth,
        pooled.n_false_positive,
        _estimate(pooled.false_positives_per_10k, draws, _rate(draws, _pooled_counts(few)[:, -2:])),
    )


def _draws(n: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each of n slides is in each resample, (n_resamples, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples)


def _pooled_counts(confusions: Sequence[Confusion]) -> NDArray[np.int64]:
    """(n, 3 + 3 K + 2): tp, fp, fn of detection, then of each class, then negatives and false positives."""
    rows = []
    for confusion in confusions:
        scores = [confusion.detection, *confusion.by_class.values()]
        counts = [count for score in scores for count in (score.tp, score.fp, score.fn)]
        rows.append([*counts, confusion.n_negative_truth, confusion.n_false_positive])
    return np.array(rows, dtype=np.int64)


def _percents(confusions: Sequence[Confusion]) -> NDArray[np.float64]:
    """Percent positive by annotation and by detection, (n, 2); NaN where a side has none."""
    pairs = [(confusion.percent_truth, confusion.percent_predicted) for confusion in confusions]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _f1(draws: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    tp, fp, fn = (draws @ counts).T
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _class_mean_f1(draws: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the classes that have an F1 in the resample."""
    scores = np.stack([_f1(draws, counts[:, k : k + 3]) for k in range(0, counts.shape[1], 3)])
    known = np.isfinite(scores)
    return _ratio(np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0))


def _rate(draws: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    n_negative, n_false = (draws @ counts).T
    return _ratio(10_000 * n_false, n_negative)


def _icc(draws: NDArray[np.int64], percents: NDArray[np.float64]) -> NDArray[np.float64]:
    """ICC(2,1) of each resample, from its moments: `agreement.icc_2_1` for two raters, (resamples,)."""
    if len(percents) < 2:
        return np.full(len(draws), np.nan)
    # Without the mean, sums of squares keep their digits.
    first, second = (percents - percents.mean()).T
    n = draws.sum(axis=1)
    sums = draws @ np.column_stack([first, second, first**2, second**2, first * second])
    a, b, aa, bb, ab = sums.T
    half_sum, half_difference = (aa + bb) / 2 + ab, (aa + bb) / 2 - ab
    subjects = _ratio(half_sum - _ratio((a + b) ** 2, 2 * n), n - 1)
    raters = _ratio((a - b) ** 2, 2 * n)
    error = _ratio(half_difference - raters, n - 1)
    icc = _ratio(subjects - error, subjects + error + 2 * _ratio(raters - error, n))
    # One slide, however often, has no variance between slides: the coefficient is not defined.
    return np.where(np.count_nonzero(draws, axis=1) > 1, icc, np.nan)


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> NDArray[np.float64]:
    """Quotient, NaN where the denominator is not above 0."""
    result = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=result, where=np.asarray(whole) > 0)


def _estimate(value: float | None, draws: NDArray[np.int64], resampled: NDArray[np.float64]) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    # One slide drawn again and again says nothing about others.
    if value is None or draws.shape[1] < 2 or not len(known):
        return Estimate(value)
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
