"""A detector of three classes through the whole workflow, from its file to the table and the QuPath file."""

from __future__ import annotations

import json
import zipfile

import polars as pl
import pytest

from ercohort import schema
from tests.tiny_onnx import (
    GOOD_METADATA,
    THREE_CLASSES,
    THREE_METADATA,
    write_detector,
    write_marked_slide,
)

pytestmark = pytest.mark.slow

LABELS = ("Positive", "Weak", "Negative")
COUNTS = (8, 11, 31)


def test_counts_and_table_follow_the_classes_of_the_model(folder):
    model = write_detector(folder.path / "three.onnx", metadata=THREE_METADATA, classes=THREE_CLASSES)
    write_marked_slide(folder.path / "slide.tif", [(5, 3, 10), (0, 7, 0), (2, 0, 20), (1, 1, 1)])
    folder.write_config(model=str(model))
    folder.write_sheet(("three", "slide.tif", "", "A1"), ("gone", "nowhere.svs", "", ""))
    result = folder.snakemake("--set-scatter", "shard=2")
    assert result.returncode == 0, result.stdout + result.stderr

    table = folder.table()
    counted = [f"n_class_{label}" for label in LABELS]
    assert table.columns == ["slide_id", "status", "message", "block", *schema.COHORT_COLUMNS, *counted]
    scores = table.select("status", "n_nuclei", "n_positive", "n_negative", "percent_positive", *counted)
    assert scores.rows() == [("ok", 50, 19, 31, 38.0, *COUNTS), ("missing", *[None] * 7)]

    nuclei = pl.read_parquet(folder.path / "results/slides/three/nuclei.parquet")
    assert nuclei.schema == schema.with_classes(schema.NUCLEI, LABELS)
    archive = zipfile.ZipFile(folder.path / "results/slides/three/nuclei.geojson.zip")
    features = json.loads(archive.read(archive.namelist()[0]))["features"]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert tuple(names.count(label) for label in LABELS) == COUNTS
    assert (folder.path / "results/slides/three/overlay.jpg").stat().st_size > 10_000


def test_a_model_without_a_negative_class_is_one_line_before_any_job(folder):
    metadata = {**GOOD_METADATA, "names": "{0: 'Strong', 1: 'Weak'}"}
    folder.write_config(model=str(write_detector(folder.path / "bad.onnx", metadata=metadata)))
    folder.write_sheet(("gone", "nowhere.svs", "", ""))
    result = folder.snakemake()
    printed = result.stdout + result.stderr
    assert result.returncode != 0
    assert "its classes are Strong, Weak; none of them is Negative; name exactly one Negative" in printed
    assert "Traceback" not in printed
    assert not (folder.path / "results").exists()
