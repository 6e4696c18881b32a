"""A slide's most informative fields, pixel by pixel, with every nucleus outlined."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from ercohort.canvas import (
    FOOTER,
    GREY,
    HEADER,
    KEY_LINE,
    LINES,
    MARGIN,
    SEAM,
    TISSUE,
    Page,
    badge,
    footer,
    header,
    key_lines,
    scale_bar,
)
from ercohort.cohort import round_percent
from ercohort.files import atomic_path
from ercohort.informative_fields import MIN_NUCLEI, Cores, InformativeField, choose_informative
from ercohort.nuclei_layer import NucleiLayer
from ercohort.region_layer import draw_roi, outline_tissue, roi_key
from ercohort.slide_picture import Pixels, read_picture
from ercohort.strokes import draw_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.roi import Roi

FIELD_UM = (80.0, 160.0)
"""Least and greatest side of a field, µm; a third of a small slide."""

FIELD_PX = 640
"""A field of a coarse slide is enlarged, by a whole number, to about this side; a fine one has no more."""

ACROSS = 3
GAP = 28
CAPTION = 116
LEAST_WIDTH = 1300


def write_fields(
    path: str | os.PathLike[str],
    *,
    slide: Pixels,
    nuclei: pl.DataFrame,
    tiles: pl.DataFrame,
    mask: NDArray[np.bool_],
    row: Mapping[str, Any],
    roi: Roi | None = None,
    counted: pl.DataFrame | None = None,
) -> None:
    """Draw up to six fields at full resolution, each with its nuclei and why it was chosen.

    Parameters
    ----------
    path
        The picture to write, `.jpg` or `.png`.
    slide
        Source of pixels.
    nuclei
        Columns x0, y0, x1, y1 (level-0 pixels of the slide frame), label, score and dab_od.
    tiles
        Columns core_x0, core_y0, core_x1 of the slide's tiles.
    mask
        Tissue over the whole slide, shape (rows, cols).
    row
        The slide's row of the cohort table: slide_id, status, message, counts and score; and `simulated`.
    roi
        The slide's regions, where it has some.
    counted
        Those of the nuclei that count in the slide's score, among which the fields are chosen; all, if not
        given.
    """
    counted = nuclei if counted is None else counted
    found, scored, cores, info = NucleiLayer.of(nuclei), NucleiLayer.of(counted), Cores.of(tiles), slide.info
    side = field_side(min(info.bounds[2:]), info.mpp)
    fields = choose_informative(
        boxes=scored.boxes,
        is_positive=scored.is_positive,
        scores=counted["score"].to_numpy().astype(np.float64),
        densities=counted["dab_od"].fill_null(0).to_numpy().astype(np.float64),
        cores=cores,
        mask=mask,
        size=(info.width, info.height),
        bounds=info.bounds,
        side=side,
    )
    factor = max(round(FIELD_PX / side), 1)
    shown = factor * (fields[0].side if fields else side)
    across, down = min(ACROSS, max(len(fields), 1)), max(-(-len(fields) // ACROSS), 1)
    step = shown + GAP, shown + CAPTION
    width = max(2 * MARGIN + across * step[0] - GAP, LEAST_WIDTH)
    lines: list[tuple[str, str]] = []
    if fields:
        lines = [("Tissue", TISSUE), ("Where tiles meet", SEAM), *(roi_key(roi) if roi else [])]
    height = HEADER + (down * step[1] if fields else 60) + FOOTER
    page = Page(width, height + KEY_LINE * (len(key_lines(row, found.labels, width, lines)) - 1))
    header(page, row)
    if not fields:
        text = f"No field of the slide holds {MIN_NUCLEI} nuclei or more: there is none to show."
        page.text((MARGIN, HEADER + 26), text, 24, colour=GREY, room=width - 2 * MARGIN)
    for place, (letter, field) in enumerate(zip("ABCDEF", fields, strict=False)):
        corner = MARGIN + place % ACROSS * step[0], HEADER + place // ACROSS * step[1]
        picture = _draw(slide, field, found, cores, mask, roi, factor)
        badge(ImageDraw.Draw(picture), (30, 30), letter, 24)
        page.paste(picture, corner)
        _caption(page, field, (corner[0], corner[1] + shown), shown, info.bounds[:2], info.mpp)
    footer(page, row, labels=found.labels, lines=lines)
    with atomic_path(path) as temporary:
        page.save(temporary)


def field_side(shorter_px: int, mpp: float) -> int:
    """Side of a field, level-0 pixels, on a slide whose scanned part has that shorter side."""
    return max(round(min(float(np.clip(shorter_px * mpp / 3, *FIELD_UM)) / mpp, 1.2 * FIELD_PX)), 2)


def _draw(
    slide: Pixels, field: InformativeField, found: NucleiLayer, cores: Cores, mask: NDArray[np.bool_],
    roi: Roi | None, factor: int,
) -> Image.Image:  # fmt: skip
    shown, info = factor * field.side, slide.info
    # Each pixel of the slide becomes a block of the same size: nothing is lost, and nothing is made up.
    native = read_picture(slide, field.window, (field.side, field.side))
    picture = native.resize((shown, shown), Image.Resampling.BICUBIC) if factor > 1 else native
    down = info.width / mask.shape[1], info.height / mask.shape[0]
    x, y, side, _ = field.window
    box = x / down[0], y / down[1], (x + side) / down[0], (y + side) / down[1]
    outline_tissue(picture, mask, box)
    colour, width, dash = LINES[SEAM]
    for line in cores.lines(field.window):
        points = [((at[0] - x) * factor, (at[1] - y) * factor) for at in line]
        draw_path(picture, points, colour, width=width, dash=dash, cased=True)
    if roi is not None:
        draw_roi(picture, roi, (x, y), factor, bare=True)
    found.outline(picture, field.window, width=2.4)
    scale_bar(picture, info.mpp / factor, size=20)
    return picture


def _caption(
    page: Page,
    field: InformativeField,
    corner: tuple[int, int],
    room: int,
    origin: tuple[int, int],
    mpp: float,
) -> None:
    x, y = corner
    share = 100 * field.n_positive / max(field.n_nuclei, 1)
    page.text((x, y + 32), field.name, 24, bold=True, room=room)
    page.text((x, y + 62), field.why, 20, room=room)
    # As QuPath shows the place of the cursor: µm from the corner of what it shows.
    at = [
        f"{(edge - start + field.side / 2) * mpp:,.0f}"
        for edge, start in zip((field.x, field.y), origin, strict=True)
    ]
    counts = f"{field.n_positive:,} of {field.n_nuclei:,} nuclei positive, {round_percent(share, 1):.1f} %"
    page.text((x, y + 88), f"{counts}  ·  centre at {at[0]}, {at[1]} µm", 20, colour=GREY, room=room)
