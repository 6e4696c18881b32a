"""How well detected nuclei agree with annotated ones: `ercohort evaluate`.

Detections and annotations are paired one to one by the distance of their centres. A pair is a true positive
of detection; it is one of its class as well if both name the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ercohort.agreement import Agreement, agree
from ercohort.annotated import Annotated, AnnotatedSlide, Frame, load_annotated
from ercohort.average_precision import AveragePrecision, average_precision
from ercohort.bootstrap import FewPositives, Intervals, bootstrap_intervals, fewest_positives
from ercohort.config import DatasetSettings
from ercohort.confusion import Confusion
from ercohort.errors import InputError
from ercohort.files import write_json
from ercohort.matching import Method
from ercohort.operating_curve import CurvePoint, trace_curve
from ercohort.pairing import evaluate_points
from ercohort.schema import LABELS

__all__ = [
    "RADIUS_UM",
    "Evaluation",
    "SlideEvaluation",
    "evaluate_points",
    "evaluate_results",
    "evaluate_slides",
    "write_evaluation",
]

RADIUS_UM = 5.0
"""Default greatest distance of a pair: about the radius of a tumour nucleus."""


@dataclass(frozen=True)
class SlideEvaluation:
    """One slide's figures.

    Parameters
    ----------
    mpp, mpp_source
        µm per pixel that turned the radius into pixels, and where it came from: `argument`, `index.csv` or
        `slide.json`.
    mean_distance_um
        Mean distance of the pairs, µm; None without pairs. Much above 1 µm hints at shifted coordinates.
    has_roi
        Whether only a region of the slide was counted.
    area_mm2, area_source
        Evaluated area and what it is the area of, see `annotated.AnnotatedSlide`.
    """

    slide_id: str
    confusion: Confusion
    mpp: float
    mpp_source: str
    mean_distance_um: float | None
    has_roi: bool
    area_mm2: float | None = None
    area_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "slide_id": self.slide_id,
            "mpp": self.mpp,
            "mpp_source": self.mpp_source,
            "has_roi": self.has_roi,
            "area_mm2": self.area_mm2,
            "area_source": self.area_source or None,
            "mean_distance_um": self.mean_distance_um,
            **self.confusion.to_dict(),
        }


@dataclass(frozen=True)
class Evaluation:
    """The figures of a cohort.

    Parameters
    ----------
    radius_um, method
        How nuclei were paired.
    slides
        One for each slide that has detections and truth, by slide id.
    not_evaluated
        Why the other slides were left out, by slide id.
    agreement
        Of percent positive over the slides where both sides have one; None for fewer than 2.
    labels
        Classes, in the order of the counts.
    score
        Only detections above it were counted; None if all were.
    curve
        The figures over the score; empty if they were not asked for.
    average_precision
        Of boxes; None where the truth has points alone.
    intervals
        By bootstrap; None if they were not asked for.
    few_positives
        False positives where they decide most; None without annotated negatives.
    """

    radius_um: float
    method: Method
    slides: tuple[SlideEvaluation, ...]
    not_evaluated: dict[str, str]
    agreement: Agreement | None
    labels: tuple[str, ...] = LABELS
    score: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    average_precision: AveragePrecision | None = None
    intervals: Intervals | None = None
    few_positives: FewPositives | None = None

    @property
    def pooled(self) -> Confusion:
        """All slides' counts added up (micro average)."""
        return sum((slide.confusion for slide in self.slides), Confusion.zero(self.labels))

    @property
    def percentages(self) -> tuple[list[float], list[float]]:
        """Percent positive by annotation and by detection, of the slides where both have one."""
        return percentages(self.slides)

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "matching": {"method": self.method, "radius_um": self.radius_um},
            "labels": list(self.labels),
            "score": self.score,
            "n_slides": len(self.slides),
            "pooled": self.pooled.to_dict(),
            "agreement_percent_positive": asdict(self.agreement) if self.agreement else None,
            "fewest_positives": asdict(self.few_positives) if self.few_positives else None,
            "intervals": asdict(self.intervals) if self.intervals else None,
            "average_precision": self.average_precision.to_dict() if self.average_precision else None,
            "curve": [point.to_dict() for point in self.curve],
            "slides": [slide.to_dict() for slide in self.slides],
            "not_evaluated": self.not_evaluated,
            "note": "Research use only.",
        }


def percentages(slides: Sequence[SlideEvaluation]) -> tuple[list[float], list[float]]:
    """Percent positive by annotation and by detection, of the slides where both have one."""
    truth, predicted = [], []
    for slide in slides:
        first, second = slide.confusion.percent_truth, slide.confusion.percent_predicted
        if first is not None and second is not None:
            truth.append(first)
            predicted.append(second)
    return truth, predicted


def write_evaluation(path: str | PathLike[str], evaluation: Evaluation) -> None:
    """Write the evaluation as JSON."""
    write_json(path, evaluation.to_dict())


def evaluate_results(
    results: str | Path,
    truth: str | Path,
    *,
    radius_um: float = RADIUS_UM,
    method: Method = "hungarian",
    mpp: float | None = None,
    score: float | None = None,
    bootstrap: int = 0,
    seed: int = 1,
    dataset: DatasetSettings | None = None,
    frame: Frame = "qupath",
) -> Evaluation:
    """Compare detections with truth, slide by slide, for the slides that have both.

    Parameters
    ----------
    results
        The results folder of a run, one slide's folder in it, or one table of detections (Parquet or CSV,
        see `points.read_points`).
    truth
        One table or QuPath file, or a folder as `points.find_truth` reads it.
    mpp
        µm per pixel of all slides; else the truth's `index.csv` says it, else the run's `slide.json`.
    dataset, frame
        How QuPath files are read, see `annotated.load_annotated`.
    radius_um, method, score, bootstrap, seed
        See `evaluate_slides`.

    Raises
    ------
    InputError
        A file cannot be read, no slide has both, or a slide's µm per pixel is not known.
    """
    _check_radius(radius_um)
    annotated = load_annotated(results, truth, mpp=mpp, dataset=dataset, frame=frame)
    return evaluate_slides(
        annotated, radius_um=radius_um, method=method, score=score, bootstrap=bootstrap, seed=seed
    )


def evaluate_slides(
    annotated: Annotated,
    *,
    radius_um: float = RADIUS_UM,
    method: Method = "hungarian",
    score: float | None = None,
    curve_from: float | None = None,
    bootstrap: int = 0,
    seed: int = 1,
) -> Evaluation:
    """Compare detections with truth, slide by slide.

    Parameters
    ----------
    radius_um
        Greatest distance of a pair, µm.
    score
        Count only detections above it, as a run with this `detect.score` would; None counts all.
    curve_from
        Also evaluate at every score from here on; None draws no curve.
    bootstrap, seed
        Resamples of the slides for the intervals, 0 for none, and what decides them.

    Raises
    ------
    InputError
        The radius is not above 0.
    """
    _check_radius(radius_um)
    labels = annotated.labels
    counted = [slide if score is None else slide.above(score) for slide in annotated.slides]
    slides = tuple(_evaluate_slide(slide, labels, radius_um, method) for slide in counted)
    confusions = [slide.confusion for slide in slides]
    truth_percent, predicted_percent = percentages(slides)
    curve: tuple[CurvePoint, ...] = ()
    if curve_from is not None:
        curve = trace_curve(
            annotated.slides, labels, lowest=curve_from, chosen=score, radius_um=radius_um, method=method
        )
    return Evaluation(
        radius_um,
        method,
        slides,
        annotated.left_out,
        agree(truth_percent, predicted_percent) if len(truth_percent) > 1 else None,
        labels,
        score,
        curve,
        average_precision(annotated.slides, labels),
        bootstrap_intervals(confusions, bootstrap, seed) if bootstrap and slides else None,
        fewest_positives([slide.slide_id for slide in slides], confusions, bootstrap, seed),
    )


def _check_radius(radius_um: float) -> None:
    if not (np.isfinite(radius_um) and radius_um > 0):
        raise InputError(f"matching radius {radius_um} µm must be above 0")


def _evaluate_slide(
    slide: AnnotatedSlide, labels: tuple[str, ...], radius_um: float, method: Method
) -> SlideEvaluation:
    confusion, pairs = evaluate_points(
        slide.pred.xy, slide.pred.label, slide.pred.score, slide.truth.xy, slide.truth.label,
        radius_um / slide.mpp, method=method, roi=slide.roi, labels=labels,
    )  # fmt: skip
    return SlideEvaluation(
        slide.slide_id,
        confusion,
        slide.mpp,
        slide.mpp_source,
        float(pairs.distance.mean()) * slide.mpp if len(pairs) else None,
        slide.roi is not None,
        slide.area_mm2,
        slide.area_source,
    )
