"""Percent positive over the cohort: how many slides lie where, and every slide as one bar, lowest first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ercohort.scoring import HIGH_PERCENT, LOW_PERCENT, ERCategory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CATEGORY_COLOURS = {
    ERCategory.NEGATIVE: "#2F6DB5",
    ERCategory.LOW_POSITIVE: "#E8A317",
    ERCategory.POSITIVE: "#8A1C4A",
}
"""Blue, amber and wine: apart in hue and in lightness, so also with any colour blindness and in grey."""

RANGES = (0, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""Limits of the ranges, %: the cut-offs are among them, so that no range mixes categories."""

TICKS = (0, 1, 5, 10, 25, 50, 75, 100)
MANY = 400
"""With more slides the intervals are narrower than a line can be drawn."""

FEW = 100
"""With more slides, gaps between the bars would make them pale."""

INK = "#1c2026"


def draw_percent_positive(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the two plots as one SVG picture.

    Parameters
    ----------
    rows
        Rows of the cohort table; those without `percent_positive` are left out.

    Returns
    -------
    The `<svg>` element. The bar of `rows[i]` is the group `bar-i`. The same rows give the same text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    scored = [(index, row) for index, row in enumerate(rows) if row.get("percent_positive") is not None]
    scored.sort(key=_percent_of)
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ercohort",
        "font.family": ["sans-serif"],
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(13, 3.6), layout="constrained")
        ranges, bars = figure.subplots(1, 2, width_ratios=(1, 2))
        _draw_ranges(ranges, [row for _, row in scored])
        _draw_bars(bars, scored)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def count_ranges(percents: Sequence[float]) -> np.ndarray:
    """Count slides in each range of `RANGES`; exactly 1 % and exactly 10 % are Low Positive."""
    values = np.asarray(percents, dtype=np.float64)
    place = np.searchsorted(RANGES, values, side="left") - 1
    place = np.where(values < LOW_PERCENT, 0, np.where(values == LOW_PERCENT, 1, place))
    return np.bincount(place, minlength=len(RANGES) - 1)


def _percent_of(entry: tuple[int, Mapping[str, Any]]) -> tuple[float, int]:
    return entry[1]["percent_positive"], entry[0]


def _draw_ranges(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = count_ranges([row["percent_positive"] for row in rows])
    colours = [CATEGORY_COLOURS[_category_above(low)] for low in RANGES[:-1]]
    axes.bar(np.arange(len(counts)) + 0.5, counts, width=0.86, color=colours)
    for place, count in enumerate(counts.tolist()):
        if count:
            axes.text(place + 0.5, count, f"{count:,}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(RANGES)), [f"{limit:g}" for limit in RANGES], fontsize=9)
    for cut in (LOW_PERCENT, HIGH_PERCENT):
        axes.axvline(RANGES.index(cut), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, len(RANGES) - 1)
    axes.set_ylim(0, max(int(counts.max(initial=0)) * 1.15, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Positive nuclei, % (ranges; dashed: 1 % and 10 %)")
    axes.set_ylabel("Slides")
    _plain(axes)


def _draw_bars(axes: Axes, scored: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    axes.set_yscale("function", functions=(_root, np.square))
    # A slide without a positive nucleus still is a bar that can be seen and pointed at.
    heights = [max(row["percent_positive"], 0.02) for _, row in scored]
    colours = [CATEGORY_COLOURS[ERCategory(row["er_category"])] for _, row in scored]
    width = 0.86 if len(scored) <= FEW else 1.0
    bars = axes.bar(np.arange(len(scored)), heights, width=width, color=colours)
    for bar, (index, _) in zip(bars, scored, strict=True):
        bar.set_gid(f"bar-{index}")
    if len(scored) <= MANY:
        low = [row.get("ci_low") or 0 for _, row in scored]
        high = [
            row["percent_positive"] if row.get("ci_high") is None else row["ci_high"] for _, row in scored
        ]
        axes.vlines(range(len(scored)), low, high, color=INK, linewidth=1)
    for cut in (LOW_PERCENT, HIGH_PERCENT):
        axes.axhline(cut, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(TICKS, [f"{tick} %" for tick in TICKS])
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, max(len(scored), 1) - 0.4)
    axes.set_xticks([])
    interval = ", with 95 % intervals" if len(scored) <= MANY else ""
    slides = "1 slide" if len(scored) == 1 else f"{len(scored):,} slides"
    axes.set_xlabel(f"{slides}, lowest first{interval} (root scale; dashed: 1 % and 10 %)")
    axes.set_ylabel("Positive nuclei")
    _plain(axes)


def _category_above(low: float) -> ERCategory:
    if low < LOW_PERCENT:
        return ERCategory.NEGATIVE
    return ERCategory.LOW_POSITIVE if low < HIGH_PERCENT else ERCategory.POSITIVE


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0))


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
