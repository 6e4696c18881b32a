"""A few slides' pictures on one sheet, for Snakemake's report: extremes, and those nearest the cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ercohort.canvas import GREY, MARGIN, Page
from ercohort.cohort import RESEARCH_USE
from ercohort.files import atomic_path
from ercohort.scoring import HIGH_PERCENT, LOW_PERCENT

ROOM = 900
CAPTION = 56
GAP = 32
ACROSS = 2


def choose_examples(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return ids of up to six slides, lowest first: the extremes, and the two nearest 1 % and 10 %."""
    scored = sorted(
        (row["percent_positive"], row["slide_id"]) for row in rows if row.get("percent_positive") is not None
    )
    near = {cut: sorted(scored, key=lambda entry: abs(entry[0] - cut)) for cut in (LOW_PERCENT, HIGH_PERCENT)}
    chosen = {*scored[:1], *scored[-1:], *near[LOW_PERCENT][:2], *near[HIGH_PERCENT][:2]}
    return [slide_id for _, slide_id in sorted(chosen)]


def draw_examples(path: str | Path, results: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the overlays of a few slides on one sheet.

    Parameters
    ----------
    path
        The picture to write.
    results
        The folder that the run wrote.
    rows
        Rows of the cohort table.
    """
    pictures = {slide_id: results / "slides" / slide_id / "overlay.jpg" for slide_id in choose_examples(rows)}
    pictures = {slide_id: file for slide_id, file in pictures.items() if file.is_file()}
    lines = max(-(-len(pictures) // ACROSS), 1)
    step = ROOM + GAP, ROOM + CAPTION + GAP
    page = Page(2 * MARGIN + ACROSS * step[0] - GAP, 100 + lines * step[1] + MARGIN)
    page.text((MARGIN, 62), "Lowest, highest, and nearest 1 % and 10 %", 32, bold=True)
    page.text((page.width - MARGIN, 62), RESEARCH_USE, 22, colour=GREY, align="right")
    if not pictures:
        page.text((MARGIN, 150), "No slide has a result.", 26, colour=GREY)
    for place, (slide_id, file) in enumerate(pictures.items()):
        x, y = MARGIN + place % ACROSS * step[0], 100 + place // ACROSS * step[1]
        page.text((x, y + 34), slide_id, 26, bold=True, room=ROOM)
        with Image.open(file) as picture:
            picture.draft("RGB", (ROOM, ROOM))
            small = picture.convert("RGB")
        small.thumbnail((ROOM, ROOM), Image.Resampling.LANCZOS)
        page.paste(small, (x, y + CAPTION))
    with atomic_path(path) as temporary:
        page.save(temporary)
