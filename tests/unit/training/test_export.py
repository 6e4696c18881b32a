"""A checkpoint becomes files that the workflow reads, or an error that says why not."""

import json
import sys

import pytest

from ercohort.config import Config, DetectSettings, ExportSettings
from ercohort.errors import ModelError
from ercohort.schema import LABELS
from ercohort.training import export_all, read_tile_sets
from ercohort.training.export import config_hash
from tests.unit.training.sets import SIDE, write_set


@pytest.fixture(scope="module")
def exported(trained, data, tmp_path_factory):
    from ercohort.steps.export_model import export_detector

    folder = tmp_path_factory.mktemp("exported")
    (folder / "lab-1-int8.onnx").write_text("of an earlier export")
    export = {"name": "lab-1", "version": "3", "calibration_tiles": 8, "false_positive_percent": 0.25}
    config = Config(export=export)
    made = export_detector(config=config, checkpoint=trained / "detector.pt", data=[data], folder=folder)
    assert made == folder / "lab-1.onnx"
    return folder


def test_the_exported_files_are_what_the_workflow_reads(exported, trained):
    import onnx

    from ercohort.model import read_model

    for name in ("lab-1.onnx", "lab-1-fp16.onnx"):
        info = read_model(exported / name)
        assert (info.name, info.version, info.labels) == ("lab-1", "3", LABELS)
        assert (info.mpp, info.tile_px, info.fixed_px) == (0.4, SIDE, None)
        assert info.false_positive_percent == 0.25
    values, of_half = (
        {entry.key: entry.value for entry in onnx.load(exported / name).metadata_props}
        for name in ("lab-1.onnx", "lab-1-fp16.onnx")
    )
    assert of_half == values | {"source_sha256": read_model(exported / "lab-1.onnx").sha256}
    plan = json.loads((trained / "training.json").read_text())["plan"]
    assert json.loads(values["training_config"]) == plan
    assert values["training_config_sha256"] == config_hash(plan)
    assert b"/tmp/" not in (exported / "lab-1.onnx").read_bytes()


def test_parity_says_how_closely_each_file_agrees(exported):
    parity = json.loads((exported / "parity.json").read_text())
    compared = {(row["file"], row["precision"]): row for row in parity["compared"]}
    assert compared["lab-1.onnx", "f32"]["matched_f1"] == 1.0
    assert compared["lab-1.onnx", "f32"]["score_max"] < 1e-4
    assert compared["lab-1-fp16.onnx", "f32"]["matched_f1"] >= 0.995
    assert all(row["n_torch"] > 20 and row["tiles"] == 3 for row in parity["compared"])
    offered = (exported / "lab-1-int8.onnx").exists()
    assert offered == ("lab-1-int8.onnx" not in parity["not_offered"])
    row = next(row for row in parity["compared"] if row["file"] == "lab-1-int8.onnx")
    assert offered == row["holds"] == (row["matched_f1"] >= 0.99)


def _export(checkpoint, data, folder, **settings):
    return export_all(
        checkpoint, folder, settings=ExportSettings(calibration_tiles=8, **settings),
        detect=DetectSettings(), sets=read_tile_sets(data),
    )  # fmt: skip


def test_int8_that_does_not_agree_is_not_offered(trained, data, tmp_path, monkeypatch):
    # The package's own `export` is the function of that name.
    monkeypatch.setattr(sys.modules["ercohort.training.export"], "LEAST_F1_INT8", 1.01)
    (tmp_path / "detector-int8.onnx").write_text("of an earlier export")
    report = _export(trained / "detector.pt", data, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "detector.onnx", "detector-fp16.onnx", "parity.json",
    }  # fmt: skip
    assert "matched F1 " in report["not_offered"]["detector-int8.onnx"]


def test_fp16_that_does_not_agree_is_an_error_and_nothing_is_written(trained, data, tmp_path, monkeypatch):
    import onnx

    from ercohort.training import half

    def swap_classes(model):
        for item in model.graph.initializer:
            if ".cv3." in item.name and item.name.endswith(("2.weight", "2.bias")) and item.dims[0] == 2:
                values = onnx.numpy_helper.to_array(item)[::-1].copy()
                item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))
        return model

    monkeypatch.setattr(half, "to_half", swap_classes)
    with pytest.raises(ModelError, match=r"-fp16\.onnx in f32: matched F1 0\.\d+ .* nothing was written"):
        _export(trained / "detector.pt", data, tmp_path, int8=False)
    assert not list(tmp_path.iterdir())


def test_other_classes_than_the_tiles_are_refused(trained, tmp_path):
    other = write_set(tmp_path / "set", names=("Weak", "Negative"), recipe={"mpp": 0.4})
    with pytest.raises(ModelError, match=r"are Positive, Negative, those of the tiles Weak, Negative"):
        _export(trained / "detector.pt", other, tmp_path / "out")


def test_another_scale_than_the_tiles_is_refused(trained, tmp_path):
    other = write_set(tmp_path / "set")
    with pytest.raises(ModelError, match=r"trained at 0\.4 µm per pixel, the tiles have 0\.5"):
        _export(trained / "detector.pt", other, tmp_path / "out")


@pytest.mark.usefixtures("extra")
def test_missing_cut_and_foreign_checkpoints_are_named(trained, data, tmp_path):
    import torch

    with pytest.raises(ModelError, match=r"none\.pt: no such checkpoint; train first"):
        _export(tmp_path / "none.pt", data, tmp_path / "out")
    (tmp_path / "cut.pt").write_bytes((trained / "detector.pt").read_bytes()[:50_000])
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name in ("cut.pt", "foreign.pt", "text.pt"):
        with pytest.raises(ModelError, match=rf"{name}: is cut short or no checkpoint of `train`") as caught:
            _export(tmp_path / name, data, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
