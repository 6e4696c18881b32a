"""Evaluation against annotations: counts by hand, regions, ignored points, folders, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from ercohort import schema
from ercohort.agreement import agree
from ercohort.confusion import Confusion, Score
from ercohort.errors import InputError
from ercohort.evaluate import evaluate_points, evaluate_results, write_evaluation
from ercohort.evaluation_report import format_evaluation, plot_agreement
from ercohort.files import write_json, write_table
from ercohort.points import IGNORED

P, N = schema.LABELS
METHODS = ("hungarian", "greedy")


def compare(pred, truth, radius=5.0, **options) -> Confusion:
    """Compare lists of (x, y, label)."""

    def split(points):
        return [(x, y) for x, y, _ in points], [label for _, _, label in points]

    (pred_xy, pred_label), (truth_xy, truth_label) = split(pred), split(truth)
    scores = np.linspace(0.9, 0.5, len(pred))
    return evaluate_points(pred_xy, pred_label, scores, truth_xy, truth_label, radius, **options)[0]


@pytest.mark.parametrize("method", METHODS)
def test_every_figure_of_a_small_slide_by_hand(method):
    truth = [(0, 0, P), (100, 0, P), (200, 0, N), (300, 0, N), (400, 0, N)]
    pred = [(1, 0, P), (101, 0, N), (202, 0, N), (300, 3, P), (600, 0, P), (700, 0, N)]
    confusion = compare(pred, truth, method=method)
    assert confusion.matched.tolist() == [[1, 1], [1, 1]]
    assert confusion.missed.tolist() == [0, 1]
    assert confusion.spurious.tolist() == [1, 1]
    assert confusion.detection == Score(tp=4, fp=2, fn=1)
    assert confusion.by_class == {P: Score(tp=1, fp=2, fn=1), N: Score(tp=1, fp=2, fn=2)}
    figures = confusion.to_dict()
    assert figures["detection"]["precision"] == pytest.approx(4 / 6)
    assert figures["detection"]["recall"] == pytest.approx(4 / 5)
    assert figures["detection"]["f1"] == pytest.approx(8 / 11)
    assert figures["class_mean"]["precision"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert figures["class_mean"]["recall"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert figures["class_mean"]["f1"] == pytest.approx((2 / 5 + 2 / 6) / 2)
    assert figures["n_truth"] == {P: 2, N: 3}
    assert figures["n_predicted"] == {P: 3, N: 3}
    assert figures["percent_positive_truth"] == pytest.approx(40)
    assert figures["percent_positive_predicted"] == pytest.approx(50)
    assert figures["percent_positive_difference"] == pytest.approx(10)
    # One positive on a negative nucleus and one on nothing, of 3 negatives.
    assert figures["false_positives_per_10k_negatives"] == pytest.approx(20_000 / 3)


@pytest.mark.parametrize("method", METHODS)
def test_ignored_points_are_neither_found_nor_missed(method):
    truth = [(0, 0, P), (100, 0, IGNORED), (200, 0, IGNORED), (4, 0, IGNORED)]
    pred = [(1, 0, P), (101, 0, P), (101, 1, N), (300, 0, IGNORED)]
    confusion = compare(pred, truth, method=method)
    assert confusion.ignored == 1
    assert confusion.detection == Score(tp=1, fp=1, fn=0)


def test_an_ignored_point_never_takes_a_detection_from_a_nucleus():
    # The ignored point is the nearer one.
    confusion = compare([(0, 0, P)], [(3, 0, P), (1, 0, IGNORED)])
    assert (confusion.detection, confusion.ignored) == (Score(1, 0, 0), 0)


def test_only_what_lies_in_the_region_counts():
    roi = np.zeros((10, 20), dtype=bool)
    roi[2:8, 5:15] = True
    truth = [(5.0, 2.0, P), (14.99, 7.99, N), (4.99, 2, P), (15.0, 7, N), (10, 1, N)]
    pred = [(5.5, 2.5, P), (14.5, 7.5, N), (16, 7, N), (10, 8, P), (-1, 4, P), (1e6, 4, P)]
    confusion = compare(pred, truth, radius=2.0, roi=roi)
    assert confusion.detection == Score(tp=2, fp=0, fn=0)
    assert confusion.n_truth == {P: 1, N: 1}


def test_pairs_name_the_rows_that_were_given():
    roi = np.ones((50, 50), dtype=bool)
    _, pairs = evaluate_points(
        [(90, 90), (10, 10), (20, 20)],
        [P, N, P],
        [0.9, 0.4, 0.8],
        [(20, 21), (99, 0), (10, 10)],
        [P, P, N],
        5,
        roi=roi,
    )
    assert dict(zip(pairs.pred.tolist(), pairs.truth.tolist(), strict=True)) == {1: 2, 2: 0}


def test_greedy_gives_a_tie_to_the_surer_detection():
    tie = [(-1, 0), (1, 0)]
    for scores, label in (([0.5, 0.9], N), ([0.9, 0.5], P)):
        confusion, _ = evaluate_points(tie, [P, N], scores, [(0, 0)], [N], 5, method="greedy")
        assert confusion.matched[1].tolist() == [int(label == P), int(label == N)]


def test_figures_without_a_denominator_are_none():
    nothing = compare([], [])
    assert nothing.detection.to_dict() == {
        "tp": 0,
        "fp": 0,
        "fn": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    }
    assert nothing.percent_truth is None
    assert nothing.percent_difference is None
    assert nothing.false_positives_per_10k is None
    only_negatives = compare([(0, 0, N)], [(0, 0, N)])
    assert only_negatives.class_mean == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert only_negatives.false_positives_per_10k == 0.0
    blind = compare([], [(0, 0, P)])
    assert (blind.detection.precision, blind.detection.recall, blind.detection.f1) == (None, 0.0, 0.0)


nuclei = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from([P, N, IGNORED])), max_size=12
)


@given(nuclei, nuclei, st.sampled_from(METHODS))
def test_every_nucleus_is_counted_exactly_once(pred, truth, method):
    confusion = compare(pred, truth, method=method)
    for label in schema.LABELS:
        assert confusion.n_truth[label] == sum(1 for *_, own in truth if own == label)
    n_pred = sum(1 for *_, own in pred if own != IGNORED)
    assert sum(confusion.n_predicted.values()) + confusion.ignored == n_pred
    assert confusion.detection.tp == confusion.matched.sum()
    json.dumps(confusion.to_dict(), allow_nan=False)


@given(nuclei, nuclei)
def test_counts_add_up_over_slides(first, second):
    one, two = compare(first, second), compare(second, first)
    both = Confusion.zero() + one + two
    assert both.detection.tp == one.detection.tp + two.detection.tp
    assert both.n_truth[P] == one.n_truth[P] + two.n_truth[P]
    assert both.ignored == one.ignored + two.ignored


def write_run(results: Path, slide_id: str, points, *, mpp=0.5, size=(400, 300), status="ok") -> None:
    """Write what a run leaves of one slide: boxes of 10 px around the points."""
    folder = results / "slides" / slide_id
    folder.mkdir(parents=True)
    info = {"mpp": mpp, "width": size[0], "height": size[1]}
    bad = status in ("missing", "unreadable", "no_mpp", "failed")
    write_json(folder / "slide.json", {"slide_id": slide_id, "status": status, "info": None if bad else info})
    x, y = (np.array([point[k] for point in points], dtype=np.float64) for k in (0, 1))
    none = np.zeros(len(points))
    table = pl.DataFrame(
        {
            "x0": x - 5, "y0": y - 5, "x1": x + 5, "y1": y + 5, "score": none + 0.8,
            "label": [point[2] for point in points], "dab_od": none, "hematoxylin_od": none,
            "grade": none, "region": [""] * len(points), "tile_id": none,
        },
        schema_overrides={"label": pl.String, "region": pl.String},
    )  # fmt: skip
    write_table(folder / "nuclei.parquet", table, schema.NUCLEI)


def write_truth(folder: Path, slide_id: str, lines: list[str]) -> Path:
    (folder / slide_id).mkdir(parents=True)
    path = folder / slide_id / "points.csv"
    path.write_text("\n".join(["x,y,class", *lines]) + "\n")
    return path


@pytest.fixture
def cohort(tmp_path):
    """Two evaluated slides (the second with a region), two bad ones, one without tissue, one unannotated."""
    results, truth = tmp_path / "results", tmp_path / "truth"
    write_run(results, "a", [(50, 50, P), (100, 50, N), (200, 50, N)])
    write_truth(truth, "a", ["50,58,positive", "100,50,Negative", "300,50,NEGATIVE", "200,52,til"])
    write_run(results, "b", [(50, 50, P), (350, 250, P)], mpp=0.25)
    write_truth(truth, "b", ["52,50,positive", "352,250,positive", "60,250,negative"])
    roi = np.zeros((300, 400), np.uint8)
    roi[:, :200] = 255
    Image.fromarray(roi).save(truth / "b" / "roi.png")
    write_run(results, "gone", [], status="missing")
    write_truth(truth, "gone", ["1,1,positive"])
    write_run(results, "glass", [], status="no_tissue")
    write_truth(truth, "glass", ["1,1,positive"])
    write_run(results, "extra", [(1, 1, P)])
    write_truth(truth, "never-run", ["1,1,positive"])
    return results, truth


def test_a_results_folder_against_a_truth_folder(cohort):
    evaluation = evaluate_results(*cohort)
    by_id = {slide.slide_id: slide for slide in evaluation.slides}
    assert list(by_id) == ["a", "b", "glass"]
    # 5 um are 10 px on a: the positive at 8 px pairs, the til takes its detection away.
    assert by_id["a"].confusion.detection == Score(tp=2, fp=0, fn=1)
    assert by_id["a"].confusion.ignored == 1
    assert by_id["a"].mean_distance_um == pytest.approx(2.0)
    assert (by_id["a"].mpp, by_id["a"].mpp_source, by_id["a"].has_roi) == (0.5, "slide.json", False)
    assert by_id["b"].confusion.detection == Score(tp=1, fp=0, fn=1)
    assert by_id["b"].has_roi
    # The run saw the slide and found nothing: a miss, not an omission.
    assert by_id["glass"].confusion.detection == Score(tp=0, fp=0, fn=1)
    assert evaluation.not_evaluated == {
        "extra": "no truth",
        "gone": "the run could not read the slide: missing",
        "never-run": "no detections",
    }
    assert evaluation.pooled.detection == Score(tp=3, fp=0, fn=3)
    assert evaluation.agreement.n == 2


def test_a_slide_that_failed_after_it_was_opened_is_listed_not_counted(cohort):
    results, truth = cohort
    write_json(results / "slides" / "a" / "summary.json", {"row": {"status": "unreadable"}})
    write_json(results / "slides" / "b" / "summary.json", {"row": {"status": "partial"}})
    (results / "slides" / "glass" / "nuclei.parquet").unlink()
    evaluation = evaluate_results(results, truth)
    assert [slide.slide_id for slide in evaluation.slides] == ["b"]
    assert evaluation.not_evaluated["a"] == "the run could not read the slide: unreadable"
    assert "glass/nuclei.parquet is missing" in evaluation.not_evaluated["glass"]


def test_the_radius_is_in_micrometres(cohort):
    results, truth = cohort
    assert evaluate_results(results, truth, radius_um=3.9).slides[0].confusion.detection.tp == 1
    assert evaluate_results(results, truth, radius_um=4.0).slides[0].confusion.detection.tp == 2
    assert evaluate_results(results, truth, radius_um=4.0, mpp=0.6).slides[0].confusion.detection.tp == 1
    (truth / "index.csv").write_text("id,mpp_estimate\na,0.6\nb,\n")
    evaluation = evaluate_results(results, truth, radius_um=4.0)
    assert evaluation.slides[0].confusion.detection.tp == 1
    assert [slide.mpp_source for slide in evaluation.slides] == ["index.csv", "slide.json", "slide.json"]


def test_one_file_against_one_file(tmp_path):
    detections = tmp_path / "mine.csv"
    detections.write_text("x,y,class,score\n10,10,Positive,0.9\n90,90,negative,0.8\n")
    truth = write_truth(tmp_path / "truth", "field", ["11,10,positive", "50,50,negative"])
    evaluation = evaluate_results(detections, truth, mpp=0.5)
    assert [slide.slide_id for slide in evaluation.slides] == ["field"]
    assert evaluation.pooled.detection == Score(tp=1, fp=1, fn=1)
    assert evaluation.agreement is None
    assert evaluate_results(detections, tmp_path / "truth", mpp=0.5).pooled.detection == Score(1, 1, 1)


def test_one_slides_folder_and_one_slides_table(cohort):
    results, truth = cohort
    whole = evaluate_results(results, truth).slides[0].confusion.to_dict()
    for detections in (results / "slides" / "a", results / "slides" / "a" / "nuclei.parquet"):
        for annotated in (truth, truth / "a", truth / "a" / "points.csv"):
            (slide,) = evaluate_results(detections, annotated).slides
            assert slide.slide_id == "a"
            assert slide.confusion.to_dict() == whole


def test_simulated_truth_boxes(tmp_path):
    write_run(tmp_path / "results", "sim", [(50, 50, P), (100, 50, N)])
    (tmp_path / "truth").mkdir()
    truth = pl.DataFrame(
        {"x0": [45.0, 96], "y0": [45.0, 45], "x1": [55.0, 106], "y1": [55.0, 55], "label": [P, N]}
    )
    truth.write_parquet(tmp_path / "truth" / "sim.truth.parquet")
    evaluation = evaluate_results(tmp_path / "results", tmp_path / "truth")
    assert evaluation.pooled.detection == Score(2, 0, 0)
    assert evaluation.slides[0].mean_distance_um == pytest.approx(0.25)


def test_bad_folders_are_named(cohort, tmp_path):
    results, truth = cohort
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(InputError, match=wrong.name):
            evaluate_results(wrong, truth)
        with pytest.raises(InputError, match=wrong.name):
            evaluate_results(results, wrong)
    other = tmp_path / "other"
    write_truth(other, "z", ["1,1,positive"])
    with pytest.raises(InputError, match="no slide id is in both"):
        evaluate_results(results, other)
    write_truth(other / "again", "z", ["1,1,positive"])
    with pytest.raises(InputError, match="z has two truths"):
        evaluate_results(results, other)


def test_a_region_of_another_size_and_a_broken_one_are_refused(cohort):
    results, truth = cohort
    Image.new("L", (200, 150)).save(truth / "b" / "roi.png")
    with pytest.raises(InputError, match="is 200 x 150 px, the slide 400 x 300"):
        evaluate_results(results, truth)
    (truth / "b" / "roi.png").write_text("no picture")
    with pytest.raises(InputError, match=r"roi.png: cannot be read as a picture"):
        evaluate_results(results, truth)


def test_unknown_scale_and_radius_are_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("x,y,class\n1,1,positive\n")
    truth = write_truth(tmp_path / "truth", "a", ["1,1,positive"])
    with pytest.raises(InputError, match="give --mpp"):
        evaluate_results(tmp_path / "mine.csv", truth)
    with pytest.raises(InputError, match="must be above 0"):
        evaluate_results(tmp_path / "mine.csv", truth, mpp=0.5, radius_um=0)
    (tmp_path / "truth" / "index.csv").write_text("id,mpp\na,-1\n")
    with pytest.raises(InputError, match=r"index.csv: mpp of a is '-1'"):
        evaluate_results(tmp_path / "mine.csv", truth)


def test_the_json_holds_every_figure_and_says_how_they_came_about(cohort, tmp_path):
    write_evaluation(tmp_path / "evaluation.json", evaluate_results(*cohort, method="greedy"))
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["matching"] == {"method": "greedy", "radius_um": 5.0}
    assert figures["pooled"]["detection"]["tp"] == 3
    assert [slide["slide_id"] for slide in figures["slides"]] == ["a", "b", "glass"]
    assert set(figures["agreement_percent_positive"]) == {"n", "pearson", "icc", "bland_altman"}
    assert figures["not_evaluated"]["never-run"] == "no detections"


def test_the_table_fits_the_terminal_and_says_the_method(cohort):
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(format_evaluation(evaluate_results(*cohort)))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 110
    assert "within 5 µm, most pairs, least distance (Hungarian)" in text
    pooled = next(line for line in text.splitlines() if line.startswith("all, pooled"))
    assert pooled.split()[2:6] == ["6", "3", "1.000", "0.500"]
    assert "never-run: no detections" in text
    assert "Research use only." in text


def test_the_picture_is_written_whole_or_not_at_all(tmp_path):
    truth, predicted = [0.0, 5.0, 40.0, 90.0], [1.0, 9.0, 38.0, 95.0]
    agreement = agree(truth, predicted)
    plot_agreement(tmp_path / "agreement.png", truth, predicted, agreement=agreement)
    with Image.open(tmp_path / "agreement.png") as picture:
        assert picture.size == (1500, 720)
        assert np.asarray(picture.convert("L")).min() < 60
    with pytest.raises(InputError, match=r"use \.png"):
        plot_agreement(tmp_path / "agreement.xyz", truth, predicted, agreement=agreement)
    assert [path.name for path in tmp_path.iterdir()] == ["agreement.png"]


@pytest.mark.real_data
def test_an_annotated_field_agrees_with_itself(shared_data):
    truth = shared_data / "ihc-dev" / "ki67-fields" / "field01"
    evaluation = evaluate_results(truth / "points.csv", truth)
    score = evaluation.pooled.detection
    assert (score.precision, score.recall) == (1.0, 1.0)
    assert evaluation.slides[0].has_roi
    assert evaluation.pooled.percent_difference == 0.0
