"""The tiles that the detector gets most wrong, truth beside what it found: its mistakes, or the labels'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ercohort.canvas import GREY, INK, MARGIN, PAPER, RGB, RULE, Page, scale_bar
from ercohort.files import atomic_path
from ercohort.geojson import NOTICE, class_colours
from ercohort.matching import match_points
from ercohort.training.validation import RADIUS_UM, Nuclei

N_SHOWN = 8
WIDTH = 2400
MARK: RGB = (255, 176, 0)
_COLUMNS = 2
_GAP = 12
_GUTTER = 40
_PICTURE = (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * _GUTTER - _COLUMNS * _GAP) // (2 * _COLUMNS)
_TITLE, _CAPTION, _FOOTER = 150, 56, 96


@dataclass(frozen=True, eq=False)
class JudgedTile:
    """One validation tile with its truth, what was found, and which of each is wrong.

    Attributes
    ----------
    name
        For the caption.
    image
        (height, width, 3) uint8 RGB.
    truth, found
        Its nuclei; those found are already above the operating point.
    missed
        (N,) annotated nuclei with no found one within `validation.RADIUS_UM`.
    false
        (M,) found nuclei with no annotated one, but for slivers at the edge.
    confused_truth, confused_found
        Both are there, in different classes.
    """

    name: str
    image: NDArray[np.uint8]
    truth: Nuclei
    found: Nuclei
    missed: NDArray[np.bool_]
    false: NDArray[np.bool_]
    confused_truth: NDArray[np.bool_]
    confused_found: NDArray[np.bool_]

    @property
    def n_wrong(self) -> int:
        """Nuclei missed, found where there is none, or of the wrong class."""
        return int(self.missed.sum() + self.false.sum() + self.confused_truth.sum())

    def caption(self) -> str:
        """Count what is wrong."""
        return (
            f"{len(self.truth.boxes)} nuclei: {self.missed.sum()} missed, {self.false.sum()} false, "
            f"{self.confused_truth.sum()} of the wrong class"
        )


def judge_tile(
    name: str, image: NDArray[np.uint8], truth: Nuclei, found: Nuclei, *, mpp: float
) -> JudgedTile:
    """Pair what was found with what is annotated, one to one within `validation.RADIUS_UM`."""
    pairs = match_points(found.centres, truth.centres, RADIUS_UM / mpp)
    missed, false = np.ones(len(truth.boxes), np.bool_), ~found.at_edge
    missed[pairs.truth] = False
    false[pairs.pred] = False
    differ = truth.labels[pairs.truth] != found.labels[pairs.pred]
    confused_truth, confused_found = np.zeros_like(missed), np.zeros_like(false)
    confused_truth[pairs.truth[differ]] = True
    confused_found[pairs.pred[differ]] = True
    return JudgedTile(name, image, truth, found, missed, false, confused_truth, confused_found)


def summarise(tiles: Sequence[JudgedTile]) -> dict[str, float]:
    """Precision, recall and F1 of nuclei of any class, and the share of the hits with the right class."""
    n_truth = sum(len(tile.truth.boxes) for tile in tiles)
    hits = n_truth - sum(int(tile.missed.sum()) for tile in tiles)
    n_found = hits + sum(int(tile.false.sum()) for tile in tiles)
    right = hits - sum(int(tile.confused_truth.sum()) for tile in tiles)
    return {
        "precision": hits / max(n_found, 1),
        "recall": hits / max(n_truth, 1),
        "f1": 2 * hits / max(n_found + n_truth, 1),
        "right_class": right / max(hits, 1),
    }


def draw_worst_tiles(
    path: str | Path,
    tiles: Sequence[JudgedTile],
    names: Sequence[str],
    *,
    mpp: float,
    score: float,
    split: str = "validation",
) -> None:
    """Draw the tiles with most mistakes, the truth on the left and what was found on the right.

    Parameters
    ----------
    path
        The picture to write, `.jpg` or `.png`, 2400 px wide.
    tiles
        All tiles; the `N_SHOWN` worst are drawn, those without a mistake never.
    names
        Classes in the order of their numbers.
    score
        Operating point, for the caption.
    split
        Which tiles these are, for the caption.
    """
    worst = sorted((tile for tile in tiles if tile.n_wrong), key=lambda tile: -tile.n_wrong)[:N_SHOWN]
    rows = -(-len(worst) // _COLUMNS)
    page = Page(WIDTH, _TITLE + max(rows * (_PICTURE + _CAPTION), 60) + _FOOTER)
    page.text((MARGIN, 74), "Worst tiles", 44, bold=True)
    wrong, nuclei = sum(tile.n_wrong for tile in tiles), sum(len(tile.truth.boxes) for tile in tiles)
    text = (
        f"{len(worst)} of {len(tiles):,} {split} tiles  ·  score above {score:.2f}  ·  "
        f"{wrong:,} mistakes in all for {nuclei:,} nuclei"
    )
    page.text((MARGIN, 116), text, 24, colour=GREY)
    page.text((WIDTH - MARGIN, 74), "Left: annotated.  Right: found.", 28, align="right")
    text = "Thick ring: missed, false or of the wrong class"
    page.text((WIDTH - MARGIN, 116), text, 24, colour=GREY, align="right")
    colours = class_colours(names)
    for number, tile in enumerate(worst):
        x = MARGIN + number % _COLUMNS * (2 * _PICTURE + _GAP + _GUTTER)
        y = _TITLE + number // _COLUMNS * (_PICTURE + _CAPTION)
        _draw_pair(page, tile, list(colours.values()), (x, y), mpp)
    if not worst:
        page.text((MARGIN, _TITLE + 40), "No tile has a mistake.", 28)
    _draw_key(page, colours)
    with atomic_path(path) as temporary:
        page.save(temporary)


def _draw_pair(page: Page, tile: JudgedTile, colours: Sequence[RGB], at: tuple[int, int], mpp: float) -> None:
    x, y = at
    left = _picture(tile.image, tile.truth, tile.missed | tile.confused_truth, colours)
    right = _picture(tile.image, tile.found, tile.false | tile.confused_found, colours)
    scale_bar(left, mpp * max(tile.image.shape[:2]) / _PICTURE, size=18)
    page.paste(left, (x, y))
    page.paste(right, (x + _PICTURE + _GAP, y))
    used = page.text((x + 2 * _PICTURE + _GAP, y + _PICTURE + 30), tile.caption(), 22, align="right")
    room = 2 * _PICTURE + _GAP - used - 30
    page.text((x, y + _PICTURE + 30), tile.name, 22, colour=GREY, room=room)


def _picture(
    image: NDArray[np.uint8], nuclei: Nuclei, wrong: NDArray[np.bool_], colours: Sequence[RGB]
) -> Image.Image:
    """Enlarge a tile and outline nuclei in the colours of their classes, with a ring around wrong ones."""
    scale = _PICTURE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    picture = Image.new("RGB", (_PICTURE, _PICTURE), PAPER)
    picture.paste(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    draw = ImageDraw.Draw(picture)
    for box, label, is_wrong in zip((nuclei.boxes * scale).tolist(), nuclei.labels, wrong, strict=True):
        if is_wrong:
            ring = (box[0] - 6, box[1] - 6, box[2] + 6, box[3] + 6)
            draw.ellipse(ring, outline=INK, width=7)
            draw.ellipse((ring[0] + 1, ring[1] + 1, ring[2] - 1, ring[3] - 1), outline=MARK, width=5)
        draw.rectangle(box, outline=colours[label], width=2)
    return picture


def _draw_key(page: Page, colours: dict[str, RGB]) -> None:
    y, x = page.image.height - 36, float(MARGIN)
    page.draw.line((MARGIN, y - 38, WIDTH - MARGIN, y - 38), fill=RULE, width=2)
    for name, colour in colours.items():
        page.draw.rectangle((x, y - 19, x + 24, y + 1), outline=colour, width=4)
        x += 34 + page.text((x + 34, y), name, 21) + 34
    page.draw.ellipse((x, y - 21, x + 26, y + 3), outline=MARK, width=5)
    page.text((x + 36, y), "wrong", 21)
    page.text((WIDTH - MARGIN, y), NOTICE, 21, bold=True, align="right")
