"""How training went, as a picture: losses and validation over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ercohort.files import atomic_path

_LOSSES = {"box_loss": "box (CIoU)", "cls_loss": "class (BCE)", "dfl_loss": "edge (DFL)"}
_FIGURES = {
    "class_f1": "F1, mean of classes",
    "f1": "F1, any class",
    "precision": "precision, any class",
    "recall": "recall, any class",
    "map50": "mAP50 (boxes)",
}
# Okabe and Ito 2008: distinct with any colour blindness.
_COLOURS = ("#0072B2", "#000000", "#E69F00", "#009E73", "#CC79A7")


def draw_curves(
    path: str | Path,
    epochs: Sequence[Mapping[str, float]],
    *,
    start: Mapping[str, float] | None = None,
    finished: str = "",
) -> None:
    """Draw the losses on the training tiles and the figures on the validation tiles.

    Parameters
    ----------
    path
        The picture to write, `.png`.
    epochs
        Rows of `RunRecord.epochs`.
    start
        Figures of the weights that training started from.
    finished
        Why training ended.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    losses, figures = figure.subplots(1, 2)
    _draw_losses(losses, epochs)
    _draw_figures(figures, [row for row in epochs if "class_f1" in row], start or {})
    for axes in (losses, figures):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    ended = f"Training ended: {finished}. " if finished else ""
    figure.supxlabel(f"{ended}Research use only.", fontsize=8, color="0.4")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_losses(axes: Any, epochs: Sequence[Mapping[str, float]]) -> None:
    for (key, name), colour in zip(_LOSSES.items(), _COLOURS, strict=False):
        rows = [row for row in epochs if key in row]
        axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], ".-", color=colour, label=name)
    axes.set_title("Loss on the training tiles", loc="left")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _draw_figures(axes: Any, epochs: Sequence[Mapping[str, float]], start: Mapping[str, float]) -> None:
    axes.set_title("Validation tiles, centres within 5 µm", loc="left")
    if not epochs:
        axes.text(0.5, 0.5, "no tiles were set aside", transform=axes.transAxes, ha="center", color="0.4")
        return
    for (key, name), colour in zip(_FIGURES.items(), _COLOURS, strict=True):
        x, y = [row["epoch"] for row in epochs], [row[key] for row in epochs]
        axes.plot(x, y, ".-", color=colour, label=name, linewidth=2.5 if key == "class_f1" else 1.2)
    best = max(epochs, key=lambda row: row["class_f1"])
    axes.plot(best["epoch"], best["class_f1"], "o", ms=11, mfc="none", color=_COLOURS[0])
    label = f"kept: epoch {best['epoch']:g}, {best['class_f1']:.3f} at score {best['score']:.2f}"
    axes.axvline(best["epoch"], color=_COLOURS[0], linewidth=0.8, linestyle=":", label=label)
    if start:
        label = f"before: {start['class_f1']:.3f}"
        axes.axhline(start["class_f1"], color=_COLOURS[0], linewidth=1.2, linestyle="--", label=label)
    lowest = min(row[key] for row in (*epochs, *([start] if start else [])) for key in _FIGURES)
    axes.set_ylim(max(math.floor(10 * lowest - 0.5) / 10, 0), 1.005)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
