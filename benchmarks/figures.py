"""Figures with their targets, and the forms in which they are shown: table, JSON, picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ercohort.files import atomic_path, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Figure:
    """One measured number; `at_most` or `at_least` is its target, if it has one."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str | None:
        """The target as text."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return None if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def to_dict(self) -> dict[str, Any]:
        """Return what `results.json` holds."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "reached": self.reached,
        }


@dataclass(frozen=True)
class Part:
    """One part of the benchmark: its figures, how to draw it, and what a reader has to know."""

    title: str
    figures: list[Figure]
    draw: Callable[[Axes], None] | None = None
    remarks: list[str] = field(default_factory=list)


def show(part: Part, console: Console) -> None:
    """Print one part as a table."""
    table = Table(title=part.title, title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("target", justify="right")
    table.add_column("")
    words = {True: "[green]reached", False: "[red]missed", None: ""}
    for figure in part.figures:
        value, reached = number(figure.value), words[figure.reached]
        table.add_row(figure.name, value, figure.unit, figure.target or "", reached)
    console.print(table)
    for remark in part.remarks:
        console.print(f"  {remark}", highlight=False)
    console.print()


def number(value: float) -> str:
    """Three significant digits, four just below 1; whole numbers with all of theirs."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 0.9 < value < 1 else f"{value:.3g}"


def write_results(path: Path, parts: Sequence[Part], about: dict[str, Any]) -> None:
    """Write `results.json`: the machine and revision, and every figure."""
    figures = [one for part in parts for one in _spelled_out(part)]
    remarks = [remark for part in parts for remark in part.remarks]
    write_json(path, {**about, "figures": figures, "remarks": remarks})


def _spelled_out(part: Part) -> list[dict[str, Any]]:
    """Name an indented figure after the one that it belongs to, so that its name says all."""
    rows, above = [], ""
    for figure in part.figures:
        name = figure.name
        if name.startswith("  "):
            name = f"{above}: {name.strip()}"
        else:
            above = name.partition(":")[0]
        rows.append({"part": part.title, **figure.to_dict(), "name": name})
    return rows


def draw(path: Path, parts: Sequence[Part], title: str) -> None:
    """Draw the parts that can be drawn, two a row, into one picture."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    drawn = [part for part in parts if part.draw is not None]
    if not drawn:
        return
    rows = -(-len(drawn) // 2)
    figure, grid = plt.subplots(
        rows, min(len(drawn), 2), figsize=(13, 4.6 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    for part, axes in zip(drawn, grid.flat, strict=False):
        axes.set_title(part.title, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        assert part.draw is not None
        part.draw(axes)
    figure.suptitle(title, fontsize=10, color="0.35")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
