"""The two steps of `snakemake evaluate`: candidates of a slide, figures of the cohort."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from ercohort import schema
from ercohort.config import DatasetSettings, DetectSettings, EvaluateSettings, TileSettings, TissueSettings
from ercohort.files import read_json
from ercohort.steps.engine import prepare_engine
from ercohort.steps.evaluate import evaluate_cohort, find_candidates, touches
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import mask_tissue
from tests.tiny_onnx import THREE_BLUES, THREE_CLASSES, THREE_METADATA, write_detector, write_marked_slide

LABELS = ("Positive", "Weak", "Negative")
TILES = ((5, 3, 10), (0, 7, 0), (2, 0, 20), (1, 1, 1))
SCORE = 0.8
"""Positives have 0.95, weak ones 0.7, negatives 0.52: at this operating point only positives are found."""
LOWEST = EvaluateSettings(lowest_score=0.3, bootstrap=100)
"""The bare tissue has 0.1, which is no nucleus."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A slide laid out in tiles as a run leaves it, with all planted nuclei as truth."""
    root = tmp_path_factory.mktemp("evaluate")
    model = write_detector(root / "three.onnx", metadata=THREE_METADATA, classes=THREE_CLASSES)
    planted = write_marked_slide(root / "slide.tif", TILES)
    prepare_engine(model=str(model), backend="openvino", precision="f32", output=root / "engine.json")
    folder = root / "results" / "slides" / "S1"
    mask_tissue(
        slide_id="S1", path=str(root / "slide.tif"), readable=str(root / "slide.tif"), mpp=None,
        settings=TissueSettings(), folder=folder,
    )  # fmt: skip
    lay_out_tiles(detector_mpp=0.5, settings=TileSettings(), folder=folder)
    (root / "truth" / "S1").mkdir(parents=True)
    rows = [f"{x},{y},{LABELS[index]}" for x, y, index in planted]
    (root / "truth" / "S1" / "points.csv").write_text("\n".join(["x,y,class", *rows]) + "\n")
    return root, planted


def candidates(root, truth, folder, score=SCORE):
    find_candidates(
        source=root / "results" / "slides" / "S1", truth=truth, model=str(root / "three.onnx"),
        engine=root / "engine.json", detect=DetectSettings(score=score), settings=LOWEST,
        tile_px=640, detector_mpp=0.5, dataset=DatasetSettings(classes={name: name for name in LABELS}),
        frame="qupath", gpu=0, threads=2, folder=folder,
    )  # fmt: skip
    return pl.read_parquet(folder / "nuclei.parquet")


def test_candidates_are_all_nuclei_and_those_above_the_score_are_the_run_s(run, tmp_path):
    root, planted = run
    folder = tmp_path / "evaluate" / "slides" / "S1"
    found = candidates(root, root / "truth", folder)
    assert len(found) == len(planted) == 50
    assert found.schema == schema.with_classes(schema.NUCLEI, LABELS)
    above = found.filter(pl.col("score") > SCORE)
    assert above["label"].to_list() == ["Positive"] * 8
    assert {path.name for path in folder.iterdir()} == {
        "nuclei.parquet", "failed_tiles.csv", "slide.json", "summary.json", "tiles.parquet", "checksums"
    }  # fmt: skip
    out = tmp_path / "evaluate"
    evaluate_cohort(
        candidates=out, truth=root / "truth", score=SCORE, settings=LOWEST,
        dataset=DatasetSettings(), frame="qupath", folder=out,
    )  # fmt: skip
    figures = read_json(out / "evaluation.json")
    assert figures["labels"] == list(LABELS)
    assert figures["pooled"]["detection"] | {"precision": 1.0} == figures["pooled"]["detection"]
    assert (figures["pooled"]["detection"]["tp"], figures["pooled"]["detection"]["fn"]) == (8, 42)
    curve = {point["score"]: point for point in figures["curve"]}
    assert curve[0.5]["detection"]["f1"] == 1.0
    assert curve[0.5]["class_mean_f1"] == 1.0
    assert curve[0.6]["by_class"]["Negative"]["sensitivity"] == 0.0
    assert (out / "worst_fields.jpg").stat().st_size > 10_000


def test_only_tiles_near_annotated_regions_are_run(run, tmp_path):
    root, planted = run
    # A region in the upper left of four tiles, far from the others.
    ring = [[0, 0], [440, 0], [440, 440], [0, 440], [0, 0]]
    region = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "Region*"}},
    }
    truth = tmp_path / "labels" / "S1.geojson"
    truth.parent.mkdir()
    truth.write_text(json.dumps({"type": "FeatureCollection", "features": [region]}))
    found = candidates(root, truth.parent, tmp_path / "S1")
    assert len(pl.read_parquet(tmp_path / "S1" / "tiles.parquet")) == 1
    assert len(found) == sum(TILES[0])
    inside = sum(0 <= x < 440 and 0 <= y < 440 for x, y, _ in planted)
    x = (found["x0"] + found["x1"]) / 2
    y = (found["y0"] + found["y1"]) / 2
    assert int(((x < 440) & (y < 440)).sum()) == inside


def test_a_lower_operating_point_than_the_curve_s_is_kept(run, tmp_path):
    root, _ = run
    found = candidates(root, root / "truth", tmp_path / "S1", score=0.08)
    assert len(found.filter(pl.col("score") < LOWEST.lowest_score)) > 0
    assert len(found.filter(pl.col("score") > LOWEST.lowest_score)) == 50


def test_a_slide_that_could_not_be_opened_passes_through(run, tmp_path):
    root, _ = run
    folder = tmp_path / "gone"
    mask_tissue(
        slide_id="gone",
        path="gone.tif",
        readable="gone.tif",
        mpp=None,
        settings=TissueSettings(),
        folder=folder,
    )
    lay_out_tiles(detector_mpp=0.5, settings=TileSettings(), folder=folder)
    find_candidates(
        source=folder, truth=root / "truth", model=str(root / "three.onnx"), engine=root / "engine.json",
        detect=DetectSettings(), settings=EvaluateSettings(), tile_px=640, detector_mpp=0.5,
        dataset=DatasetSettings(), frame="qupath", gpu=0, threads=1, folder=tmp_path / "out",
    )  # fmt: skip
    assert read_json(tmp_path / "out" / "summary.json")["row"]["status"] == "missing"
    assert len(pl.read_parquet(tmp_path / "out" / "nuclei.parquet")) == 0


def test_a_tile_touches_a_region_by_its_core():
    cores = [(0, 0, 100, 100), (100, 0, 200, 100), (200, 0, 300, 100)]
    tiles = pl.DataFrame(cores, schema=["core_x0", "core_y0", "core_x1", "core_y1"], orient="row")
    assert touches(tiles, np.array([[100.0, 20, 150, 30]])).tolist() == [False, True, False]
    assert touches(tiles, np.array([[90.0, 20, 110, 30], [290, 90, 400, 400]])).tolist() == [True, True, True]
    assert touches(tiles, np.array([[0.0, 100, 300, 200]])).tolist() == [False] * 3


def test_the_blues_give_the_scores_that_this_file_relies_on():
    scores = [
        start + slope * blue / 255 for (start, slope), blue in zip(THREE_CLASSES, THREE_BLUES, strict=True)
    ]
    assert scores[0] > SCORE > scores[1] > 0.6 > scores[2] > 0.5
