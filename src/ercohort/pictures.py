"""Pictures that a pathologist checks at a glance.

The overlay shows a slide with its tissue outline and nuclei, and fields at reading scale with each nucleus
outlined. A slide without a result gets a card that says why.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from ercohort.canvas import (
    AMBER,
    FOOTER,
    GREY,
    HEADER,
    INK,
    KEY_LINE,
    MARGIN,
    PAPER,
    RULE,
    TISSUE,
    Page,
    badge,
    footer,
    header,
    key_lines,
    notice,
    scale_bar,
    wrap,
)
from ercohort.cohort import round_percent
from ercohort.files import atomic_path
from ercohort.hotspots import Field, choose_fields
from ercohort.nuclei_layer import NucleiLayer
from ercohort.region_layer import draw_roi, outline_tissue, roi_key
from ercohort.slide_picture import Pixels, read_picture
from ercohort.strokes import draw_ellipses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.roi import Roi

FIELD_UM = (100.0, 200.0)
"""Least and greatest side of an inset, µm: 200 is about half of a microscope's field at 40x. On a slide of
less than 0.8 mm it is a quarter of the slide, so that insets show more than the overview does."""

PAGE_WIDTH = 2400
GAP = 28
CAPTION = 48
LARGEST, LEAST_WIDTH = 1.5, 1400
"""Pixels of the overview for one of the slide, at most, if it gets that wide: more shows nothing more."""

MIN_OUTLINE_PX = 6.0
"""Nuclei smaller than this on the overview are drawn as a tint."""

RARE = 3_000
"""Up to this many positive nuclei are dotted one by one over the tint, where they would drown."""


def write_overlay(
    path: str | os.PathLike[str],
    *,
    slide: Pixels,
    nuclei: pl.DataFrame,
    mask: NDArray[np.bool_],
    row: Mapping[str, Any],
    roi: Roi | None = None,
    counted: pl.DataFrame | None = None,
) -> None:
    """Draw the slide with its tissue, regions and nuclei, and up to four fields at reading scale.

    Parameters
    ----------
    path
        The picture to write, `.jpg` or `.png`; at most 2400 px wide.
    slide
        Source of pixels.
    nuclei
        Columns x0, y0, x1, y1 (level-0 pixels of the slide frame) and label, whose classes make the key.
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
    found = NucleiLayer.of(nuclei)
    scored = found if counted is None else NucleiLayer.of(counted)
    info = slide.info
    side = float(np.clip(min(info.bounds[2:]) * info.mpp / 4, *FIELD_UM)) / info.mpp
    fields = choose_fields(scored.boxes, scored.is_positive, info.bounds, side)
    layout = _Layout.of(info.bounds, n_insets=len(fields))
    width, height = layout.page
    lines = [("Tissue", TISSUE), *(roi_key(roi) if roi else [])]
    more_lines = len(key_lines(row, found.labels, width, lines)) - 1
    page = Page(width, height + KEY_LINE * more_lines)
    header(page, row)
    page.paste(_overview(slide, layout, found, mask, fields, roi), layout.corner)
    for field, letter, corner in zip(fields, "ABCD", layout.insets, strict=False):
        _inset(page, field, letter, corner, layout.inset_side, slide, found, roi)
    footer(page, row, labels=found.labels, lines=lines)
    with atomic_path(path) as temporary:
        page.save(temporary)


def write_card(
    path: str | os.PathLike[str], *, slide_id: str, status: str, message: str, simulated: bool = False
) -> None:
    """Write a plain card in place of a picture: the slide's name, its status and what to do about it."""
    page = Page(1200, 600)
    page.text((MARGIN, 96), slide_id, 44, bold=True, room=1200 - 2 * MARGIN)
    length = page.text((MARGIN + 20, 172), status.replace("_", " "), 28, bold=True, colour=AMBER)
    page.draw.rounded_rectangle((MARGIN, 134, MARGIN + length + 40, 188), 12, outline=AMBER, width=3)
    for number, line in enumerate(wrap(message, 26, 1200 - 2 * MARGIN)[:8]):
        page.text((MARGIN, 248 + 38 * number), line, 26)
    page.draw.line((MARGIN, 534, 1200 - MARGIN, 534), fill=RULE, width=2)
    page.text((MARGIN, 570), "No picture: this slide has no result.", 21, colour=GREY)
    page.text((1200 - MARGIN, 570), notice({"simulated": simulated}), 21, bold=True, align="right")
    with atomic_path(path) as temporary:
        page.save(temporary)


@dataclass(frozen=True)
class _Layout:
    """Where things stand on the page, pixels; `scale` is overview pixels per level-0 pixel."""

    page: tuple[int, int]
    corner: tuple[int, int]
    overview: tuple[int, int]
    scale: float
    inset_side: int
    insets: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, bounds: tuple[int, int, int, int], *, n_insets: int) -> _Layout:
        """Insets two by two beside an upright slide, in one row under a wide one."""
        _, _, width, height = bounds
        beside = width < 1.2 * height and n_insets > 0
        room = (1180, 1180) if beside else (PAGE_WIDTH - 2 * MARGIN, 1500)
        scale = min(room[0] / width, room[1] / height)
        scale = scale if beside else min(scale, max(LARGEST, LEAST_WIDTH / width))
        size = max(round(width * scale), 2), max(round(height * scale), 2)
        if beside:
            left = MARGIN + size[0] + GAP
            side = (size[1] - GAP - 2 * CAPTION) // 2
            step = side + GAP, side + CAPTION + GAP
            insets = tuple(
                (left + col * step[0], HEADER + line * step[1]) for line in (0, 1) for col in (0, 1)
            )
            page = (left + 2 * step[0] - GAP + MARGIN, HEADER + size[1] + GAP + FOOTER)
            return cls(page, (MARGIN, HEADER), size, scale, side, insets)
        side = (PAGE_WIDTH - 2 * MARGIN - 3 * GAP) // 4
        below = HEADER + size[1] + GAP
        insets = tuple((MARGIN + col * (side + GAP), below) for col in range(4))
        page = (PAGE_WIDTH, below + (side + CAPTION + GAP if n_insets else 0) + FOOTER)
        return cls(page, ((PAGE_WIDTH - size[0]) // 2, HEADER), size, scale, side, insets)


def _overview(
    slide: Pixels, layout: _Layout, found: NucleiLayer, mask: NDArray[np.bool_], fields: list[Field],
    roi: Roi | None,
) -> Image.Image:  # fmt: skip
    """Draw the slide's scanned part with tissue outline, nuclei, regions and the places of the insets."""
    x, y, width, height = slide.info.bounds
    picture = read_picture(slide, slide.info.bounds, layout.overview)
    local = (found.boxes - np.array([x, y, x, y])) * layout.scale
    sizes = (local[:, 2:] - local[:, :2]).mean(axis=1)
    if len(sizes) and np.median(sizes) >= MIN_OUTLINE_PX:
        line = float(np.clip(np.median(sizes) / 12, 1.0, 2.5))
        draw_ellipses(picture, local, found.classes, found.colours, width=line)
    elif len(sizes):
        picture = _tinted(picture, local, found)
    rows, cols = mask.shape
    down = slide.info.width / cols, slide.info.height / rows
    window = (x / down[0], y / down[1], (x + width) / down[0], (y + height) / down[1])
    outline_tissue(picture, mask, window)
    if roi is not None:
        draw_roi(picture, roi, (x, y), layout.scale)
    _mark_fields(picture, fields, (x, y), layout.scale)
    scale_bar(picture, slide.info.mpp / layout.scale, size=26)
    return picture


def _mark_fields(picture: Image.Image, fields: list[Field], origin: tuple[int, int], scale: float) -> None:
    """Frame the insets' places and letter them."""
    draw = ImageDraw.Draw(picture)
    corners = [((field.x - origin[0]) * scale, (field.y - origin[1]) * scale) for field in fields]
    sides = [max(field.side * scale, 14.0) for field in fields]
    for (x, y), side in zip(corners, sides, strict=True):
        for grow, colour, line in ((2, PAPER, 7), (0, INK, 3)):
            draw.rectangle((x - grow, y - grow, x + side + grow, y + side + grow), outline=colour, width=line)
    for (x, y), side, letter in zip(corners, sides, "ABCD", strict=False):
        # Inside a large frame, outside a small one, which it would hide.
        shift = 26.0 if side > 80 else -13.0
        centre = max(x + shift, 20.0), max(y + shift, 20.0)
        badge(draw, centre, letter, 22)


def _tinted(picture: Image.Image, local: NDArray[np.float64], found: NucleiLayer) -> Image.Image:
    """Tint where nuclei are: the colour mixes the classes, the strength grows with their number."""
    width, height = picture.size
    cols = ((local[:, 0] + local[:, 2]) / 2).astype(np.int64).clip(0, width - 1)
    rows = ((local[:, 1] + local[:, 3]) / 2).astype(np.int64).clip(0, height - 1)
    place = rows * width + cols
    layers = []
    for index in range(len(found.labels)):
        counts = np.bincount(place[found.classes == index], minlength=width * height)
        layers.append(_spread(counts.astype(np.float32).reshape(height, width)).ravel())
    total = sum(layers[1:], start=layers[0])
    # Where there are none, there is nothing to mix; a slide is mostly that.
    some = np.flatnonzero(total > 1e-3)
    weights = np.stack([layer[some] / total[some] for layer in layers], axis=1)
    # One nucleus alone peaks at 0.13 per pixel and is to be seen; many hide the slide by 85 % at most.
    strength = 0.85 * (1 - np.exp(-8 * total[some]))[:, None]
    pale = (np.arange(256) * 0.75 + 64).astype(np.uint8)
    pixels = pale[np.asarray(picture)].reshape(-1, 3)
    base = pixels[some]
    colour = weights @ np.array(found.colours, np.float32)
    pixels[some] = (base + strength * (colour - base) + 0.5).astype(np.uint8)
    pixels = pixels.reshape(height, width, 3)
    tinted = Image.fromarray(pixels)
    positive = np.flatnonzero(found.is_positive)
    if len(positive) <= RARE:
        draw, fills = ImageDraw.Draw(tinted), found.colours
        places = cols[positive].tolist(), rows[positive].tolist(), found.classes[positive].tolist()
        for x, y, index in zip(*places, strict=True):
            draw.circle((x, y), 2.5, fill=fills[index])
    return tinted


def _spread(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur by a Gaussian of 1.1 pixels; scipy's takes longer to load than this to run."""
    reach = 4
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.1) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(counts, [(reach * (axis == 0),) * 2, (reach * (axis == 1),) * 2])
        rows, cols = counts.shape
        counts = np.zeros_like(counts)
        for shift, share in enumerate(kernel):
            down, right = (shift, 0) if axis == 0 else (0, shift)
            counts += share * padded[down : down + rows, right : right + cols]
    return counts


def _inset(
    page: Page, field: Field, letter: str, corner: tuple[int, int], side: int, slide: Pixels,
    found: NucleiLayer, roi: Roi | None,
) -> None:  # fmt: skip
    """One field at reading scale with its nuclei outlined, and its caption."""
    window = field.x, field.y, field.side, field.side
    picture = read_picture(slide, window, (side, side))
    if roi is not None:
        draw_roi(picture, roi, (field.x, field.y), side / field.side, bare=True)
    found.outline(picture, window, width=2.4)
    scale_bar(picture, slide.info.mpp * field.side / side, size=20)
    badge(ImageDraw.Draw(picture), (30, 30), letter, 24)
    page.paste(picture, corner)
    x, y = corner[0], corner[1] + side + 32
    length = page.text((x, y), field.name, 22, bold=True, room=0.52 * side)
    counts = f"{field.n_nuclei:,} nuclei · {round_percent(field.percent_positive, 1):.1f} % positive"
    page.text((x + side, y), counts, 21, colour=GREY, align="right", room=side - length - 14)
