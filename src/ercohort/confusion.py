"""Counts of right, wrong and missed nuclei, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.schema import LABELS, is_negative


@dataclass(frozen=True)
class Score:
    """True positives, false positives, false negatives and what follows from them (None for 0/0)."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the annotated nuclei that were found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and ratios."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class Confusion:
    """Who was paired with whom, by class; every figure of the evaluation follows from these counts.

    Parameters
    ----------
    matched
        (K, K) pairs: rows are the annotated class, columns the detected class, in the order of `labels`.
    missed
        (K,) annotated nuclei without a detection.
    spurious
        (K,) detections without an annotated nucleus.
    ignored
        Detections on points that are ignored; they count nowhere else.
    labels
        The K classes. All but the negative one (`schema.is_negative`) count as positive.
    """

    matched: NDArray[np.int64]
    missed: NDArray[np.int64]
    spurious: NDArray[np.int64]
    ignored: int = 0
    labels: tuple[str, ...] = LABELS

    def __add__(self, other: Confusion) -> Confusion:
        if self.labels != other.labels:
            raise ValueError(f"counts of {self.labels} and {other.labels} cannot be added")
        return Confusion(
            self.matched + other.matched,
            self.missed + other.missed,
            self.spurious + other.spurious,
            self.ignored + other.ignored,
            self.labels,
        )

    @classmethod
    def zero(cls, labels: tuple[str, ...] = LABELS) -> Confusion:
        """Return counts of nothing, to add to."""
        k = len(labels)
        return cls(np.zeros((k, k), np.int64), np.zeros(k, np.int64), np.zeros(k, np.int64), labels=labels)

    @property
    def negative(self) -> NDArray[np.bool_]:
        """(K,) which classes are negative."""
        return np.array([is_negative(label) for label in self.labels], dtype=bool)

    @property
    def n_truth(self) -> dict[str, int]:
        """Annotated nuclei of each class."""
        return dict(zip(self.labels, (self.matched.sum(axis=1) + self.missed).tolist(), strict=True))

    @property
    def n_predicted(self) -> dict[str, int]:
        """Detections of each class."""
        return dict(zip(self.labels, (self.matched.sum(axis=0) + self.spurious).tolist(), strict=True))

    @property
    def detection(self) -> Score:
        """Score regardless of class."""
        return Score(int(self.matched.sum()), int(self.spurious.sum()), int(self.missed.sum()))

    @property
    def by_class(self) -> dict[str, Score]:
        """Score of each class: a pair of two classes is a miss of one and a false positive of the other."""
        right = dict(zip(self.labels, self.matched.diagonal().tolist(), strict=True))
        n_predicted, n_truth = self.n_predicted, self.n_truth
        return {label: Score(tp, n_predicted[label] - tp, n_truth[label] - tp) for label, tp in right.items()}

    @property
    def class_mean(self) -> dict[str, float | None]:
        """Unweighted mean over the classes that have a value."""
        scores = self.by_class.values()
        return {
            "precision": _mean([score.precision for score in scores]),
            "recall": _mean([score.recall for score in scores]),
            "f1": _mean([score.f1 for score in scores]),
        }

    @property
    def percent_truth(self) -> float | None:
        """Percent positive by the annotations."""
        return self._percent(self.n_truth)

    @property
    def percent_predicted(self) -> float | None:
        """Percent positive by the detections."""
        return self._percent(self.n_predicted)

    def _percent(self, counts: Mapping[str, int]) -> float | None:
        positive = sum(count for label, count in counts.items() if not is_negative(label))
        return _ratio(100.0 * positive, sum(counts.values()))

    @property
    def percent_difference(self) -> float | None:
        """Predicted minus annotated, percentage points."""
        if self.percent_truth is None or self.percent_predicted is None:
            return None
        return self.percent_predicted - self.percent_truth

    @property
    def n_negative_truth(self) -> int:
        """Annotated negative nuclei."""
        return sum(count for label, count in self.n_truth.items() if is_negative(label))

    @property
    def n_false_positive(self) -> int:
        """Positive detections on a negative nucleus or on none."""
        negative = self.negative
        return int(self.matched[np.ix_(negative, ~negative)].sum() + self.spurious[~negative].sum())

    @property
    def false_positives_per_10k(self) -> float | None:
        """Positive detections on a negative nucleus or on none, per 10,000 annotated negatives.

        On a slide of few positives this, not the counting error, decides the category: 100 per 10,000
        turn a slide without any positive nucleus into about 1 %.
        """
        return _ratio(10_000 * self.n_false_positive, self.n_negative_truth)

    def to_dict(self) -> dict[str, Any]:
        """Return every count and figure, ready for JSON."""
        return {
            "n_truth": self.n_truth,
            "n_predicted": self.n_predicted,
            "n_on_ignored_points": self.ignored,
            "detection": self.detection.to_dict(),
            "by_class": {label: score.to_dict() for label, score in self.by_class.items()},
            "class_mean": self.class_mean,
            "percent_positive_truth": self.percent_truth,
            "percent_positive_predicted": self.percent_predicted,
            "percent_positive_difference": self.percent_difference,
            "false_positives_per_10k_negatives": self.false_positives_per_10k,
        }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
