"""The files of an evaluation, in one folder."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ercohort.annotated import Annotated
from ercohort.evaluate import Evaluation, SlideEvaluation, write_evaluation
from ercohort.evaluation_report import format_evaluation, plot_agreement
from ercohort.files import atomic_path
from ercohort.inert import safe_text

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 110
"""Of the report, characters."""


def write_outputs(
    folder: str | Path, evaluation: Evaluation, annotated: Annotated, *, pictures: bool = True
) -> None:
    """Write `evaluation.json`, `slides.csv` and `report.txt`, and the pictures if they are wanted.

    These are `agreement.png`, `curve.png`, `froc.png` and `worst_fields.jpg`; one that has nothing to show
    says why, so that all of them are always there.

    Parameters
    ----------
    annotated
        What was evaluated, for the fields of `worst_fields.jpg`.
    """
    folder = Path(folder)
    if pictures:
        _draw(folder, evaluation, annotated)
    write_slides(folder / "slides.csv", evaluation)
    write_report(folder / "report.txt", format_evaluation(evaluation))
    write_evaluation(folder / "evaluation.json", evaluation)


def _draw(folder: Path, evaluation: Evaluation, annotated: Annotated) -> None:
    from ercohort.evaluation_pictures import plot_curve, plot_froc, plot_nothing
    from ercohort.worst_fields import write_worst_fields

    if evaluation.agreement is None:
        plot_nothing(folder / "agreement.png", "No agreement: fewer than 2 slides have a percentage.")
    else:
        plot_agreement(folder / "agreement.png", *evaluation.percentages, agreement=evaluation.agreement)
    plot_curve(folder / "curve.png", evaluation)
    plot_froc(folder / "froc.png", evaluation)
    write_worst_fields(folder / "worst_fields.jpg", evaluation, annotated)


def write_report(path: str | PathLike[str], report: RenderableType) -> None:
    """Write as text what `ercohort evaluate` prints."""
    from rich.console import Console

    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        Console(file=handle, width=WIDTH, color_system=None, force_terminal=False).print(report)


def write_slides(path: str | PathLike[str], evaluation: Evaluation) -> None:
    """Write one row for each slide, also for those that were not evaluated, and why, as CSV."""
    rows = [_row(slide) for slide in evaluation.slides]
    rows += [{"slide_id": name, "not_evaluated": why} for name, why in evaluation.not_evaluated.items()]
    columns = _row(SlideEvaluation("", evaluation.pooled, 1.0, "", None, False))
    names = [*columns, "not_evaluated"]
    table = pl.DataFrame(
        {name: [row.get(name) for row in sorted(rows, key=lambda row: row["slide_id"])] for name in names},
        strict=False,
    )
    # Slides are named after folders of the truth here, which no sheet has checked.
    table = table.with_columns(pl.col(pl.String).map_elements(safe_text, return_dtype=pl.String))
    with atomic_path(path) as temporary:
        table.rename({name: safe_text(name) for name in names}).write_csv(temporary)


def _row(slide: SlideEvaluation) -> dict[str, Any]:
    confusion = slide.confusion
    detection = confusion.detection
    row: dict[str, Any] = {"slide_id": slide.slide_id, "n_truth": 0, "n_found": 0}
    row["n_truth"], row["n_found"] = detection.tp + detection.fn, detection.tp + detection.fp
    row |= detection.to_dict()
    for label, score in confusion.by_class.items():
        row |= {
            f"n_truth_{label}": score.tp + score.fn,
            f"n_found_{label}": score.tp + score.fp,
            f"f1_{label}": score.f1,
        }
    return row | {
        "class_mean_f1": confusion.class_mean["f1"],
        "percent_positive_truth": confusion.percent_truth,
        "percent_positive_found": confusion.percent_predicted,
        "percent_positive_difference": confusion.percent_difference,
        "false_positives_per_10k_negatives": confusion.false_positives_per_10k,
        "n_on_ignored": confusion.ignored,
        "mean_distance_um": slide.mean_distance_um,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "area_mm2": slide.area_mm2,
        "area_source": slide.area_source or None,
    }
