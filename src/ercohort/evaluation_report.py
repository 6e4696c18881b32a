"""What a person reads of an evaluation: a table for the terminal and a picture of the agreement."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ercohort.agreement import Agreement, Estimate, bland_altman
from ercohort.confusion import Confusion
from ercohort.errors import InputError
from ercohort.files import atomic_path
from ercohort.schema import LABELS
from ercohort.scoring import HIGH_PERCENT, LOW_PERCENT

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ercohort.bootstrap import Intervals
    from ercohort.evaluate import Evaluation

SHORT: dict[tuple[str, ...], tuple[str, ...]] = {LABELS: ("pos", "neg")}
"""Classes as the headings of the slides' table name them, where the room needs it."""

MAX_COLUMNS = 3
"""With more classes, their F1 stand in the table of classes alone."""


def format_evaluation(evaluation: Evaluation) -> RenderableType:
    """Lay out an evaluation for `rich`: slides, all slides, classes, agreement; it fits 110 columns."""
    from rich.console import Group
    from rich.text import Text

    how = (
        "most pairs, least distance (Hungarian)"
        if evaluation.method == "hungarian"
        else "nearest first (greedy)"
    )
    head = f"Nuclei paired one to one within {evaluation.radius_um:g} µm, {how}."
    parts: list[RenderableType] = [
        Text(head),
        _slide_table(evaluation),
        Text(),
        _class_table(evaluation.pooled),
    ]
    parts += [Text(line) for line in _lines(evaluation)]
    if evaluation.not_evaluated:
        parts.append(Text(f"{len(evaluation.not_evaluated)} slides were not evaluated:", style="bold"))
        parts += [Text(f"  {name}: {why}") for name, why in evaluation.not_evaluated.items()]
    return Group(*parts, Text("Research use only.", style="italic"))


def _lines(evaluation: Evaluation) -> list[str]:
    """Return what is said of the cohort below the tables."""
    lines = []
    rate, few = evaluation.pooled.false_positives_per_10k, evaluation.few_positives
    if rate is not None:
        lines.append(f"False positive nuclei per 10,000 negatives: {rate:.0f}")
    if few is not None and len(few.slides) < len(evaluation.slides):
        lines.append(
            f"  on the slides of the fewest positives ({len(few.slides)}, up to "
            f"{few.highest_percent:.1f} %): "
            f"{_estimate(few.false_positives_per_10k, '.0f')}"
        )
    if evaluation.agreement:
        lines += _agreement_lines(evaluation.agreement)
    if evaluation.intervals:
        lines += _interval_lines(evaluation.intervals)
    if precision := evaluation.average_precision:
        lines.append(
            f"Boxes ({precision.n_boxes:,} on {precision.n_slides} slides, detections above "
            f"{_number(precision.lowest_score, '.2f')}): mAP50 {precision.map50:.3f}, "
            f"mAP50-95 {precision.map50_95:.3f}"
        )
    return lines


def _interval_lines(intervals: Intervals) -> list[str]:
    return [
        f"95 % intervals by bootstrap, slides drawn {intervals.n_resamples:,} times:",
        f"  F1 {_estimate(intervals.detection_f1)}, mean of classes {_estimate(intervals.class_mean_f1)}",
        f"  percent positive: bias {_estimate(intervals.percent_positive_bias, '+.1f')} points, "
        f"ICC {_estimate(intervals.percent_positive_icc)}",
        f"  false positives per 10,000 negatives {_estimate(intervals.false_positives_per_10k, '.0f')}",
    ]


def _headings(labels: tuple[str, ...]) -> list[str]:
    names = SHORT.get(labels, tuple(label.rpartition(":")[2].strip()[:8] for label in labels))
    by_class = [f"F1 {name}" for name in names] if len(labels) <= MAX_COLUMNS else []
    return [
        "Slide", "Truth", "Found", "Precision", "Recall", "F1", *by_class, "F1 mean",
        "% truth", "% found", "Diff",
    ]  # fmt: skip


def _slide_table(evaluation: Evaluation) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in _headings(evaluation.labels):
        left = heading == "Slide"
        table.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for slide in evaluation.slides:
        table.add_row(Text(slide.slide_id), *_cells(slide.confusion))
    if len(evaluation.slides) != 1:
        table.add_row("all, pooled", *_cells(evaluation.pooled), style="bold")
    return table


def _cells(confusion: Confusion) -> list[str]:
    detection, by_class = confusion.detection, confusion.by_class
    shares = (
        detection.precision,
        detection.recall,
        detection.f1,
        *(score.f1 for score in by_class.values() if len(by_class) <= MAX_COLUMNS),
        confusion.class_mean["f1"],
    )
    counts = (sum(confusion.n_truth.values()), sum(confusion.n_predicted.values()))
    return [
        *(f"{count:,}" for count in counts),
        *(_number(share, ".3f") for share in shares),
        _number(confusion.percent_truth, ".1f"),
        _number(confusion.percent_predicted, ".1f"),
        _number(confusion.percent_difference, "+.1f"),
    ]


def _class_table(pooled: Confusion) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("All slides", "Precision", "Recall", "F1", "Right", "False", "Missed"):
        table.add_column(heading, justify="left" if heading == "All slides" else "right")
    rows = {"any class": pooled.detection, **pooled.by_class}
    for name, score in rows.items():
        shares = (_number(value, ".3f") for value in (score.precision, score.recall, score.f1))
        table.add_row(Text(name), *shares, f"{score.tp:,}", f"{score.fp:,}", f"{score.fn:,}")
    mean = pooled.class_mean
    table.add_row("mean of classes", *(_number(mean[key], ".3f") for key in ("precision", "recall", "f1")))
    return table


def _agreement_lines(agreement: Agreement) -> list[str]:
    limits = agreement.bland_altman
    return [
        f"Percent positive over {agreement.n} slides: "
        f"Pearson r {_estimate(agreement.pearson)}, ICC(2,1) {_estimate(agreement.icc)}",
        f"Bland-Altman bias {_number(limits.bias, '+.1f')} points, 95 % limits of agreement "
        f"{_number(limits.lower, '+.1f')} to {_number(limits.upper, '+.1f')}",
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _estimate(estimate: Estimate, form: str = ".3f") -> str:
    interval = f" ({_number(estimate.ci_low, form)} to {_number(estimate.ci_high, form)})"
    return _number(estimate.value, form) + (interval if estimate.ci_low is not None else "")


def plot_agreement(
    path: str | PathLike[str], truth: Sequence[float], predicted: Sequence[float], *, agreement: Agreement
) -> None:
    """Draw percent positive by detection against annotation, and their difference (Bland-Altman).

    Parameters
    ----------
    path
        PNG, SVG or PDF, chosen by the suffix.
    truth, predicted
        Percent positive of the same slides.
    agreement
        Their `agreement.agree`.

    Raises
    ------
    InputError
        The suffix is none that can be drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    scatter, difference = figure.subplots(1, 2)
    _draw_scatter(scatter, truth, predicted, agreement)
    _draw_bland_altman(difference, truth, predicted)
    figure.supxlabel("Research use only.", fontsize=8, color="0.4")
    known = canvas.get_supported_filetypes()
    suffix = str(path).rsplit(".", 1)[-1].lower()
    if suffix not in known:
        raise InputError(f"{path}: a picture cannot be written as .{suffix}; use .png, .svg or .pdf")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_scatter(
    axes: Any, truth: Sequence[float], predicted: Sequence[float], agreement: Agreement
) -> None:
    axes.axline((0, 0), (1, 1), color="0.6", linewidth=1)
    for cut in (LOW_PERCENT, HIGH_PERCENT):
        axes.axhline(cut, color="0.8", linewidth=0.8, linestyle=":")
        axes.axvline(cut, color="0.8", linewidth=0.8, linestyle=":")
    axes.scatter(truth, predicted, s=28, color="#8c4a1f", alpha=0.75, edgecolors="white", zorder=3)
    axes.set(
        xlim=(-2, 102), ylim=(-2, 102), aspect="equal",
        xlabel="Positive nuclei, annotated (%)", ylabel="Positive nuclei, detected (%)",
        title=f"{agreement.n} slides",
    )  # fmt: skip
    figures = f"Pearson r {_estimate(agreement.pearson)}\nICC(2,1) {_estimate(agreement.icc)}"
    axes.text(0.03, 0.97, figures, transform=axes.transAxes, va="top", fontsize=9)


def _draw_bland_altman(axes: Any, truth: Sequence[float], predicted: Sequence[float]) -> None:
    first, second = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    limits = bland_altman(first, second)
    axes.axhline(0, color="0.8", linewidth=0.8)
    for name, value in (("bias", limits.bias), ("lower limit", limits.lower), ("upper limit", limits.upper)):
        if value is not None:
            axes.axhline(value, color="#2b5c8a", linewidth=1.2, linestyle="-" if name == "bias" else "--")
            label = f"{name} {value:+.1f}"
            axes.annotate(
                label, (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                textcoords="offset points", ha="right", fontsize=8, color="#2b5c8a",
            )  # fmt: skip
    axes.scatter((first + second) / 2, second - first, s=28, color="#8c4a1f", alpha=0.75, edgecolors="white")
    axes.margins(x=0.05, y=0.2)
    axes.set(
        xlabel="Mean of annotated and detected (%)", ylabel="Detected - annotated (points)",
        title="Bland-Altman, 95 % limits of agreement",
    )  # fmt: skip
