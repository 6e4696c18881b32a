"""Pictures of an evaluation: the figures over the score, and the free-response ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ercohort.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ercohort.evaluate import Evaluation
    from ercohort.operating_curve import CurvePoint

# Okabe and Ito's colours, which stay apart with any colour blindness; dashes tell the lines without colour.
LINES = (
    ("#000000", "-"),
    ("#0072B2", "--"),
    ("#D55E00", "-."),
    ("#009E73", ":"),
    ("#CC79A7", (0, (6, 2))),
    ("#E69F00", (0, (2, 1))),
)
NOTICE = "Research use only. Not for diagnosis."


def plot_curve(path: str | PathLike[str], evaluation: Evaluation) -> None:
    """Draw precision, recall, F1 and the bias of percent positive over the least score of a detection.

    The chosen score is marked, with its figures. Without a curve the picture says so.

    Parameters
    ----------
    path
        PNG, SVG or PDF, chosen by the suffix.
    """
    figure = _figure()
    if len(evaluation.curve) < 2:
        _say(figure, "No curve: the detections have no scores to vary.")
    else:
        chosen = next((point for point in evaluation.curve if point.score == evaluation.score), None)
        shares, bias = figure.subplots(1, 2)
        _draw_shares(shares, evaluation.curve, chosen)
        _draw_bias(bias, evaluation.curve, chosen)
        for axes in (shares, bias):
            axes.set_xlabel("Least score of a detection")
            axes.grid(color="0.92")
            if chosen is not None:
                axes.axvline(chosen.score, color="0.35", linewidth=1, zorder=1)
        figure.suptitle(_title(evaluation), fontsize=11)
    _save(figure, path)


def _shares(point: CurvePoint) -> dict[str, float | None]:
    detection = point.pooled.detection
    return {
        "F1, any class": detection.f1,
        "F1, mean of classes": point.pooled.class_mean["f1"],
        "Precision": detection.precision,
        "Recall": detection.recall,
    }


def _draw_shares(axes: Any, curve: Sequence[CurvePoint], chosen: CurvePoint | None) -> None:
    scores = [point.score for point in curve]
    lines = [_shares(point) for point in curve]
    for name, (colour, dashes) in zip(lines[0], LINES, strict=False):
        value = _shares(chosen)[name] if chosen else None
        label = name if value is None else f"{name}: {value:.3f}"
        values = _gaps([line[name] for line in lines])
        axes.plot(scores, values, color=colour, linestyle=dashes, linewidth=2, label=label)
        if chosen is not None and value is not None:
            axes.plot(chosen.score, value, "o", color=colour, markersize=7, markeredgecolor="white")
    title = "Nuclei found" if chosen is None else f"Nuclei found, in figures at score {chosen.score:g}"
    axes.set(ylim=(0, 1), ylabel="Share", title=title)
    axes.legend(fontsize=9, loc="lower left", framealpha=0.95)


def _draw_bias(axes: Any, curve: Sequence[CurvePoint], chosen: CurvePoint | None) -> None:
    axes.axhspan(-2, 2, color="#56B4E9", alpha=0.2, linewidth=0)
    axes.axhline(0, color="0.6", linewidth=0.8)
    values = _gaps([point.bias for point in curve])
    axes.plot([point.score for point in curve], values, color=LINES[0][0], linewidth=2)
    title = "Percent positive: bias, mean of slides"
    if chosen is not None and chosen.bias is not None:
        axes.plot(chosen.score, chosen.bias, "o", color=LINES[0][0], markersize=7, markeredgecolor="white")
        title = f"Percent positive: bias {chosen.bias:+.1f} points at {chosen.score:g}"
    axes.margins(y=0.1)
    axes.set(ylabel="Detected - annotated (points); band: 2 points", title=title)


def _write(axes: Any, text: str, at: tuple[float, float], shift: tuple[int, int]) -> None:
    """Write beside a mark, over whatever line runs there."""
    axes.annotate(
        text, at, xytext=shift, textcoords="offset points", fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def plot_froc(path: str | PathLike[str], evaluation: Evaluation) -> None:
    """Draw sensitivity against false positives per mm², for any class and for each.

    A detection of the wrong class is a false positive of that class, not of detection. Where no area is
    known, or there is no curve, the picture says so.

    References
    ----------
    Bunch et al., Proc SPIE 127 (1977) 124-135.
    """
    figure = _figure(7.2)
    rated = [point for point in evaluation.curve if point.false_positives_per_mm2 is not None]
    if len(rated) < 2:
        _say(figure, "No curve: the evaluated area is not known, or there are no scores to vary.")
    else:
        axes = figure.subplots()
        lines = {"any class": [_of_any(point) for point in rated]}
        if len(evaluation.labels) < len(LINES):
            lines |= {label: [point.of_class(label) for point in rated] for label in evaluation.labels}
        for (name, values), (colour, dashes) in zip(lines.items(), LINES, strict=False):
            sensitivity, rate = zip(*values, strict=True)
            places = _gaps(rate), _gaps(sensitivity)
            axes.plot(*places, color=colour, linestyle=dashes, linewidth=2, label=name)
        _mark_froc(axes, rated, evaluation)
        axes.grid(color="0.92")
        axes.set(
            ylim=(0, 1), xlabel="False positives per mm²", ylabel="Sensitivity (share of nuclei found)",
        )  # fmt: skip
        axes.set_xlim(left=0)
        axes.legend(fontsize=9, loc="lower right")
        area = rated[0].area_mm2 or 0.0
        axes.set_title(f"{_title(evaluation)}\n{area:.3g} mm²", fontsize=11)
    _save(figure, path)


def _of_any(point: CurvePoint) -> tuple[float | None, float | None]:
    return point.pooled.detection.recall, point.false_positives_per_mm2


def _mark_froc(axes: Any, rated: Sequence[CurvePoint], evaluation: Evaluation) -> None:
    """Mark the chosen score on every line."""
    for point in rated:
        if point.score != evaluation.score:
            continue
        places = [_of_any(point), *(point.of_class(label) for label in evaluation.labels)]
        for (sensitivity, rate), (colour, _) in zip(places, LINES, strict=False):
            if sensitivity is not None and rate is not None:
                axes.plot(rate, sensitivity, "o", color=colour, markersize=8, markeredgecolor="white")
        sensitivity, rate = places[0]
        if sensitivity is not None and rate is not None:
            _write(axes, f"score {point.score:g}", (rate, sensitivity), (9, -14))


def _title(evaluation: Evaluation) -> str:
    n_nuclei = sum(evaluation.pooled.n_truth.values())
    return f"{len(evaluation.slides)} slides, {n_nuclei:,} annotated nuclei"


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def plot_nothing(path: str | PathLike[str], why: str) -> None:
    """Write a picture that says why there is none."""
    figure = _figure()
    _say(figure, why)
    _save(figure, path)


def _figure(width: float = 10) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 4.8), layout="constrained")


def _say(figure: Figure, why: str) -> None:
    figure.text(0.5, 0.5, why, ha="center", va="center", fontsize=12, wrap=True)


def _save(figure: Figure, path: str | PathLike[str]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.supxlabel(NOTICE, fontsize=8, color="0.3")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
