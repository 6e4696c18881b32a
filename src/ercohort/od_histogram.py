"""How strongly the nuclei of each class are stained: optical densities of DAB beside the thresholds.

Drawn with the canvas of the other pictures, in some hundredths of a second: a plotting library takes half a
second to load, in the job of every slide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from ercohort.canvas import (
    FOOTER,
    GREY,
    HEADER,
    INK,
    KEY_LINE,
    MARGIN,
    RULE,
    Page,
    footer,
    header,
    key_lines,
)
from ercohort.files import atomic_path
from ercohort.geojson import class_colours
from ercohort.schema import class_index, class_names
from ercohort.strokes import draw_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.config import ScoreSettings

BIN = 0.02
TOP_OD = 1.4
"""Denser nuclei count in the last bin."""

WIDTH, PLOT_HEIGHT, LEFT, ABOVE, BELOW = 1600, 520, 96, 40, 170

TICKS = (0, 1, 5, 10, 25, 50, 75, 100)
"""Percent; on a root scale, since most nuclei of a class may lie in one bin and the others matter more."""


def count_densities(
    density: NDArray[np.floating], classes: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Count nuclei by optical density, in bins of `BIN` from 0 to `TOP_OD`, shape (classes, bins).

    Those outside the range count in the bin at its end, those without a number in none.
    """
    n_bins = round(TOP_OD / BIN)
    known = np.isfinite(density)
    # A density on the border of two bins belongs to the upper one, also where its float is a hair below.
    place = np.clip(np.floor(density[known].astype(np.float64) / BIN + 1e-5), 0, n_bins - 1).astype(np.int64)
    flat = np.bincount(classes[known] * n_bins + place, minlength=n_classes * n_bins)
    return flat.reshape(n_classes, n_bins)


def write_od_histogram(
    path: str | os.PathLike[str],
    *,
    nuclei: pl.DataFrame,
    row: Mapping[str, Any],
    scores: ScoreSettings,
    min_dab_od: float | None = None,
) -> None:
    """Draw the share of each class's nuclei by mean optical density of DAB, and the thresholds.

    Parameters
    ----------
    path
        The picture to write, `.png` or `.jpg`.
    nuclei
        Columns label and dab_od.
    row
        The slide's row of the cohort table: slide_id, status, message, counts and score; and `simulated`.
    scores
        Thresholds of 1+, 2+ and 3+, and what grades by them.
    min_dab_od
        `detect.min_dab_od`: nuclei below it are negative, whatever the detector says.
    """
    labels = class_names(nuclei.schema["label"])
    density = nuclei["dab_od"].to_numpy()
    counts = count_densities(density, class_index(nuclei["label"]), len(labels))
    more = KEY_LINE * (len(key_lines(row, labels, WIDTH)) - 1)
    page = Page(WIDTH, HEADER + ABOVE + PLOT_HEIGHT + BELOW + FOOTER + more)
    header(page, row)
    plot = _Plot(page, (LEFT, HEADER + ABOVE), (WIDTH - MARGIN - LEFT, PLOT_HEIGHT), _top(counts))
    plot.axes()
    for label, line in zip(labels, counts, strict=True):
        plot.fill(line, class_colours(labels)[label])
    for label, line in zip(labels, counts, strict=True):
        plot.outline(line, class_colours(labels)[label])
    plot.thresholds(scores.dab_od, min_dab_od)
    if not counts.sum():
        page.text((WIDTH / 2, HEADER + ABOVE + 200), "No nuclei to show.", 26, colour=GREY, align="middle")
    for number, text in enumerate(_explain(scores, min_dab_od, row)):
        page.text(
            (LEFT, HEADER + ABOVE + PLOT_HEIGHT + 104 + 30 * number),
            text,
            20,
            colour=GREY,
            room=WIDTH - LEFT - MARGIN,
        )
    footer(page, row, labels=labels)
    with atomic_path(path) as temporary:
        page.save(temporary)


def _explain(scores: ScoreSettings, min_dab_od: float | None, row: Mapping[str, Any]) -> list[str]:
    """Say what the lines mean: the class and the grade are two measurements."""
    cut = "Positive or negative is the detector's word"
    if min_dab_od is not None:
        cut += f", and below {min_dab_od:g} a nucleus is negative (class cut)"
    if scores.grade_by == "dab_od":
        cut += "; grades 0 to 3+ are by the density alone"
    else:
        cut += "; its positive nuclei are 1+ at least, 2+ and 3+ from their lines on"
    lines = [cut + "."]
    if row.get("percent_od_disagrees") is not None:
        share, first = row["percent_od_disagrees"], scores.dab_od[0]
        lines.append(
            f"{share:.1f} % of the nuclei would be of the other class by the line at {first:g} alone."
        )
    return lines


def _top(counts: NDArray[np.int64]) -> float:
    """Greatest share that is drawn, percent."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return max(float(shares.max()), 1.0) * 1.08


class _Plot:
    """Densities from left to right, shares from below."""

    def __init__(self, page: Page, corner: tuple[int, int], size: tuple[int, int], top: float) -> None:
        self.page, self.corner, self.size, self.top = page, corner, size, top

    def x(self, density: float) -> float:
        return self.corner[0] + self.size[0] * density / TOP_OD

    def y(self, share: float) -> float:
        return self.corner[1] + self.size[1] * (1 - math.sqrt(share / self.top))

    def axes(self) -> None:
        """Draw ticks, grid and titles."""
        page, (x, y), (width, height) = self.page, self.corner, self.size
        for tick in (tick for tick in TICKS if tick <= self.top):
            at = self.y(tick)
            page.draw.line((x, at, x + width, at), fill=RULE, width=1)
            page.text((x - 10, at + 7), f"{tick:g} %", 20, align="right")
        for tenth in range(0, round(TOP_OD * 10) + 1, 2):
            at = self.x(tenth / 10)
            page.draw.line((at, y + height, at, y + height + 7), fill=INK, width=2)
            text = f"{tenth / 10:.1f}" + (" or more" if tenth / 10 >= TOP_OD else "")
            page.text((at, y + height + 30), text, 20, align="right" if tenth / 10 >= TOP_OD else "middle")
        page.draw.line((x, y + height, x + width, y + height), fill=INK, width=2)
        title = "Mean optical density of DAB in the nucleus"
        length = page.text((x, y + height + 66), title, 21, bold=True)
        what = f"height: share of the class's nuclei in each step of {BIN:g}, root scale"
        page.text((x + length + 24, y + height + 66), what, 20, colour=GREY, room=width - length - 24)

    def fill(self, counts: NDArray[np.int64], colour: tuple[int, int, int]) -> None:
        """Tint what lies under a class's line."""
        layer = Image.new("L", self.page.image.size, 0)
        path = self._path(counts)
        if path:
            base = self.corner[1] + self.size[1]
            ImageDraw.Draw(layer).polygon([(path[0][0], base), *path, (path[-1][0], base)], fill=60)
            self.page.image.paste(colour, (0, 0), layer)

    def outline(self, counts: NDArray[np.int64], colour: tuple[int, int, int]) -> None:
        """Draw a class's line."""
        if path := self._path(counts):
            draw_path(self.page.image, path, colour, width=4)

    def _path(self, counts: NDArray[np.int64]) -> list[tuple[float, float]]:
        """Corners of the steps; none of a class without nuclei."""
        if not counts.sum():
            return []
        shares = 100 * counts / counts.sum()
        return [
            (self.x((place + end) * BIN), self.y(share))
            for place, share in enumerate(shares.tolist())
            for end in (0, 1)
        ]

    def thresholds(self, grades: Sequence[float], cut: float | None) -> None:
        """Draw where the grades begin, and the class cut."""
        marks = [(od, f"{grade}+  {od:g}", 0, 24) for grade, od in enumerate(grades, start=1)]
        if cut is not None:
            marks.append((cut, f"class cut  {cut:g}", 8, 50))
        top, base = self.corner[1], self.corner[1] + self.size[1]
        for od, text, dash, above in marks:
            x = self.x(min(od, TOP_OD))
            draw_path(self.page.image, [(x, top - 10), (x, base)], INK, width=2, dash=dash)
            self.page.text((x, top + 6 - above), text, 21, bold=True, align="middle")
