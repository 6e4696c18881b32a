"""What the pictures are drawn with: page, type, colours, key, scale bars.

Sizes are pixels of the picture. Fonts are DejaVu, which comes with matplotlib; matplotlib itself is not
imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ercohort.cohort import round_percent
from ercohort.geojson import NOTICE, class_colours
from ercohort.schema import CLASS_COUNT
from ercohort.strokes import draw_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

RGB = tuple[int, int, int]
Mark = RGB | str
"""How the key shows an entry: a class by its colour, a line or hatching by its name in `LINES`."""

PAPER: RGB = (255, 255, 255)
INK: RGB = (28, 32, 38)
GREY: RGB = (104, 110, 120)
RULE: RGB = (214, 217, 222)
TISSUE_EDGE: RGB = (40, 44, 52)
AMBER: RGB = (158, 84, 0)
REGION_EDGE: RGB = (0, 92, 76)

TISSUE, REGION, APART, LEFT_OUT, SEAM = "tissue", "region", "apart", "left out", "seam"
LINES: dict[str, tuple[RGB, int, int]] = {
    TISSUE: (TISSUE_EDGE, 3, 0), REGION: (REGION_EDGE, 5, 0), APART: (REGION_EDGE, 5, 14),
    LEFT_OUT: (INK, 3, 8), SEAM: (INK, 2, 10),
}  # fmt: skip
"""Colour, width and length of the dashes (0: none) of every line: they differ in more than in colour."""

# Blue to red through a light middle, and light to dark: both stay readable with any colour blindness.
PERCENT_RAMP: tuple[RGB, ...] = (
    (55, 70, 170), (95, 125, 215), (165, 195, 238), (248, 240, 214),
    (248, 190, 140), (232, 110, 80), (176, 16, 40),
)  # fmt: skip
DENSITY_RAMP: tuple[RGB, ...] = (
    (236, 240, 228),
    (160, 205, 170),
    (66, 150, 140),
    (24, 88, 106),
    (12, 34, 62),
)

MARGIN = 48
HEADER = 168
FOOTER = 72
KEY_LINE = 34
KEY_SIZE = 21


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of that size."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


class Page:
    """A white page to draw on.

    Parameters
    ----------
    width, height
        Size of the page, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    @property
    def width(self) -> int:
        """Width of the page, pixels."""
        return self.image.width

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        *,
        bold: bool = False,
        colour: RGB = INK,
        align: Literal["left", "middle", "right"] = "left",
        room: float | None = None,
    ) -> float:
        """Write one line whose baseline starts (or is centred, or ends) at `at`; return its length.

        A line longer than `room` is set smaller, and cut with an ellipsis if it would become unreadable.
        """
        text = " ".join(text.split())
        if room is not None:
            while size > 16 and font(size, bold=bold).getlength(text) > room:
                size -= 1
            text = _shorten(text, font(size, bold=bold), room)
        type_ = font(size, bold=bold)
        anchor = {"left": "ls", "middle": "ms", "right": "rs"}[align]
        self.draw.text(at, text, fill=colour, font=type_, anchor=anchor)
        return type_.getlength(text)

    def paste(self, picture: Image.Image, at: tuple[int, int]) -> None:
        """Put a picture on the page, with a hairline around it."""
        self.image.paste(picture, at)
        x, y = at
        self.draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=RULE)

    def colour_bar(
        self,
        box: tuple[int, int, int, int],
        ramp: Sequence[RGB],
        ticks: Sequence[tuple[float, str]],
        size: int = 20,
    ) -> None:
        """Draw an upright colour bar in x0, y0, x1, y1; ticks are (share from the bottom, label)."""
        x0, y0, x1, y1 = box
        shares = np.linspace(1, 0, y1 - y0)[:, None].repeat(x1 - x0, axis=1)
        self.paste(Image.fromarray(colour_ramp(shares, ramp)), (x0, y0))
        for share, label in ticks:
            y = y1 - 1 - share * (y1 - 1 - y0)
            self.draw.line((x1, y, x1 + 6, y), fill=INK, width=2)
            self.text((x1 + 12, y + size * 0.36), label, size)

    def save(self, path: Path) -> None:
        """Write a JPEG or PNG, as the suffix says."""
        if path.suffix.lower() in {".jpg", ".jpeg"}:
            self.image.save(path, quality=90, subsampling=0)
        else:
            self.image.save(path)


def header(page: Page, row: Mapping[str, Any]) -> None:
    """Write the slide's name, counts and score over the top of a page."""
    right, middle = page.width - MARGIN, page.width * 0.58
    if row.get("percent_positive") is None:
        status = str(row["status"]).replace("_", " ")
        used = page.text((right, 74), status, 40, bold=True, colour=AMBER, align="right")
    else:
        percent, score = score_lines(row)
        used = page.text((right, 74), percent, 44, bold=True, align="right")
        page.text((right, 116), score, 24, colour=GREY, align="right", room=middle)
    page.text((MARGIN, 74), str(row["slide_id"]), 44, bold=True, room=right - used - MARGIN - 40)
    counts = [
        f"{row[name]:,} {word}"
        for name, word in (("n_nuclei", "nuclei"), ("n_positive", "positive"), ("n_negative", "negative"))
        if row.get(name) is not None
    ]
    if row.get("tissue_mm2") is not None:
        counts.append(f"{row['tissue_mm2']:,.{2 if row['tissue_mm2'] >= 0.1 else 4}f} mm² tissue")
    page.text((MARGIN, 116), "  ·  ".join(counts), 24, colour=GREY, room=right - middle)
    if row.get("message"):
        page.text((MARGIN, 150), str(row["message"]), 21, colour=AMBER, room=right - MARGIN)


def score_lines(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the score of a slide in two lines; no rounding takes a percentage across a limit."""
    percent, low, high = (round_percent(row[name]) for name in ("percent_positive", "ci_low", "ci_high"))
    borderline = ", borderline" if row.get("borderline") else ""
    return (
        f"{percent:.2f} % positive",
        f"95 % CI {low:.2f} to {high:.2f} %  ·  ER {row['er_category']}{borderline}",
    )


def notice(row: Mapping[str, Any]) -> str:
    """Return what every picture says at its bottom."""
    return f"Simulated slide. {NOTICE}" if row.get("simulated") else NOTICE


def footer(
    page: Page,
    row: Mapping[str, Any],
    *,
    labels: Sequence[str] = (),
    lines: Sequence[tuple[str, Mark]] = (),
) -> None:
    """Write the notice and what made the result at the bottom, and on its left a key, if any.

    Where one line is too short for the key (see `key_lines`, which takes the same), the page has to be higher
    by `KEY_LINE` for every further one.
    """
    y, right = page.image.height - 30, page.width - MARGIN
    key = key_lines(row, labels, page.width, lines)
    x, top = float(MARGIN), y - KEY_LINE * max(len(key) - 1, 0)
    page.draw.line((MARGIN, top - 36, right, top - 36), fill=RULE, width=2)
    for number, line in enumerate(key):
        x = _draw_key(page, line, top + KEY_LINE * number)
    used = page.text((right, y), notice(row), KEY_SIZE, bold=True, align="right")
    made = [str(row[name]) for name in ("model", "backend") if row.get(name)]
    if row.get("version"):
        made.append(f"ercohort {row['version']}")
    if (room := right - used - 40 - x) > 200:
        page.text((right - used - 28, y), "  ·  ".join(made), KEY_SIZE, colour=GREY, align="right", room=room)


def key_lines(
    row: Mapping[str, Any],
    labels: Sequence[str],
    page_width: int,
    lines: Sequence[tuple[str, Mark]] = (),
) -> list[list[tuple[str, Mark]]]:
    """Break the key into lines that leave room for the notice.

    Parameters
    ----------
    row
        The slide's row of the cohort table; where it counts each class, the key says how many.
    labels
        Classes of the detector.
    page_width
        Pixels.
    lines
        Text and name in `LINES` of what else is drawn.

    Returns
    -------
    Lines of (text, mark).
    """
    type_ = font(KEY_SIZE)
    room = page_width - 2 * MARGIN - font(KEY_SIZE, bold=True).getlength(notice(row)) - 40
    entries: list[tuple[str, Mark]] = []
    for label, colour in class_colours(labels).items():
        count = row.get(CLASS_COUNT + label)
        entries.append((label if count is None else f"{label} {count:,}", colour))
    found: list[list[tuple[str, Mark]]] = []
    left = 0.0
    for entry, mark in [*entries, *lines]:
        text = _shorten(entry, type_, room - 72)
        length = 72 + type_.getlength(text)
        if not found or length > left:
            found.append([])
            left = room
        found[-1].append((text, mark))
        left -= length
    return found


def _draw_key(page: Page, line: Sequence[tuple[str, Mark]], y: float) -> float:
    """Draw one line of the key on the baseline `y`; return where it ends."""
    x = float(MARGIN)
    for text, mark in line:
        if isinstance(mark, str):
            colour, width, dash = LINES[mark]
            # As dashed as room allows: two dashes at least.
            draw_path(page.image, [(x, y - 8), (x + 28, y - 8)], colour, width=width, dash=min(dash, 10))
            x += 38 + page.text((x + 38, y), text, KEY_SIZE) + 34
        else:
            page.draw.ellipse((x, y - 19, x + 24, y + 1), outline=mark, width=4)
            x += 34 + page.text((x + 34, y), text, KEY_SIZE) + 34
    return x


def wrap(text: str, size: int, room: float) -> list[str]:
    """Break text into lines no longer than `room`."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(_shorten(word, font(size), room))
    return lines


def _shorten(text: str, type_: ImageFont.FreeTypeFont, room: float) -> str:
    if type_.getlength(text) <= room:
        return text
    while text and type_.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def colour_ramp(values: NDArray[np.float64], ramp: Sequence[RGB]) -> NDArray[np.uint8]:
    """Colours of values from 0 to 1, shape (..., 3)."""
    stops = np.linspace(0, 1, len(ramp))
    channels = [np.interp(values, stops, channel) for channel in np.transpose(ramp)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def nice_length(limit: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is no more than `limit`."""
    digits = math.floor(math.log10(limit))
    # One power lower too: the logarithm of 999.9999999999999 rounds up to 3.
    steps = [step * 10.0**power for power in (digits - 1, digits) for step in (1, 2, 5)]
    return max(step for step in steps if step <= limit)


def scale_bar(picture: Image.Image, mpp: float, *, size: int) -> None:
    """Draw a scale bar into the lower left corner of a picture of `mpp` µm per pixel."""
    um = nice_length(max(0.22 * picture.width * mpp, 1e-3))
    label = f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"
    length, pad, thick = um / mpp, size * 0.5, max(size // 5, 3)
    width = max(length, font(size).getlength(label)) + 2 * pad
    draw = ImageDraw.Draw(picture, "RGBA")
    left, bottom = pad, picture.height - pad
    draw.rounded_rectangle(
        (left, bottom - 1.9 * size - thick, left + width, bottom), size * 0.3, fill=(*PAPER, 225)
    )
    bar_left = left + (width - length) / 2
    draw.rectangle((bar_left, bottom - pad - thick, bar_left + length, bottom - pad), fill=INK)
    draw.text((left + width / 2, bottom - pad - 1.7 * thick), label, fill=INK, font=font(size), anchor="ms")


def badge(draw: ImageDraw.ImageDraw, centre: tuple[float, float], letter: str, size: int) -> None:
    """Draw a letter on a dark disc."""
    x, y, radius = *centre, size * 0.78
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=INK, outline=PAPER, width=2)
    draw.text((x, y), letter, fill=PAPER, font=font(size, bold=True), anchor="mm")
