"""Truth from QuPath and classes other than the default: what is compared with what."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from ercohort import schema
from ercohort.annotated import load_annotated
from ercohort.config import DatasetSettings
from ercohort.confusion import Score
from ercohort.errors import InputError
from ercohort.evaluate import evaluate_results
from ercohort.files import write_json, write_table
from ercohort.points import area_px, find_truth, inside

WEAK = ("Positive", "Weak", "Negative")


def write_slide(results: Path, name: str, rows, labels=schema.LABELS, bounds=(0, 0, 4000, 3000)) -> None:
    """Write what a run leaves: (x, y, label, score) as boxes of 20 px."""
    folder = results / "slides" / name
    info = {
        "path": "gone.tif", "vendor": "aperio", "width": 4000, "height": 3000, "mpp": 0.5,
        "mpp_source": "file", "level_dimensions": [[4000, 3000]], "level_downsamples": [1.0],
        "bounds": bounds, "has_bounds": True, "background": [255, 255, 255], "reader": "vips",
        "file_bytes": 1,
    }  # fmt: skip
    tissue = {"downsample_x": 16.0, "downsample_y": 16.0, "background": [255, 255, 255], "area_mm2": 2.0}
    write_json(folder / "slide.json", {"status": "ok", "info": info, "tissue": tissue})
    x, y, label, score = ([row[k] for row in rows] for k in range(4))
    table = pl.DataFrame(
        {
            "x0": [v - 10 for v in x], "y0": [v - 10 for v in y], "x1": [v + 10 for v in x],
            "y1": [v + 10 for v in y], "score": score, "label": label,
        },
        schema_overrides={"label": pl.String},
    )  # fmt: skip
    empty = {key: pl.lit(None, dtype) for key, dtype in schema.NUCLEI.items() if key not in table.columns}
    write_table(
        folder / "nuclei.parquet", table.with_columns(**empty), schema.with_classes(schema.NUCLEI, labels)
    )


def feature(geometry, label, kind="detection", **more):
    properties = {"objectType": kind, "classification": {"name": label}, **more}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def nucleus(x, y, label, side=20):
    h = side / 2
    ring = [[x - h, y - h], [x + h, y - h], [x + h, y + h], [x - h, y + h], [x - h, y - h]]
    return feature({"type": "Polygon", "coordinates": [ring]}, label)


def region(x0, y0, x1, y1):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return feature({"type": "Polygon", "coordinates": [ring]}, "Region*", "annotation")


def write_geojson(path: Path, features) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def corrected(tmp_path):
    """A slide whose scan begins at (100, 50), corrected in QuPath: two regions, one nucleus as a point."""
    found = [
        (300, 250, "Positive", 0.9), (400, 250, "Positive", 0.8), (500, 250, "Negative", 0.7),
        (600, 250, "Negative", 0.6), (2000, 2000, "Positive", 0.9), (1150, 250, "Positive", 0.1),
    ]  # fmt: skip
    write_slide(tmp_path / "results", "s1", found, bounds=(100, 50, 3000, 2500))
    write_geojson(
        tmp_path / "labels" / "s1.geojson",
        [
            region(100, 100, 700, 500),
            region(1000, 100, 1200, 300),
            nucleus(201, 200, "Positive"),
            nucleus(300, 200, "Negative"),
            feature({"type": "Point", "coordinates": [400, 200]}, "Negative"),
            nucleus(500, 200, "Other"),
            nucleus(1100, 150, "Negative"),
            nucleus(1800, 1900, "Positive"),
        ],
    )
    return tmp_path


def test_a_corrected_qupath_file_is_truth_inside_its_regions(corrected):
    evaluation = evaluate_results(corrected / "results", corrected / "labels")
    (slide,) = evaluation.slides
    # The nucleus of class Other takes its detection away; the one at 1,050, 200 in QuPath is false.
    assert slide.confusion.detection == Score(tp=3, fp=1, fn=1)
    assert slide.confusion.matched.tolist() == [[1, 0], [1, 1]]
    assert slide.confusion.ignored == 1
    assert slide.has_roi
    assert (slide.area_mm2, slide.area_source) == (pytest.approx((600 * 400 + 200 * 200) / 4e6), "region")
    # Three of the annotated are boxes; the point and the ignored one are not held against the detector.
    assert evaluation.average_precision is not None
    assert evaluation.average_precision.n_boxes == 3
    assert evaluation.average_precision.by_class["Positive"][0] == pytest.approx(1.0)
    at_05 = evaluate_results(corrected / "results", corrected / "labels", score=0.5)
    assert at_05.pooled.detection == Score(tp=3, fp=0, fn=1)


def test_zipped_truth_and_its_frame(corrected):
    import zipfile

    plain = corrected / "labels" / "s1.geojson"
    with zipfile.ZipFile(corrected / "labels" / "s1.geojson.zip", "w") as archive:
        archive.write(plain, "s1.geojson")
    plain.unlink()
    assert list(find_truth(corrected / "labels")) == ["s1"]
    results, labels = corrected / "results", corrected / "labels"
    assert evaluate_results(results, labels).pooled.detection.tp == 3
    # Read as if the coordinates began at the slide's corner, nothing lies where it was drawn.
    assert evaluate_results(results, labels, frame="slide").pooled.detection.tp == 0


def test_two_truths_of_one_slide_and_a_table_without_its_slide_are_refused(corrected):
    with pytest.raises(InputError, match=r"s1.geojson: to place it, the slide's size is needed"):
        evaluate_results(_table(corrected), corrected / "labels" / "s1.geojson", mpp=0.5)
    (corrected / "labels" / "s1").mkdir()
    (corrected / "labels" / "s1" / "points.csv").write_text("x,y,class\n")
    with pytest.raises(InputError, match="s1 has two truths"):
        evaluate_results(corrected / "results", corrected / "labels")


def _table(corrected: Path) -> Path:
    path = corrected / "s1.csv"
    path.write_text("x,y,class\n300,250,positive\n")
    return path


def test_classes_of_the_config_map_those_of_qupath(corrected):
    features = json.loads((corrected / "labels" / "s1.geojson").read_text())["features"]
    for one in features:
        if one["properties"]["classification"]["name"] == "Positive":
            one["properties"]["classification"]["name"] = "Tumor: Brown"
    write_geojson(corrected / "labels" / "s1.geojson", features)
    with pytest.raises(InputError, match="class 'Tumor: Brown' is unknown"):
        evaluate_results(corrected / "results", corrected / "labels")
    settings = DatasetSettings(classes={"Brown": "Positive", "Negative": "Negative"})
    evaluation = evaluate_results(corrected / "results", corrected / "labels", dataset=settings)
    assert evaluation.pooled.matched.tolist() == [[1, 0], [1, 1]]


@pytest.fixture
def three(tmp_path):
    found = [(100, 100, "Positive", 0.9), (200, 100, "Weak", 0.9), (300, 100, "Negative", 0.9)]
    write_slide(tmp_path / "results", "a", found, WEAK)
    write_slide(tmp_path / "results", "b", [(100, 100, "Weak", 0.9), (200, 100, "Weak", 0.9)], WEAK)
    for name, classes in (("a", ("positive", "positive", "weak")), ("b", ("negative", "WEAK", "til"))):
        folder = tmp_path / "truth" / name
        folder.mkdir(parents=True)
        rows = [f"{x},100,{label}" for x, label in zip((100, 200, 300), classes, strict=True)]
        (folder / "points.csv").write_text("\n".join(["x,y,class", *rows]) + "\n")
    return tmp_path


def test_three_classes_follow_the_detector(three):
    evaluation = evaluate_results(three / "results", three / "truth", bootstrap=100)
    assert evaluation.labels == WEAK
    assert evaluation.pooled.matched.tolist() == [[1, 1, 0], [0, 1, 1], [0, 1, 0]]
    a, b = evaluation.slides
    # Every class but the negative one is positive.
    assert (a.confusion.percent_truth, a.confusion.percent_predicted) == (100.0, pytest.approx(200 / 3))
    assert b.confusion.false_positives_per_10k == 10_000
    assert set(evaluation.pooled.by_class) == set(WEAK)
    assert evaluation.pooled.by_class["Weak"] == Score(tp=1, fp=2, fn=1)
    assert evaluation.intervals is not None
    figures = evaluation.to_dict()
    assert figures["labels"] == list(WEAK)
    assert figures["pooled"]["n_truth"] == {"Positive": 2, "Weak": 2, "Negative": 1}


def test_a_class_that_the_detector_does_not_know_is_refused_by_its_line(three):
    (three / "truth" / "a" / "points.csv").write_text("x,y,class\n1,1,strong\n")
    with pytest.raises(
        InputError, match=r"line 2: class 'strong' is unknown; use positive, weak, negative or til"
    ):
        load_annotated(three / "results", three / "truth")


def test_leaf_names_of_nested_classes_are_understood(tmp_path):
    nested = ("Tumor: Positive", "Tumor: Negative")
    write_slide(tmp_path / "results", "a", [(100, 100, nested[0], 0.9), (200, 100, nested[1], 0.9)], nested)
    (tmp_path / "truth" / "a").mkdir(parents=True)
    (tmp_path / "truth" / "a" / "points.csv").write_text(
        "x,y,class\n100,100,positive\n200,100,tumor: negative\n"
    )
    evaluation = evaluate_results(tmp_path / "results", tmp_path / "truth")
    assert evaluation.pooled.class_mean["f1"] == 1.0
    assert evaluation.pooled.percent_truth == 50.0


def test_what_an_earlier_run_left_can_be_passed_over(three):
    found = load_annotated(three / "results", three / "truth", slide_ids=["b"])
    assert [slide.slide_id for slide in found.slides] == ["b"]
    assert found.left_out == {"a": "no detections"}


def test_the_area_is_that_of_the_tissue_else_of_the_slide(three):
    tissue = load_annotated(three / "results", three / "truth").slides[0]
    assert (tissue.area_mm2, tissue.area_source) == (2.0, "tissue")
    record = json.loads((three / "results/slides/a/slide.json").read_text())
    write_json(three / "results/slides/a/slide.json", record | {"tissue": None})
    whole = load_annotated(three / "results", three / "truth").slides[0]
    assert (whole.area_mm2, whole.area_source) == (pytest.approx(4000 * 3000 / 4e6), "slide")


def test_rectangles_hold_their_upper_left_edge_alone():
    import numpy as np

    roi = np.array([[0.0, 0, 10, 10], [10, 0, 20, 5]])
    xy = np.array([(0, 0), (10, 0), (9.99, 9.99), (10, 5), (20, 0), (-0.1, 3)])
    assert inside(xy, roi).tolist() == [True, True, True, False, False, False]
    assert area_px(roi) == 150.0
    assert inside(xy, np.empty((0, 4))).tolist() == [False] * 6
