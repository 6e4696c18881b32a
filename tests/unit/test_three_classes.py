"""A detector of three classes through the steps of a run: HER2-style positive, weak and negative."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ercohort import schema
from ercohort.config import Config, DetectSettings, GeoJSONSettings, TileSettings, TissueSettings
from ercohort.files import read_json
from ercohort.geojson import class_colours
from ercohort.steps.cohort import write_cohort_table
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.engine import prepare_engine
from ercohort.steps.export import draw_pictures, export_geojson
from ercohort.steps.merge import merge_slide
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import mask_tissue
from tests.tiny_onnx import SIDE, THREE_CLASSES, THREE_METADATA, write_detector, write_marked_slide

LABELS = ("Positive", "Weak", "Negative")
TILES = ((5, 3, 10), (0, 7, 0), (2, 0, 20), (1, 1, 1))
COUNTS = {"Positive": 8, "Weak": 11, "Negative": 31}
N_SHARDS = 3


def run_steps(folder: Path, model: Path, slide: Path) -> dict[str, Any]:
    """Take one slide through all steps in three shards; return its row."""
    engine, detect = folder / "engine.json", DetectSettings()
    shards = range(1, N_SHARDS + 1)
    detections = [folder / f"{shard}.parquet" for shard in shards]
    records = [folder / f"{shard}.json" for shard in shards]
    prepare_engine(model=str(model), backend="openvino", precision="f32", output=engine)
    mask_tissue(
        slide_id="S1",
        path=str(slide),
        readable=str(slide),
        mpp=None,
        settings=TissueSettings(),
        folder=folder,
    )
    lay_out_tiles(detector_mpp=0.5, settings=TileSettings(), folder=folder)
    for shard, table, record in zip(shards, detections, records, strict=True):
        detect_nuclei(
            shard=shard, n_shards=N_SHARDS, model=str(model), engine=engine, settings=detect, tile_px=640,
            gpu=0, threads=2, folder=folder, detections=table, record=record,
        )  # fmt: skip
    merge_slide(detections=detections, records=records, settings=detect, detector_mpp=0.5, folder=folder)
    export_geojson(settings=GeoJSONSettings(), folder=folder)
    draw_pictures(folder=folder)
    return dict(read_json(folder / "summary.json")["row"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list]:
    folder = tmp_path_factory.mktemp("three")
    model = write_detector(folder / "three.onnx", metadata=THREE_METADATA, classes=THREE_CLASSES)
    planted = write_marked_slide(folder / "slide.tif", TILES)
    return folder, run_steps(folder, model, folder / "slide.tif"), planted


def test_every_nucleus_comes_out_once_in_its_place_with_its_class(run):
    folder, _, planted = run
    nuclei = pl.read_parquet(folder / "nuclei.parquet")
    assert nuclei.schema == schema.with_classes(schema.NUCLEI, LABELS)
    assert nuclei.schema["label"] == pl.Enum(LABELS)
    found = sorted(
        (round((x0 + x1) / 2, 1), round((y0 + y1) / 2, 1), label)
        for x0, y0, x1, y1, label in nuclei.select("x0", "y0", "x1", "y1", "label").iter_rows()
    )
    assert found == sorted((round(x, 1), round(y, 1), LABELS[index]) for x, y, index in planted)
    assert nuclei["x1"].to_numpy() - nuclei["x0"].to_numpy() == pytest.approx(SIDE, abs=1e-3)


def test_every_class_but_the_negative_one_counts_as_positive(run):
    row = run[1]
    assert row["status"] == "ok"
    assert (row["n_nuclei"], row["n_positive"], row["n_negative"]) == (50, 19, 31)
    assert row["percent_positive"] == 38.0
    assert {label: row[f"n_class_{label}"] for label in LABELS} == COUNTS


def test_the_table_counts_each_class_and_leaves_bad_slides_empty(run, tmp_path):
    folder, row, _ = run
    gone = run_steps(tmp_path, folder / "three.onnx", tmp_path / "gone.tif")
    assert gone["status"] == "missing"
    assert pl.read_parquet(tmp_path / "nuclei.parquet").schema["label"] == pl.Enum(LABELS)
    write_cohort_table(
        summaries=[tmp_path / "summary.json", folder / "summary.json"],
        sheet=[{"slide_id": "gone", "block": "A1"}, {"slide_id": "S1", "block": "A2"}],
        engine=folder / "engine.json",
        config=Config().model_dump(mode="json"),
        workflow=folder,
        table=tmp_path / "cohort_er.csv",
        timings=tmp_path / "timings.csv",
        record=tmp_path / "run.json",
        regions=tmp_path / "cohort_er_regions.csv",
    )
    table = pl.read_csv(tmp_path / "cohort_er.csv")
    counted = [f"n_class_{label}" for label in LABELS]
    assert table.columns == ["slide_id", "status", "message", "block", *schema.COHORT_COLUMNS, *counted]
    assert table.select(counted).rows() == [(None, None, None), tuple(COUNTS.values())]
    assert table["n_positive"].to_list() == [None, row["n_positive"]]
    grades = table.select("n_weak", "n_moderate", "n_strong")  # by optical density, whatever the classes are
    assert grades.row(0) == (None, None, None)
    assert sum(grades.row(1)) == row["n_positive"]


def test_the_qupath_file_has_every_class_with_a_colour_of_its_own(run):
    archive = zipfile.ZipFile(run[0] / "nuclei.geojson.zip")
    features = json.loads(archive.read(archive.namelist()[0]))["features"]
    classes = [feature["properties"]["classification"] for feature in features]
    counts = {label: sum(entry["name"] == label for entry in classes) for label in LABELS}
    assert counts == COUNTS
    colours = {entry["name"]: tuple(entry["color"]) for entry in classes}
    assert colours == class_colours(LABELS)
    assert colours["Positive"] == (250, 62, 62)
    assert colours["Negative"] == (112, 112, 225)
    assert len(set(colours.values())) == 3


def test_the_overlay_shows_each_class_in_its_colour(run):
    overlay = np.asarray(Image.open(run[0] / "overlay.jpg")).astype(int)
    for label, colour in class_colours(LABELS).items():
        is_near = np.abs(overlay - np.array(colour)).max(axis=2) < 60
        assert is_near[:-72].sum() > 40 * COUNTS[label], label  # outlines
        assert is_near[-72:].sum() > 50, label  # the key
