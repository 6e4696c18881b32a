"""The whole loop in small, on two simulated slides: regions, training set, training, files, evaluation."""

import json
import shutil

import polars as pl
import pytest

from ercohort.model import read_model
from ercohort.simulate import simulate_slide

pytest.importorskip("torch", reason="needs the `train` extra: make setup-train")
pytest.importorskip("ultralytics", reason="needs the `train` extra: make setup-train")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "prelabel": {"regions": 2, "region_um": 120.0},
    "dataset": {"validation_share": 0.5},
    "train": {"epochs": 1, "batch": 4},
    "evaluate": {"bootstrap": 100},
    "export": {"calibration_tiles": 8, "name": "ours", "version": "7"},
}


def run(folder, *arguments):
    result = folder.snakemake(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr


def test_from_marked_regions_to_a_detector_that_is_evaluated(folder):
    for seed, name in enumerate(("one", "two"), 701):
        simulate_slide(folder.path / f"{name}.tif", width=2000, height=1600, percent_positive=50, seed=seed)
    folder.write_sheet(("one", "one.tif", "", ""), ("two", "two.tif", "", ""))
    folder.write_config(**SETTINGS)
    results, labels = folder.path / "results", folder.path / "labels"

    run(folder, "--", "prelabel")
    shutil.copytree(results / "prelabel", labels)  # where a person would have corrected them
    features = json.loads((labels / "one.geojson").read_text())["features"]
    kinds = [feature["properties"]["objectType"] for feature in features]
    assert kinds.count("annotation") == 2
    assert kinds.count("detection") > 10

    run(folder, "--", "dataset")
    counts = pl.read_csv(results / "dataset/counts.csv")
    assert sorted(counts["split"]) == ["train", "val"]
    assert counts["regions"].to_list() == [2, 2]
    assert (results / "dataset/contact_sheet.jpg").stat().st_size > 10_000

    run(folder, "--", "train", "export")
    for picture in ("curves.png", "worst_tiles.jpg"):
        assert (results / "train" / picture).stat().st_size > 5_000
    model = read_model(results / "export/ours.onnx")
    assert (model.labels, model.mpp, model.version) == (("Positive", "Negative"), 0.5, "7")
    compared = json.loads((results / "export/parity.json").read_text())["compared"]
    assert all(entry["matched_f1"] >= 0.995 for entry in compared if "int8" not in entry["file"])
    int8_holds = all(entry["holds"] for entry in compared if "int8" in entry["file"])
    assert (results / "export/ours-int8.onnx").exists() == int8_holds

    trained = (results / "train/training.json").read_bytes()
    settings = SETTINGS | {"train": {"epochs": 2, "batch": 4}}
    folder.write_config(**settings, model="results/export/ours.onnx")
    run(folder, "--", "evaluate")
    assert (results / "train/training.json").read_bytes() == trained  # the detector is taken as it is
    pooled = json.loads((results / "evaluate/evaluation.json").read_text())["pooled"]
    assert pooled["detection"]["f1"] > 0.9
    for picture in ("curve.png", "froc.png", "agreement.png", "worst_fields.jpg"):
        assert (results / "evaluate" / picture).stat().st_size > 5_000

    folder.write_config(**SETTINGS)
    again = folder.snakemake("-n", "--", "train", "export")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert not (results / "cohort_er.csv").exists()


def test_a_dataset_without_labels_says_how_to_make_them(folder):
    folder.write_sheet(("one", "one.tif", "", ""))
    result = folder.snakemake("--", "dataset")
    assert result.returncode != 0
    assert "prelabel" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not (folder.path / "results/dataset").exists()
