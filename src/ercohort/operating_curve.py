"""How the figures change with the least score of a detection, and where the chosen one stands.

The same points are the free-response ROC curve (FROC): sensitivity against false positives per mm².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.annotated import AnnotatedSlide
from ercohort.confusion import Confusion
from ercohort.matching import Method
from ercohort.pairing import evaluate_points
from ercohort.points import inside

STEP = 0.025
"""Distance of two points of the curve, score."""

HIGHEST = 0.95
"""Where the curve ends, score."""


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """The figures when only detections above a score count.

    Parameters
    ----------
    score
        Detections with more than this count.
    pooled
        Counts of all slides.
    bias
        Mean over slides of percent positive by detection minus by annotation, points.
    area_mm2
        Evaluated area of all slides; None if that of one is not known.
    """

    score: float
    pooled: Confusion
    bias: float | None
    area_mm2: float | None

    @property
    def false_positives_per_mm2(self) -> float | None:
        """Detections on no annotated nucleus, of any class, per mm² of evaluated area."""
        return self.pooled.detection.fp / self.area_mm2 if self.area_mm2 else None

    def of_class(self, label: str) -> tuple[float | None, float | None]:
        """Return the sensitivity and the false positives per mm² of one class."""
        score = self.pooled.by_class[label]
        return score.recall, score.fp / self.area_mm2 if self.area_mm2 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures that the curves draw, ready for JSON."""
        return {
            "score": self.score,
            "detection": self.pooled.detection.to_dict(),
            "class_mean_f1": self.pooled.class_mean["f1"],
            "percent_positive_bias": self.bias,
            "false_positives_per_mm2": self.false_positives_per_mm2,
            "by_class": {
                label: dict(
                    zip(("sensitivity", "false_positives_per_mm2"), self.of_class(label), strict=True)
                )
                for label in self.pooled.labels
            },
        }


def mean_bias(confusions: Sequence[Confusion]) -> float | None:
    """Mean difference of percent positive, points, over the slides where both sides have one."""
    known = [own for confusion in confusions if (own := confusion.percent_difference) is not None]
    return sum(known) / len(known) if known else None


def trace_curve(
    slides: Sequence[AnnotatedSlide],
    labels: tuple[str, ...],
    *,
    lowest: float,
    chosen: float | None,
    radius_um: float,
    method: Method = "hungarian",
) -> tuple[CurvePoint, ...]:
    """Evaluate at every score from `lowest` to 0.95, in steps of 0.025, and at the chosen one.

    Nuclei are paired anew at each score: which detection a nucleus pairs with depends on which there are.
    The curve begins no lower than the detections do, since below it would be flat for no reason.
    """
    inner = [
        slide if slide.roi is None else slide.restricted(inside(slide.pred.xy, slide.roi)) for slide in slides
    ]
    areas = [slide.area_mm2 for slide in slides]
    known = [area for area in areas if area is not None]
    area = sum(known) if known and len(known) == len(areas) else None
    curve = []
    for score in _scores(inner, lowest, chosen):
        confusions = [_count(slide.above(score), labels, radius_um, method) for slide in inner]
        pooled = sum(confusions, Confusion.zero(labels))
        curve.append(CurvePoint(score, pooled, mean_bias(confusions), area))
    return tuple(curve)


def _count(slide: AnnotatedSlide, labels: tuple[str, ...], radius_um: float, method: Method) -> Confusion:
    pred, truth = slide.pred, slide.truth
    return evaluate_points(
        pred.xy, pred.label, pred.score, truth.xy, truth.label, radius_um / slide.mpp,
        method=method, roi=slide.roi, labels=labels,
    )[0]  # fmt: skip


def _scores(slides: Sequence[AnnotatedSlide], lowest: float, chosen: float | None) -> list[float]:
    grid: NDArray[np.float64] = np.arange(lowest, HIGHEST + STEP / 2, STEP).round(6)
    least = min((float(slide.pred.score.min()) for slide in slides if len(slide.pred)), default=0.0)
    below = int(np.count_nonzero(grid < least))
    kept = set(grid[max(below - 1, 0) :].tolist())
    if chosen is not None:
        kept.add(chosen)
    return sorted(kept)
