"""Where on the slide the positive nuclei are: percent positive and density in cells over the tissue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image

from ercohort.canvas import (
    DENSITY_RAMP,
    FOOTER,
    GREY,
    HEADER,
    MARGIN,
    PERCENT_RAMP,
    RGB,
    Page,
    colour_ramp,
    footer,
    header,
    nice_length,
    scale_bar,
)
from ercohort.files import atomic_path
from ercohort.hotspots import count_bins
from ercohort.region_layer import draw_roi, outline_tissue
from ercohort.schema import class_index, class_names, positive_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.roi import Roi
    from ercohort.slide import SlideInfo

CELL_UM = 250.0

FEW_NUCLEI = 20
"""A cell with fewer says nothing of its share of positive nuclei: two by chance lift it to 10 %."""

PERCENT_SCALE = (0, 1, 10, 50, 100)
"""Evenly spaced on the colour bar: the cut-offs of the ER categories are at a fourth and at the middle."""

GROUND, HATCH = 226, 168
HATCH_PX = 10
TITLE = 84
BAR = 150
GAP = 40


def write_heatmap(
    path: str | os.PathLike[str],
    *,
    info: SlideInfo,
    nuclei: pl.DataFrame,
    mask: NDArray[np.bool_],
    row: Mapping[str, Any],
    roi: Roi | None = None,
) -> None:
    """Draw percent positive and density of nuclei over the tissue, in cells of 250 µm.

    Cells with few nuclei are hatched in grey: a pale grey alone is near the middle of the scale.

    Parameters
    ----------
    path
        The picture to write, `.png` or `.jpg`.
    info
        Size, bounds and scale of the slide.
    nuclei
        Columns x0, y0, x1, y1 (level-0 pixels of the slide frame) and label.
    mask
        Tissue over the whole slide, shape (rows, cols).
    row
        The slide's row of the cohort table: slide_id, status, message, counts and score; and `simulated`.
    roi
        The slide's regions, where it has some, to outline them.
    """
    boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float64)
    is_positive = positive_mask(class_names(nuclei.schema["label"]))[class_index(nuclei["label"])]
    width, height = info.bounds[2:]
    bins = count_bins(boxes, is_positive, info.bounds, CELL_UM / info.mpp)
    share = bins.n_positive / np.maximum(bins.n_nuclei, 1)
    density = bins.n_nuclei / bins.areas((width, height)) / (info.mpp / 1000) ** 2
    top = _round_up(float(np.quantile(density[density > 0], 0.98)) if density.any() else 1000.0)
    tissue = _Tissue(info, mask, CELL_UM / info.mpp, roi)

    stacked = width > 1.6 * height
    size = tissue.fit((2400 - 2 * MARGIN - BAR, 760) if stacked else (960, 960))
    step = (0, size[1] + TITLE) if stacked else (max(size[0], 560) + BAR + GAP, 0)
    page_width = max(2 * MARGIN + step[0] + max(size[0], 560) + BAR, 1300)
    page = Page(page_width, HEADER + TITLE + step[1] + size[1] + GAP + FOOTER)
    header(page, row)
    place = np.linspace(0, 1, len(PERCENT_SCALE))
    colours = colour_ramp(np.interp(100 * share, PERCENT_SCALE, place), PERCENT_RAMP)
    few = bins.n_nuclei < FEW_NUCLEI
    picture = tissue.paint(size, colours, bins.n_nuclei > 0, hatched=few & (bins.n_nuclei > 0))
    percent_ticks = [(float(at), f"{tick} %") for at, tick in zip(place, PERCENT_SCALE, strict=True)]
    note = f"cells of {CELL_UM:g} µm; hatched: fewer than {FEW_NUCLEI} nuclei"
    _panel(page, (MARGIN, HEADER), "Percent positive", note, picture, PERCENT_RAMP, percent_ticks)
    picture = tissue.paint(
        size, colour_ramp(np.minimum(density / top, 1), DENSITY_RAMP), np.sign(bins.n_nuclei)
    )
    density_ticks = [(tick / 4, f"{top * tick / 4:,.0f}") for tick in range(5)]
    corner = (MARGIN + step[0], HEADER + step[1])
    _panel(page, corner, "Nuclei per mm²", f"cells of {CELL_UM:g} µm", picture, DENSITY_RAMP, density_ticks)
    footer(page, row)
    with atomic_path(path) as temporary:
        page.save(temporary)


class _Tissue:
    """The slide's scanned part as a picture: pale tissue with coloured cells over it."""

    def __init__(self, info: SlideInfo, mask: NDArray[np.bool_], side: float, roi: Roi | None) -> None:
        self.info = info
        self.roi = roi
        self.side = side
        self.mask = mask

    def fit(self, room: tuple[int, int]) -> tuple[int, int]:
        """Size of the picture that fits into `room`."""
        width, height = self.info.bounds[2:]
        scale = min(room[0] / width, room[1] / height)
        return max(round(width * scale), 8), max(round(height * scale), 8)

    def paint(
        self,
        size: tuple[int, int],
        colours: NDArray[np.uint8],
        shown: NDArray[np.bool_],
        hatched: NDArray[np.bool_] | None = None,
    ) -> Image.Image:
        """Paint the cells that are `shown`, shape (rows, cols), over the tissue; grey the `hatched` ones."""
        x, y, width, height = self.info.bounds
        rows, cols = self.mask.shape
        down = self.info.width / cols, self.info.height / rows
        window = (x / down[0], y / down[1], (x + width) / down[0], (y + height) / down[1])
        pale = Image.fromarray(np.where(self.mask, GROUND, 255).astype(np.uint8))
        picture = pale.resize(size, Image.Resampling.BILINEAR, box=window).convert("RGB")
        covered = (0.0, 0.0, width / self.side, height / self.side)
        if hatched is not None and hatched.any():
            row, col = np.ogrid[: size[1], : size[0]]
            stripes = np.where((row + col) % HATCH_PX < HATCH_PX // 2, HATCH, GROUND).astype(np.uint8)
            place = Image.fromarray(hatched.astype(np.uint8) * 255)
            place = place.resize(size, Image.Resampling.NEAREST, box=covered)
            picture.paste(Image.fromarray(stripes).convert("RGB"), (0, 0), place)
            shown = shown & ~hatched
        opacity = shown.astype(np.uint8) * 255
        layer = Image.fromarray(np.dstack([colours, opacity]))
        layer = layer.resize(size, Image.Resampling.NEAREST, box=covered)
        picture.paste(layer, (0, 0), layer)
        outline_tissue(picture, self.mask, window)
        if self.roi is not None:
            draw_roi(picture, self.roi, (x, y), size[0] / width, bare=True)
        scale_bar(picture, self.info.mpp * width / size[0], size=22)
        return picture


def _panel(
    page: Page, corner: tuple[int, int], title: str, note: str, picture: Image.Image,
    ramp: tuple[RGB, ...], ticks: list[tuple[float, str]],
) -> None:  # fmt: skip
    x, y = corner
    length = page.text((x, y + 50), title, 30, bold=True)
    page.text(
        (x + length + 20, y + 50), note, 20, colour=GREY, room=max(picture.width, 560) + BAR - length - 20
    )
    page.paste(picture, (x, y + TITLE))
    bar_height = min(picture.height, 520)
    left, top = x + picture.width + 24, y + TITLE
    page.colour_bar((left, top, left + 26, top + bar_height), ramp, ticks)


def _round_up(value: float) -> float:
    """Return a round number, no less than `value`, whose quarters are round too."""
    step = nice_length(value)
    return next(step * factor for factor in (1, 1.2, 1.6, 2, 2.4, 3.2) if step * factor >= value)
