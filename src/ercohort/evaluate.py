"""How well detected nuclei agree with annotated ones: `ercohort evaluate`.

Detections and annotations are paired one to one by the distance of their centres. A pair is a true positive
of detection; it is one of its class as well if both name the same class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ercohort.agreement import Agreement, agree
from ercohort.confusion import Confusion
from ercohort.errors import InputError, Status
from ercohort.files import read_json, write_json
from ercohort.matching import Matches, Method, match_points
from ercohort.points import IGNORED, Truth, find_truth, inside, read_points, read_roi
from ercohort.schema import LABELS

RADIUS_UM = 5.0
"""Default greatest distance of a pair: about the radius of a tumour nucleus."""

UNSEEN = (Status.MISSING, Status.UNREADABLE, Status.NO_MPP, Status.FAILED)
"""Slides that the detector never saw: they are listed, not counted as full of misses."""


def evaluate_points(
    pred_xy: ArrayLike,
    pred_label: ArrayLike,
    pred_score: ArrayLike,
    truth_xy: ArrayLike,
    truth_label: ArrayLike,
    radius_px: float,
    *,
    method: Method = "hungarian",
    roi: NDArray[np.bool_] | None = None,
) -> tuple[Confusion, Matches]:
    """Compare the detections of one slide with its annotations.

    Parameters
    ----------
    pred_xy, truth_xy
        (N, 2) and (M, 2) centres, pixels.
    pred_label, truth_label
        (N,) and (M,) `Positive`, `Negative` or `Ignored`. Detections that pair with an ignored point,
        after all other points took theirs, and detections labelled so, count nowhere.
    pred_score
        (N,) scores; of two detections equally near, the greedy method takes the surer one.
    radius_px
        Greatest distance of a pair, inclusive, pixels.
    roi
        (rows, cols) region: only points and detections whose centre lies in it count.

    Returns
    -------
    The counts, and the pairs as indices into the arrays that were given.

    Raises
    ------
    InputError
        A coordinate is not finite, the radius is not above 0, or the method is unknown.
    """
    p_xy, p_label = _points(pred_xy), np.asarray(pred_label, dtype=np.str_)
    t_xy, t_label = _points(truth_xy), np.asarray(truth_label, dtype=np.str_)
    # Surest first: the greedy method then settles ties by score.
    pred = np.argsort(-np.asarray(pred_score, dtype=np.float64), kind="stable")
    pred = pred[(p_label[pred] != IGNORED) & _counts(p_xy[pred], roi)]
    truth_in = _counts(t_xy, roi)
    truth = np.flatnonzero((t_label != IGNORED) & truth_in)
    ignored = np.flatnonzero((t_label == IGNORED) & truth_in)

    pairs = match_points(p_xy[pred], t_xy[truth], radius_px, method)
    of_pred, of_truth = pred[pairs.pred], truth[pairs.truth]
    left = np.delete(pred, pairs.pred)
    on_ignored = match_points(p_xy[left], t_xy[ignored], radius_px, method)
    confusion = Confusion(
        matched=np.array([_tally(p_label[of_pred[t_label[of_truth] == label]]) for label in LABELS]),
        missed=_tally(t_label[np.delete(truth, pairs.truth)]),
        spurious=_tally(p_label[np.delete(left, on_ignored.pred)]),
        ignored=len(on_ignored),
    )
    return confusion, Matches(of_pred, of_truth, pairs.distance)


def _points(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1, 2)


def _counts(xy: NDArray[np.float64], roi: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    return np.ones(len(xy), dtype=bool) if roi is None else inside(xy, roi)


def _tally(labels: NDArray[np.str_]) -> NDArray[np.int64]:
    """Count each class, in the order of `schema.LABELS`."""
    return np.array([np.count_nonzero(labels == label) for label in LABELS], dtype=np.int64)


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
    """

    slide_id: str
    confusion: Confusion
    mpp: float
    mpp_source: str
    mean_distance_um: float | None
    has_roi: bool

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "slide_id": self.slide_id,
            "mpp": self.mpp,
            "mpp_source": self.mpp_source,
            "has_roi": self.has_roi,
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
    """

    radius_um: float
    method: Method
    slides: tuple[SlideEvaluation, ...]
    not_evaluated: dict[str, str]
    agreement: Agreement | None

    @property
    def pooled(self) -> Confusion:
        """All slides' counts added up (micro average)."""
        return sum((slide.confusion for slide in self.slides), Confusion.zero())

    @property
    def percentages(self) -> tuple[list[float], list[float]]:
        """Percent positive by annotation and by detection, of the slides where both have one."""
        return percentages(self.slides)

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "matching": {"method": self.method, "radius_um": self.radius_um},
            "n_slides": len(self.slides),
            "pooled": self.pooled.to_dict(),
            "agreement_percent_positive": asdict(self.agreement) if self.agreement else None,
            "slides": [slide.to_dict() for slide in self.slides],
            "not_evaluated": self.not_evaluated,
            "note": "Research use only.",
        }


def percentages(slides: tuple[SlideEvaluation, ...]) -> tuple[list[float], list[float]]:
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
) -> Evaluation:
    """Compare detections with truth, slide by slide, for the slides that have both.

    Parameters
    ----------
    results
        The results folder of a run, one slide's folder in it, or one table of detections (Parquet or CSV,
        see `points.read_points`).
    truth
        One table, or a folder as `points.find_truth` reads it.
    radius_um
        Greatest distance of a pair, µm.
    mpp
        µm per pixel of all slides; else the truth's `index.csv` says it, else the run's `slide.json`.

    Raises
    ------
    InputError
        A file cannot be read, no slide has both, or a slide's µm per pixel is not known.
    """
    if not (np.isfinite(radius_um) and radius_um > 0):
        raise InputError(f"matching radius {radius_um} µm must be above 0")
    detected, truths = find_detections(results), find_truth(truth)
    if Path(results).is_file() and len(truths) == 1:
        detected = dict(zip(truths, detected.values(), strict=True))
    elif Path(truth).is_file() and len(detected) == 1:
        truths = dict(zip(detected, truths.values(), strict=True))
    both = sorted(detected.keys() & truths.keys())
    if not both:
        raise InputError(
            f"no slide id is in both {results} ({_some(detected)}) and {truth} ({_some(truths)}); "
            "name the truth's folders as the sheet names the slides"
        )
    slides, left_out = [], {name: "no truth" for name in sorted(detected.keys() - truths.keys())}
    left_out |= {name: "no detections" for name in sorted(truths.keys() - detected.keys())}
    for name in both:
        if detected[name].trouble:
            left_out[name] = detected[name].trouble
        else:
            slides.append(_evaluate_slide(name, detected[name], truths[name], radius_um, method, mpp))
    truth_percent, predicted_percent = percentages(tuple(slides))
    agreement = agree(truth_percent, predicted_percent) if len(truth_percent) > 1 else None
    return Evaluation(radius_um, method, tuple(slides), left_out, agreement)


def _some(names: dict[str, Any]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


@dataclass(frozen=True)
class Detected:
    """One slide's detections.

    Parameters
    ----------
    table
        The file.
    mpp, size
        µm per pixel and (width, height) in pixels by `slide.json`, if known.
    trouble
        Why the slide cannot be evaluated; empty if it can.
    """

    table: Path
    mpp: float | None = None
    size: tuple[int, int] | None = None
    trouble: str = ""


def find_detections(path: str | Path) -> dict[str, Detected]:
    """Find the detections of one or many slides, by slide id.

    Raises
    ------
    InputError
        There are none.
    """
    root = Path(path)
    if root.is_file():
        has_own_folder = root.name == "nuclei.parquet"
        name = root.resolve().parent.name if has_own_folder else root.stem
        return {name: _detected(root, root.resolve().parent)}
    if not root.is_dir():
        raise InputError(f"{root}: no such file or folder")
    if (root / "nuclei.parquet").is_file():
        return {root.resolve().name: _detected(root / "nuclei.parquet", root)}
    folder = root / "slides" if (root / "slides").is_dir() else root
    found = {
        slide.name: _detected(slide / "nuclei.parquet", slide)
        for slide in sorted(folder.iterdir())
        if (slide / "nuclei.parquet").is_file() or (slide / "slide.json").is_file()
    }
    if not found:
        raise InputError(
            f"{root}: holds no slides/<slide id>/nuclei.parquet; give the results folder of a run"
        )
    return found


def _detected(table: Path, folder: Path) -> Detected:
    status, mpp, size = Status.OK, None, None
    if (folder / "slide.json").is_file():
        record = read_json(folder / "slide.json")
        status, info = Status(record["status"]), record["info"]
        if info:
            mpp, size = info["mpp"], (info["width"], info["height"])
    if (folder / "summary.json").is_file():
        # The slide opened, and detection then failed on it.
        status = Status(read_json(folder / "summary.json")["row"]["status"])
    if status in UNSEEN:
        return Detected(table, mpp, size, f"the run could not read the slide: {status.value}")
    if table.is_file():
        return Detected(table, mpp, size)
    return Detected(table, mpp, size, f"{table} is missing: the run did not finish this slide")


def _evaluate_slide(
    name: str, detected: Detected, truth: Truth, radius_um: float, method: Method, mpp: float | None
) -> SlideEvaluation:
    scale, source = _scale(name, detected, truth, mpp)
    pred, true = read_points(detected.table), read_points(truth.points)
    roi = read_roi(truth.roi) if truth.roi else None
    if roi is not None and detected.size and roi.shape != detected.size[::-1]:
        raise InputError(
            f"{truth.roi}: is {roi.shape[1]} x {roi.shape[0]} px, the slide {detected.size[0]} x "
            f"{detected.size[1]}; draw it at the slide's full size"
        )
    confusion, pairs = evaluate_points(
        pred.xy, pred.label, pred.score, true.xy, true.label, radius_um / scale, method=method, roi=roi
    )
    distance = float(pairs.distance.mean()) * scale if len(pairs) else None
    return SlideEvaluation(name, confusion, scale, source, distance, roi is not None)


def _scale(name: str, detected: Detected, truth: Truth, mpp: float | None) -> tuple[float, str]:
    for value, source in ((mpp, "argument"), (truth.mpp, "index.csv"), (detected.mpp, "slide.json")):
        if value is not None:
            return value, source
    raise InputError(
        f"{name}: µm per pixel is not known; give --mpp, or mpp in an index.csv beside the truth"
    )
