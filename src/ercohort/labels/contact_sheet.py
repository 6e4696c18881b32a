"""A page of training tiles with their boxes, to check a data set by eye before hours of training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ercohort.canvas import GREY, INK, MARGIN, PAPER, RGB, RULE, Page, scale_bar
from ercohort.files import atomic_path
from ercohort.geojson import NOTICE, class_colours
from ercohort.labels.splits import SPLITS
from ercohort.labels.training_tiles import Tile

WIDTH = 2400
COLUMNS = 4
GAP = 28
CAPTION = 46
TITLE = 150
LINE = 46
FOOTER = 110
PICTURE = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS

SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}
IGNORED_COLOUR: RGB = (120, 120, 120)


@dataclass(frozen=True)
class ShownTile:
    """A tile on the sheet, and where it comes from."""

    split: str
    slide_id: str
    region: int
    tile: Tile


def write_contact_sheet(
    path: str | os.PathLike[str],
    *,
    tiles: Sequence[ShownTile],
    counts: Mapping[str, Mapping[str, int]],
    n_tiles: Mapping[str, int],
    mpp: float,
) -> None:
    """Draw tiles of every split with the boxes that the detector will be taught.

    Parameters
    ----------
    path
        The picture to write, `.jpg` or `.png`, 2400 px wide.
    tiles
        Tiles to show.
    counts
        Nuclei by split and class; the classes in the detector's order.
    n_tiles
        Tiles in each split, shown or not.
    mpp
        µm per pixel of the tiles.
    """
    names = list(next(iter(counts.values())))
    colours = class_colours(names)
    shown = {split: [tile for tile in tiles if tile.split == split] for split in SPLITS if split in counts}
    rows = {split: -(-len(chosen) // COLUMNS) for split, chosen in shown.items()}
    height = TITLE + sum(LINE + GAP + n * (PICTURE + CAPTION + GAP) for n in rows.values()) + FOOTER
    page = Page(WIDTH, height)
    _title(page, counts, n_tiles, mpp)
    y = TITLE
    for split, chosen in shown.items():
        _split_line(page, y + LINE - 12, split, counts[split], n_tiles[split], colours)
        y += LINE + GAP // 2
        for number, item in enumerate(chosen):
            column, row = number % COLUMNS, number // COLUMNS
            at = (MARGIN + column * (PICTURE + GAP), y + row * (PICTURE + CAPTION + GAP))
            page.paste(_picture(item.tile, list(colours.values()), mpp), at)
            _caption(page, item, names, (at[0], at[1] + PICTURE + 30))
        y += rows[split] * (PICTURE + CAPTION + GAP) + GAP // 2
    _key(page, colours)
    with atomic_path(path) as temporary:
        page.save(temporary)


def _title(
    page: Page, counts: Mapping[str, Mapping[str, int]], n_tiles: Mapping[str, int], mpp: float
) -> None:
    total = sum(sum(part.values()) for part in counts.values())
    page.text((MARGIN, 74), "Training set", 44, bold=True)
    text = f"{total:,} labelled nuclei  ·  {sum(n_tiles.values()):,} tiles at {mpp:g} µm per pixel"
    page.text((MARGIN, 116), text, 24, colour=GREY)
    page.text((WIDTH - MARGIN, 74), "Is every nucleus boxed, in its class?", 28, align="right")
    page.text((WIDTH - MARGIN, 116), "Random tiles, as they are taught", 24, colour=GREY, align="right")


def _split_line(
    page: Page, y: int, split: str, counts: Mapping[str, int], n_tiles: int, colours: Mapping[str, RGB]
) -> None:
    """Name a split and count its nuclei by class."""
    page.draw.line((MARGIN, y - 36, WIDTH - MARGIN, y - 36), fill=RULE, width=2)
    x = MARGIN + page.text((MARGIN, y), SPLIT_NAMES[split], 28, bold=True) + 30
    x += page.text((x, y), f"{n_tiles:,} tiles", 24, colour=GREY) + 34
    for name, count in counts.items():
        page.draw.rectangle((x, y - 19, x + 22, y + 1), outline=colours[name], width=4)
        x += 32 + page.text((x + 32, y), f"{count:,} {name}", 24) + 34


def _caption(page: Page, item: ShownTile, names: Sequence[str], at: tuple[int, int]) -> None:
    held = np.bincount(item.tile.classes, minlength=len(names))
    counts = " · ".join(f"{count} {name}" for name, count in zip(names, held.tolist(), strict=True) if count)
    used = page.text((at[0] + PICTURE, at[1]), counts or "no nuclei", 20, colour=GREY, align="right",
                     room=0.55 * PICTURE)  # fmt: skip
    page.text(at, f"{item.slide_id}, region {item.region + 1}", 20, room=PICTURE - used - 14)


def _key(page: Page, colours: Mapping[str, RGB]) -> None:
    """Write the key and the notice at the bottom."""
    y, x = page.image.height - 40, float(MARGIN)
    page.draw.line((MARGIN, y - 42, WIDTH - MARGIN, y - 42), fill=RULE, width=2)
    for name, colour in [*colours.items(), ("ignored, painted over", IGNORED_COLOUR)]:
        if name in colours:
            page.draw.rectangle((x, y - 19, x + 24, y + 1), outline=colour, width=4)
        else:
            page.draw.ellipse((x, y - 19, x + 24, y + 1), outline=colour, width=3)
        x += 34 + page.text((x + 34, y), name, 21) + 34
    x += page.text((x, y), "Grey: outside the labelled region", 21, colour=GREY)
    page.text((WIDTH - MARGIN, y), NOTICE, 21, bold=True, align="right", room=WIDTH - MARGIN - x - 30)


def _picture(tile: Tile, colours: Sequence[RGB], mpp: float) -> Image.Image:
    """Enlarge a tile and outline its boxes, with a light casing."""
    size = tile.image.shape[0]
    scale = PICTURE / size
    picture = Image.fromarray(tile.image).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture, "RGBA")
    # A pixel inside the edge, so that a nucleus there shows all four sides.
    boxes = np.clip(tile.boxes * scale, 0, PICTURE - 1).tolist()
    for box in boxes:
        draw.rectangle(_grown(box, 1), outline=(*PAPER, 150), width=4)
    for box, number in zip(boxes, tile.classes.tolist(), strict=True):
        draw.rectangle(box, outline=(*colours[number], 255), width=2)
    for box in (tile.ignored * scale).tolist():
        draw.ellipse(_grown(box, 1), outline=(*INK, 90), width=3)
        draw.ellipse(box, outline=(*IGNORED_COLOUR, 255), width=2)
    scale_bar(picture, mpp / scale, size=18)
    return picture


def _grown(box: list[float], by: float) -> list[float]:
    return [box[0] - by, box[1] - by, box[2] + by, box[3] + by]
