"""The files of an evaluation: the table of slides, the report, the pictures and the worst fields."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ercohort.annotated import Annotated, AnnotatedSlide
from ercohort.evaluate import evaluate_slides
from ercohort.evaluation_output import write_outputs, write_slides
from ercohort.evaluation_pictures import plot_curve, plot_froc, plot_nothing
from ercohort.points import IGNORED, Points
from ercohort.slide import open_slide
from ercohort.worst_fields import COLOURS, FALSE, MISSED, RIGHT, WRONG, mark_errors, worst_fields
from tests.slides import write_pyramid

P, N = LABELS = ("Positive", "Negative")
FILES = {
    "agreement.png", "curve.png", "evaluation.json", "froc.png", "report.txt", "slides.csv",
    "worst_fields.jpg",
}  # fmt: skip


def points(rows) -> Points:
    """Make points of (x, y, label, score), with boxes of 16 px."""
    xy = np.array([row[:2] for row in rows], dtype=np.float64).reshape(-1, 2)
    label, score = np.array([row[2] for row in rows], np.str_), np.array([row[3] for row in rows], float)
    return Points(xy, label, score, np.concatenate([xy - 8, xy + 8], axis=1))


def cohort(info=None, n=5) -> Annotated:
    """Slides of 1000 x 800 px at 0.5 µm: errors in one corner of each, more of them on each slide."""
    slides = []
    for number in range(n):
        truth = [(100 + 40 * k, 700, (P, N)[k > number], 1.0) for k in range(10)]
        pred = [(x, y, label, 0.3 + 0.06 * k) for k, (x, y, label, _) in enumerate(truth)]
        truth += [(860 + 5 * k, 60, P, 1.0) for k in range(number)]
        pred += [(900, 100 + 20 * k, P, 0.1 + 0.1 * k) for k in range(number)]
        slides.append(
            AnnotatedSlide(
                f"s{number}", points(pred), points(truth), None, 0.5, "slide.json", 0.2, "slide", info
            )
        )
    return Annotated(LABELS, tuple(slides), {"gone": "the run could not read the slide: missing"})


@pytest.fixture(scope="module")
def slide_info(tmp_path_factory):
    """A plain slide that can be read."""
    path = tmp_path_factory.mktemp("plain") / "plain.tif"
    write_pyramid(path, np.full((800, 1000, 3), 170, np.uint8), compression="deflate")
    with open_slide(path, mpp=0.5) as slide:
        return slide.info.to_dict()


def test_all_files_are_written_and_agree(tmp_path, slide_info):
    annotated = cohort(slide_info)
    evaluation = evaluate_slides(annotated, score=0.2, curve_from=0.05, bootstrap=200)
    write_outputs(tmp_path, evaluation, annotated)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert (figures["score"], figures["n_slides"]) == (0.2, 5)
    at_score = next(point for point in figures["curve"] if point["score"] == 0.2)
    assert at_score["detection"] == figures["pooled"]["detection"]
    assert at_score["false_positives_per_mm2"] == pytest.approx(figures["pooled"]["detection"]["fp"] / 1.0)
    assert figures["intervals"]["detection_f1"]["value"] == figures["pooled"]["detection"]["f1"]
    assert figures["average_precision"]["n_slides"] == 5
    assert figures["fewest_positives"]["slides"] == ["s0", "s1"]
    report = (tmp_path / "report.txt").read_text()
    assert max(map(len, report.splitlines())) <= 110
    assert "95 % intervals by bootstrap, slides drawn 200 times:" in report
    assert f"mAP50 {figures['average_precision']['map50']:.3f}" in report
    assert "on the slides of the fewest positives (2, up to" in report
    assert "gone: the run could not read the slide: missing" in report


def test_without_pictures_there_are_three_files(tmp_path):
    annotated = cohort()
    write_outputs(tmp_path, evaluate_slides(annotated), annotated, pictures=False)
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "report.txt", "slides.csv"}


def test_the_table_has_a_row_for_every_slide_also_those_left_out(tmp_path):
    evaluation = evaluate_slides(cohort(), score=0.2)
    write_slides(tmp_path / "slides.csv", evaluation)
    table = pl.read_csv(tmp_path / "slides.csv")
    assert table["slide_id"].to_list() == ["gone", "s0", "s1", "s2", "s3", "s4"]
    gone, last = table.row(0, named=True), table.row(5, named=True)
    assert gone["not_evaluated"] == "the run could not read the slide: missing"
    assert gone["f1"] is None
    assert (last["n_truth"], last["n_found"], last["tp"], last["fp"], last["fn"]) == (14, 12, 10, 2, 4)
    assert last["f1"] == pytest.approx(20 / 26)
    assert (last["n_truth_Positive"], last["n_found_Negative"]) == (9, 5)
    assert (last["area_mm2"], last["area_source"]) == (0.2, "slide")
    assert last["percent_positive_difference"] == pytest.approx(100 * 7 / 12 - 100 * 9 / 14)


def test_curves_are_drawn_and_say_so_where_there_is_none(tmp_path):
    evaluation = evaluate_slides(cohort(), score=0.2, curve_from=0.05)
    bare = evaluate_slides(cohort(), score=0.2)
    for draw in (plot_curve, plot_froc):
        draw(tmp_path / "a.png", evaluation)
        draw(tmp_path / "b.png", bare)
        drawn, empty = (np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("a.png", "b.png"))
        assert drawn.shape == empty.shape
        ink, words = (float((picture < 128).mean()) for picture in (drawn, empty))
        assert ink > 2 * words > 0
    plot_nothing(tmp_path / "c.png", "No agreement.")
    assert np.asarray(Image.open(tmp_path / "c.png").convert("L")).min() < 60


def test_every_nucleus_is_marked_with_what_became_of_it():
    truth = [(100, 100, P, 1), (200, 100, N, 1), (300, 100, P, 1), (400, 100, IGNORED, 1)]
    pred = [
        (101, 100, P, 0.9),
        (203, 100, P, 0.9),
        (401, 100, P, 0.9),
        (500, 100, N, 0.9),
        (900, 100, N, 0.9),
    ]
    roi = np.array([[0.0, 0, 800, 800]])
    slide = AnnotatedSlide("a", points(pred), points(truth), roi, 0.5, "slide.json")
    marks = mark_errors(slide, evaluate_slides(Annotated(LABELS, (slide,), {})))
    found = {
        (int(x), int(kind), str(note))
        for (x, _), kind, note in zip(marks.xy, marks.kind, marks.note, strict=True)
    }
    assert found == {(101, RIGHT, ""), (203, WRONG, "N>P"), (500, FALSE, "N"), (300, MISSED, "P")}


def test_the_worst_fields_come_first_and_hold_the_errors(slide_info):
    annotated = cohort(slide_info)
    fields = worst_fields(evaluate_slides(annotated), annotated)
    assert [field.slide.slide_id for field in fields] == ["s4", "s3", "s2", "s1"]
    assert [field.n_errors for field in fields] == [8, 6, 4, 2]
    for field in fields:
        assert field.side == 200
        assert field.x <= 860
        assert field.x + field.side >= 900
        assert (field.x >= 0, field.y >= 0) == (True, True)
        assert field.x + field.side <= 1000
    # At a higher score the false ones go.
    above = worst_fields(evaluate_slides(annotated, score=0.35), annotated)
    assert [field.n_errors for field in above[:3]] == [5, 3, 2]


def test_the_worst_fields_show_each_error_in_its_colour(tmp_path, slide_info):
    annotated = cohort(slide_info)
    write_outputs(tmp_path, evaluate_slides(annotated), annotated)
    picture = np.asarray(Image.open(tmp_path / "worst_fields.jpg")).astype(int)
    first = picture[140:700, 48:608]
    for kind in (FALSE, MISSED):
        near = np.abs(first - np.array(COLOURS[kind])).max(axis=2) < 50
        assert near.sum() > 100, kind


def test_slides_that_cannot_be_read_any_more_give_no_field(tmp_path, slide_info):
    annotated = cohort({**slide_info, "path": str(tmp_path / "gone.tif")})
    evaluation = evaluate_slides(annotated)
    assert worst_fields(evaluation, annotated) == []
    write_outputs(tmp_path, evaluation, annotated)
    assert Image.open(tmp_path / "worst_fields.jpg").size[0] > 1000
