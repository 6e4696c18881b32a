"""The fields where detections and annotations differ most, drawn to be judged by eye."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from ercohort.annotated import Annotated, AnnotatedSlide
from ercohort.canvas import GREY, INK, MARGIN, PAPER, RGB, RULE, Page, font, scale_bar
from ercohort.errors import SlideError
from ercohort.files import atomic_path
from ercohort.pairing import evaluate_points
from ercohort.points import IGNORED, ROI, inside
from ercohort.slide import SlideInfo, open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.evaluate import Evaluation
    from ercohort.slide import Slide

NOTICE = "Research use only. Not for diagnosis."

FIELD_UM = 100.0
"""Side of a field, µm."""

N_FIELDS = 12
PER_SLIDE = 2
COLUMNS = 4
SIDE = 560
GAP = 28
CAPTION = 48
TOP = 140
BOTTOM = 84
POINT_UM = 8.0
"""Side of the mark of a detection that is known as a point, µm."""

CROSS_UM = 4.5
"""Side of the cross on a missed nucleus, µm: small enough that neighbours' crosses stay apart."""

RIGHT, FALSE, WRONG, MISSED = range(4)
# Far from blue and brown; green and magenta stay apart with any colour blindness, and the shapes differ too.
COLOURS: tuple[RGB, ...] = ((255, 255, 255), (80, 235, 70), (255, 236, 60), (255, 70, 220))
KEYS = ("right", "false", "wrong class", "missed")
_CASING: RGB = (20, 22, 26)


@dataclass(frozen=True, eq=False)
class Marks:
    """Everything that is drawn on one slide.

    Parameters
    ----------
    boxes
        (N, 4) level-0 pixels.
    kind
        (N,) right, false, wrong class or missed.
    note
        (N,) first letters of the classes: `P` found or annotated, `N>P` annotated negative, found positive.
    """

    boxes: NDArray[np.float64]
    kind: NDArray[np.int64]
    note: NDArray[np.str_]

    @property
    def xy(self) -> NDArray[np.float64]:
        """(N, 2) centres."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2)


@dataclass(frozen=True, eq=False)
class WorstField:
    """A square field: its slide, upper left corner and side in level-0 pixels, and how many errors it has."""

    slide: AnnotatedSlide
    marks: Marks
    x: int
    y: int
    side: int
    n_errors: int


def write_worst_fields(path: str | os.PathLike[str], evaluation: Evaluation, annotated: Annotated) -> None:
    """Draw up to 12 fields of 100 µm with most missed, false and wrongly classed nuclei, two of a slide.

    Slides whose pixels cannot be read any more are passed over; without any field the picture says so.

    Parameters
    ----------
    path
        The picture to write, `.jpg` or `.png`.
    """
    fields = worst_fields(evaluation, annotated)
    rows = max(1, -(-len(fields) // COLUMNS))
    step = (SIDE + GAP, SIDE + CAPTION + GAP)
    page = Page(2 * MARGIN + COLUMNS * step[0] - GAP, TOP + rows * step[1] + BOTTOM)
    page.text((MARGIN, 70), "Fields of most errors", 40, bold=True)
    above = "" if evaluation.score is None else f", detections above score {evaluation.score:g}"
    what = f"{FIELD_UM:g} µm wide, at most {PER_SLIDE} of a slide{above}; faded: not evaluated"
    page.text((MARGIN, 110), what, 22, colour=GREY)
    if not fields:
        page.text((MARGIN, TOP + 60), "No field: no errors, or no slide whose pixels can be read.", 26)
    for number, field in enumerate(fields):
        corner = MARGIN + number % COLUMNS * step[0], TOP + number // COLUMNS * step[1]
        page.paste(_draw_field(field), corner)
        _caption(page, field, (corner[0], corner[1] + SIDE + 32))
    _footer(page)
    with atomic_path(path) as temporary:
        page.save(temporary)


def worst_fields(evaluation: Evaluation, annotated: Annotated) -> list[WorstField]:
    """Choose the fields, the worst first."""
    found: list[WorstField] = []
    for slide in annotated.slides:
        if slide.info is None or not os.path.exists(slide.info.get("path", "")):
            continue
        counted = slide if evaluation.score is None else slide.above(evaluation.score)
        marks = mark_errors(counted, evaluation)
        found += _of_slide(counted, marks)
    found.sort(key=lambda field: (-field.n_errors, field.slide.slide_id))
    return found[:N_FIELDS]


def mark_errors(slide: AnnotatedSlide, evaluation: Evaluation) -> Marks:
    """Say what became of every detected and annotated nucleus of a slide."""
    pred, truth = slide.pred, slide.truth
    _, pairs = evaluate_points(
        pred.xy, pred.label, pred.score, truth.xy, truth.label, evaluation.radius_um / slide.mpp,
        method=evaluation.method, roi=slide.roi, labels=evaluation.labels,
    )  # fmt: skip
    same = pred.label[pairs.pred] == truth.label[pairs.truth]
    alone = _left(pred.xy, pred.label, pairs.pred, slide.roi)
    alone = alone[~_on_ignored(pred.xy[alone], slide, evaluation.radius_um)]
    missed = _left(truth.xy, truth.label, pairs.truth, slide.roi)
    half = POINT_UM / slide.mpp / 2
    pred_boxes = _boxes(pred.xy, pred.boxes, half)
    crosses = _boxes(truth.xy, None, CROSS_UM / slide.mpp / 2)
    wrong = [
        f"{_letter(one)}>{_letter(other)}"
        for one, other in zip(truth.label[pairs.truth[~same]], pred.label[pairs.pred[~same]], strict=True)
    ]
    parts = (
        (RIGHT, pred_boxes[pairs.pred[same]], [""] * int(same.sum())),
        (FALSE, pred_boxes[alone], [_letter(label) for label in pred.label[alone]]),
        (WRONG, pred_boxes[pairs.pred[~same]], wrong),
        (MISSED, crosses[missed], [_letter(label) for label in truth.label[missed]]),
    )
    return Marks(
        np.concatenate([boxes for _, boxes, _ in parts]),
        np.repeat([kind for kind, _, _ in parts], [len(boxes) for _, boxes, _ in parts]),
        np.array([note for *_, notes in parts for note in notes], dtype=np.str_),
    )


def _left(
    xy: NDArray[np.float64], label: NDArray[np.str_], paired: NDArray[np.int64], roi: ROI | None
) -> NDArray[np.int64]:
    """Return the nuclei that count and have no partner."""
    left = label != IGNORED
    left[paired] = False
    if roi is not None:
        left &= inside(xy, roi)
    return np.flatnonzero(left)


def _on_ignored(xy: NDArray[np.float64], slide: AnnotatedSlide, radius_um: float) -> NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    ignored = slide.truth.xy[slide.truth.label == IGNORED]
    if not len(ignored) or not len(xy):
        return np.zeros(len(xy), dtype=bool)
    distance, _ = cKDTree(ignored).query(xy)
    return np.asarray(distance <= radius_um / slide.mpp)


def _boxes(xy: NDArray[np.float64], boxes: NDArray[np.float64] | None, half: float) -> NDArray[np.float64]:
    """Boxes of the nuclei; of those known as points, a box around them."""
    around = np.concatenate([xy - half, xy + half], axis=1)
    return around if boxes is None else np.where(np.isfinite(boxes), boxes, around)


def _letter(label: Any) -> str:
    return str(label).rpartition(":")[2].strip()[:1].upper()


def _of_slide(slide: AnnotatedSlide, marks: Marks) -> list[WorstField]:
    """Return the fields of most errors of one slide; they do not overlap."""
    xy = marks.xy[marks.kind != RIGHT]
    side = FIELD_UM / slide.mpp
    fields: list[WorstField] = []
    while len(xy) and len(fields) < PER_SLIDE:
        # Windows in steps of half a side: every cluster of errors is whole in one of them.
        cells = np.floor(xy / (side / 2)).astype(np.int64)
        starts = np.concatenate([cells - shift for shift in ((0, 0), (1, 0), (0, 1), (1, 1))])
        corners, counts = np.unique(starts, axis=0, return_counts=True)
        best = int(np.argmax(counts))
        x, y = corners[best] * side / 2
        assert slide.info is not None
        x, y = _pushed_in(x, side, slide.info["width"]), _pushed_in(y, side, slide.info["height"])
        fields.append(WorstField(slide, marks, round(x), round(y), round(side), int(counts[best])))
        xy = xy[(np.abs(xy - (x + side / 2, y + side / 2)) > side).any(axis=1)]
    return fields


def _pushed_in(start: float, side: float, size: int) -> float:
    return max(min(start, size - side), 0.0)


def _draw_field(field: WorstField) -> Image.Image:
    assert field.slide.info is not None
    info = SlideInfo.from_dict(dict(field.slide.info))
    try:
        with open_slide(info.path, info=info) as slide:
            picture = Image.fromarray(_read(slide, field))
    except SlideError:
        picture = Image.new("RGB", (SIDE, SIDE), RULE)
    _fade_outside(picture, field)
    _draw_marks(picture, field)
    scale_bar(picture, field.slide.mpp * field.side / SIDE, size=18)
    return picture


def _read(slide: Slide, field: WorstField) -> NDArray[np.uint8]:
    return slide.read(field.x, field.y, field.side, field.side, size=(SIDE, SIDE))


def _fade_outside(picture: Image.Image, field: WorstField) -> None:
    """Whiten what lies outside the annotated region."""
    if field.slide.roi is None:
        return
    steps = (np.arange(SIDE) + 0.5) * field.side / SIDE
    x, y = np.meshgrid(field.x + steps, field.y + steps)
    within = inside(np.column_stack([x.ravel(), y.ravel()]), field.slide.roi).reshape(SIDE, SIDE)
    picture.paste(PAPER, (0, 0), Image.fromarray(np.where(within, 0, 150).astype(np.uint8)))


def _draw_marks(picture: Image.Image, field: WorstField) -> None:
    """Draw every mark with a dark casing, at three times the size for smooth lines; then the letters."""
    fine = 3
    scale = SIDE / field.side
    local = (field.marks.boxes - np.array([field.x, field.y] * 2)) * scale
    seen = np.flatnonzero((local[:, 2:] > 0).all(axis=1) & (local[:, :2] < SIDE).all(axis=1))
    layer = Image.new("RGBA", (SIDE * fine, SIDE * fine), (*PAPER, 0))
    draw = ImageDraw.Draw(layer)
    for width, casing in ((4.4, True), (2.2, False)):
        for number in seen.tolist():
            kind = int(field.marks.kind[number])
            colour = (*_CASING, 130) if casing else (*COLOURS[kind], 255)
            thin = 0.6 if kind == RIGHT else 1.0
            _draw_mark(draw, local[number] * fine, kind, colour, round(width * thin * fine))
    picture.paste(layer.resize(picture.size, Image.Resampling.BOX), (0, 0), layer.resize(picture.size))
    letters = ImageDraw.Draw(picture)
    for number in seen.tolist():
        if note := str(field.marks.note[number]):
            x, y = float(local[number, 2]) + 2, float(local[number, 1]) - 2
            place = min(max(x, 4), SIDE - 11 * len(note) - 4), min(max(y, 14), SIDE - 4)
            fill = COLOURS[int(field.marks.kind[number])]
            letters.text(
                place, note, fill=fill, font=font(14, bold=True), anchor="ls", stroke_width=2,
                stroke_fill=_CASING,
            )  # fmt: skip


def _draw_mark(
    draw: ImageDraw.ImageDraw, box: NDArray[np.float64], kind: int, colour: tuple[int, ...], width: int
) -> None:
    x0, y0, x1, y1 = box.tolist()
    if kind == MISSED:
        draw.line((x0, y0, x1, y1), fill=colour, width=width)
        draw.line((x0, y1, x1, y0), fill=colour, width=width)
    elif kind == WRONG:
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=width)
    else:
        draw.ellipse((x0, y0, x1, y1), outline=colour, width=width)


def _caption(page: Page, field: WorstField, at: tuple[int, int]) -> None:
    xy, kind = field.marks.xy, field.marks.kind
    corner = np.array([field.x, field.y])
    within = ((xy >= corner) & (xy < corner + field.side)).all(axis=1)
    counts = [f"{np.count_nonzero(within & (kind == one))} {KEYS[one]}" for one in (MISSED, FALSE, WRONG)]
    text = " · ".join(counts)
    used = font(20).getlength(text)
    page.text(at, field.slide.slide_id, 22, bold=True, room=SIDE - used - 14)
    page.text((at[0] + SIDE, at[1]), text, 20, colour=GREY, align="right")


def _footer(page: Page) -> None:
    y, x, right = page.image.height - 30, float(MARGIN), page.width - MARGIN
    page.draw.line((MARGIN, y - 40, right, y - 40), fill=RULE, width=2)
    for kind in (RIGHT, FALSE, WRONG, MISSED):
        page.draw.rounded_rectangle((x, y - 24, x + 34, y + 8), 5, fill=(120, 120, 128))
        box = np.array([x + 7, y - 18, x + 27, y + 2])
        _draw_mark(page.draw, box, kind, COLOURS[kind], 4)
        x += 44 + page.text((x + 44, y), KEYS[kind], 21) + 34
    page.text((x, y), "letters: class annotated > found", 21, colour=INK)
    page.text((right, y), NOTICE, 21, bold=True, align="right")
