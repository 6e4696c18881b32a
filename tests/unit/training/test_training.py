"""Training ends where it should, and goes on where it was cut off."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ercohort.config import Config, TrainingSettings
from ercohort.errors import BackendError, InputError, ModelError
from ercohort.schema import LABELS
from ercohort.training import TrainSettings, train
from ercohort.training.export import config_hash
from ercohort.training.trainer import describe
from tests.unit.training.sets import SIDE, write_set

EXTRA = "needs the `train` extra: pip install 'ercohort[train]'"
MODEL = Path(__file__).parents[3] / "models" / "er-yolov8n.onnx"
SETTINGS = TrainSettings(epochs=2, hours=1.0, batch=3, tile_px=SIDE)


def test_importing_the_package_needs_no_torch():
    code = (
        "import sys, ercohort.training, ercohort.simulate, ercohort.steps.train, ercohort.steps.export_model;"
        "print(sorted({'torch', 'ultralytics', 'onnx', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_torch_the_cure_is_named_before_any_work(tmp_path, monkeypatch):
    from ercohort.steps.export_model import export_detector
    from ercohort.steps.train import train_detector
    from ercohort.training import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "torch" else object())
    cure = r"need torch; install the train extra: pip install --constraint constraints\.txt"
    config, folder = Config(), tmp_path / "out"
    with pytest.raises(BackendError, match=cure):
        train_detector(config=config, data=["none.yaml"], folder=folder)
    with pytest.raises(BackendError, match=cure):
        export_detector(config=config, checkpoint="none.pt", data=["none.yaml"], folder=folder)
    assert not list(tmp_path.iterdir())


def test_config_hash_depends_on_values_not_on_order():
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_description_holds_every_setting_and_no_path():
    described = describe(TrainSettings(hours=0.5, learning_rate=3e-3, network="yolov8n-p2"))
    assert described["ultralytics"]["lr0"] == described["learning_rate"] == 3e-3
    assert described["ultralytics"]["model"] == "yolov8n-p2.yaml"
    assert described["ultralytics"]["max_det"] >= 3000
    assert described["hours"] == 0.5
    assert "/" not in json.dumps(described)


def test_settings_come_from_the_config():
    config = TrainingSettings(network="yolov8s", epochs=7, patience=3, balanced=False, seed=9)
    settings = TrainSettings.of(config, 192)
    assert settings == TrainSettings("yolov8s", 1.0, 7, 3, 8, 192, 0.0003, False, 9)


def test_a_training_leaves_its_checkpoint_pictures_and_record(trained):
    assert {path.name for path in trained.iterdir()} == {
        "detector.pt", "curves.png", "worst_tiles.jpg", "training.json", "run",
    }  # fmt: skip
    record = json.loads((trained / "training.json").read_text())
    assert [row["epoch"] for row in record["epochs"]] == [1, 2]
    assert record["finished"] == "2 epochs"
    assert record["plan"]["names"] == list(LABELS)
    assert record["plan"]["base"].startswith("er-yolov8n@")
    assert record["plan"]["mpp"] == 0.4
    assert 0.3 < record["start"]["class_f1"] <= 1.0
    assert record["best"]["class_f1"] == max(row["class_f1"] for row in record["epochs"]) > 0.3
    assert 0.3 < record["operating_point"]["f1"] <= 1.0
    assert all(row["cls_loss"] > 0 for row in record["epochs"])
    assert str(trained) not in json.dumps(record)


def test_a_training_without_gain_is_said(caplog):
    from ercohort.steps.train import _warn_of_no_gain
    from ercohort.training.run_record import RunRecord

    record = RunRecord({}, {}, [{"epoch": 1, "class_f1": 0.7}], start={"class_f1": 0.8})
    _warn_of_no_gain(record)
    assert "gained nothing: F1 on the validation tiles was 0.800 before and is 0.700" in caplog.text
    caplog.clear()
    record.start["class_f1"] = 0.6
    _warn_of_no_gain(record)
    assert not caplog.messages


@pytest.mark.usefixtures("extra")
def test_a_finished_training_does_nothing(trained, data):
    before = (trained / "run" / "run.json").stat().st_mtime_ns
    checkpoint = (trained / "detector.pt").read_bytes()
    (trained / "detector.pt").unlink()  # as snakemake does before it runs a rule again
    settings = TrainSettings.of(TrainingSettings(base=str(MODEL), epochs=2, batch=3), SIDE)
    assert train(data, trained, settings, base=MODEL).read_bytes() == checkpoint
    assert (trained / "run" / "run.json").stat().st_mtime_ns == before


class _Killed(BaseException):
    """What ends a process from outside."""


def _kill_in(monkeypatch, epoch, *, after_saving):
    """Let training die in the given epoch, before or after its checkpoint is complete."""
    from ercohort.training import nucleus_trainer

    replace_file = nucleus_trainer.os.replace

    def die(source, target):
        now = False
        if Path(target).name == "last.pt":
            rows = json.loads((Path(target).parents[1] / "run.json").read_text())["epochs"]
            now = len(rows) == epoch
        if now and not after_saving:
            raise _Killed
        replace_file(source, target)
        if now:
            raise _Killed

    monkeypatch.setattr(nucleus_trainer.os, "replace", die)


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize("after_saving", [True, False])
def test_a_killed_training_goes_on_from_its_last_checkpoint(
    tmp_path, data, monkeypatch, caplog, after_saving
):
    caplog.set_level("INFO", logger="ercohort")
    settings = replace(SETTINGS, epochs=3)
    with monkeypatch.context() as patch:
        _kill_in(patch, 2, after_saving=after_saving)
        with pytest.raises(_Killed):
            train(data, tmp_path, settings)
    assert not (tmp_path / "detector.pt").exists()
    seen = _epochs_seen(monkeypatch)
    train(data, tmp_path, settings)
    assert seen == ([3] if after_saving else [2, 3])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [row["epoch"] for row in record["epochs"]] == [1, 2, 3]
    seconds = [row["seconds"] for row in record["epochs"]]
    assert seconds == sorted(seconds)
    rates = [row["lr/pg0"] for row in record["epochs"]]
    assert rates[2] < rates[1]  # the schedule went on instead of beginning again
    assert any(message.startswith("going on after epoch") for message in caplog.messages)


def _epochs_seen(monkeypatch):
    from ercohort.training.nucleus_trainer import NucleusTrainer

    seen = []
    save = NucleusTrainer.save_model

    def note(self):
        assert self.optimizer.state, "the optimizer's state was lost"
        seen.append(self.epoch + 1)
        return save(self)

    monkeypatch.setattr(NucleusTrainer, "save_model", note)
    return seen


def test_other_settings_start_anew_and_keep_the_training_before(trained, data, tmp_path, caplog):
    caplog.set_level("INFO", logger="ercohort")
    folder = shutil.copytree(trained, tmp_path / "copy")
    train(data, folder, replace(SETTINGS, epochs=1, batch=2))
    said = next(message for message in caplog.messages if message.startswith("training anew"))
    assert "batch" in said
    assert "epochs" in said
    assert "tiles" not in said
    assert len(json.loads((folder / "run" / "run.json").read_text())["epochs"]) == 1
    assert len(json.loads((folder / "run-before" / "run.json").read_text())["epochs"]) == 2


@pytest.mark.usefixtures("extra")
def test_a_damaged_checkpoint_is_named_at_resume(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch:
        _kill_in(patch, 1, after_saving=True)
        with pytest.raises(_Killed):
            train(data, tmp_path, SETTINGS)
    last = tmp_path / "run" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"last\.pt: is cut short or no checkpoint"):
        train(data, tmp_path, SETTINGS)


@pytest.mark.usefixtures("extra")
def test_same_seed_same_weights_without_validation(tmp_path):
    import torch

    from ercohort.training.checkpoint import read_checkpoint

    data = write_set(tmp_path / "set", train=4, val=0)
    settings = replace(SETTINGS, epochs=1, batch=4)
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model, _ = read_checkpoint(train(data, tmp_path / name, replace(settings, seed=seed)))
        states.append(model.state_dict())
    a, b, c = states
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


@pytest.mark.usefixtures("extra")
def test_patience_ends_it_and_the_best_epoch_is_kept(tmp_path, data, monkeypatch):
    from ercohort.training import nucleus_trainer
    from ercohort.training.checkpoint import read_checkpoint

    figures = iter([0.2, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(nucleus_trainer, "judge", lambda *_, **__: {"class_f1": next(figures)})
    best = train(data, tmp_path, replace(SETTINGS, epochs=5, patience=2))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["finished"] == "2 epochs without gain"
    assert len(record["epochs"]) == 4
    assert read_checkpoint(best)[1]["epoch"] == 1


@pytest.mark.usefixtures("extra")
def test_the_clock_ends_it_within_an_epoch(tmp_path, data):
    train(data, tmp_path, replace(SETTINGS, epochs=1000, hours=1e-5))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["finished"] == "1e-05 hours"
    assert len(record["epochs"]) == 1


@pytest.mark.usefixtures("extra")
def test_tiles_are_drawn_by_their_weights(tmp_path, data, monkeypatch):
    from ercohort.training import nucleus_trainer

    drawn = []
    preprocess = nucleus_trainer.NucleusTrainer.preprocess_batch

    def note(self, batch):
        drawn.extend(Path(path).name for path in batch["im_file"])
        return preprocess(self, batch)

    monkeypatch.setattr(nucleus_trainer.NucleusTrainer, "preprocess_batch", note)
    weights = [0.0] * 5 + [1.0]
    monkeypatch.setattr(nucleus_trainer, "tile_weights", lambda *_: np.array(weights))
    train(data, tmp_path / "balanced", replace(SETTINGS, epochs=1))
    assert set(drawn) == {"tile_005.png"}
    drawn.clear()
    train(data, tmp_path / "plain", replace(SETTINGS, epochs=1, balanced=False))
    assert sorted(drawn) == [f"tile_{k:03d}.png" for k in range(6)]


@pytest.mark.usefixtures("extra")
def test_two_sets_are_trained_on_together(tmp_path, data, monkeypatch):
    from ercohort.training import nucleus_trainer

    sizes = []

    def weigh(labels, n_classes):
        sizes.append(len(labels))
        return np.ones(len(labels))

    monkeypatch.setattr(nucleus_trainer, "tile_weights", weigh)
    more = write_set(tmp_path / "more", train=2, val=0, seed=60, recipe={"mpp": 0.4})
    train([data, more], tmp_path / "run", replace(SETTINGS, epochs=1))
    assert sizes == [8]
    with pytest.raises(InputError, match="need the same"):
        train([data, write_set(tmp_path / "other", names=LABELS[::-1])], tmp_path / "none", SETTINGS)
