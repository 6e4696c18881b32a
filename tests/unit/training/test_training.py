"""Training and export run from end to end, and nobody pays for torch who does not train."""

import json
import subprocess
import sys

import pytest

from ercohort.errors import ModelError
from ercohort.training.export import config_hash, export
from ercohort.training.trainer import TrainSettings, describe


def test_importing_the_package_needs_no_torch():
    code = (
        "import sys, ercohort.training, ercohort.simulate;"
        "print(sorted({'torch', 'ultralytics', 'onnx', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_config_hash_depends_on_values_not_on_order():
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_description_holds_every_setting_and_no_path():
    described = describe(TrainSettings(hours=0.5, learning_rate=3e-3))
    assert described["ultralytics"]["lr0"] == described["learning_rate"] == 3e-3
    assert described["ultralytics"]["time"] == 0.5
    assert "/" not in json.dumps(described)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.pt: no such checkpoint"):
        export(tmp_path / "none.pt", tmp_path / "m.onnx", config={}, version="0")


@pytest.mark.slow
def test_train_default_model_makes_a_model_that_the_workflow_reads(tmp_path, outlined):
    pytest.importorskip("ultralytics", reason="needs the `train` extra: pip install ercohort[train]")
    from ercohort.model import read_model
    from ercohort.training import DatasetRecipe, train_default_model

    recipe = DatasetRecipe(n_simulated=6, n_virtual=4, n_validation=1, tile_px=96)
    settings = TrainSettings(batch=2, tile_px=96)
    output = tmp_path / "m.onnx"
    train_default_model(
        output, outlined, hours=0.003, folder=tmp_path / "w", recipe=recipe, settings=settings
    )
    assert read_model(output).labels == ("Positive", "Negative")
