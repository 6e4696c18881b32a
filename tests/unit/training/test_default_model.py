"""The shipped detector: what its file says, and that it tells brown from blue."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ercohort.model import fp16_file, int8_file, read_model
from ercohort.schema import LABELS
from ercohort.simulate import simulate_tile
from ercohort.training.export import config_hash

MODEL = Path(__file__).parents[3] / "models" / "er-yolov8n.onnx"


@pytest.fixture(scope="module")
def graph():
    return onnx.load(MODEL)


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def test_metadata_says_what_the_workflow_needs(graph):
    values = {entry.key: entry.value for entry in graph.metadata_props}
    info = read_model(MODEL)
    assert info.labels == LABELS
    assert (info.mpp, info.tile_px, info.name) == (0.5, 640, "er-yolov8n")
    assert info.false_positive_percent == 3.9  # models/README.md says where it comes from
    for twin in (fp16_file(info), int8_file(info)):
        assert twin.parent == MODEL.parent
        assert read_model(twin).false_positive_percent == 3.9
    assert values["task"] == "detect"
    assert values["licence"] == "AGPL-3.0-or-later"
    assert config_hash(json.loads(values["training_config"])) == values["training_config_sha256"]
    assert graph.opset_import[0].version == 17
    assert MODEL.stat().st_size < 15_000_000


@pytest.mark.parametrize("twin", ["", "-fp16", "-int8"])
def test_no_path_of_a_machine_is_in_the_file(twin):
    content = MODEL.with_name(f"{MODEL.stem}{twin}.onnx").read_bytes()
    assert b"/tmp/" not in content
    assert b"/home/" not in content


@pytest.mark.parametrize(("batch", "size"), [(1, 320), (3, 64)])
def test_batch_and_size_are_dynamic(session, batch, size):
    pixels = np.ones((batch, 3, size, size), np.float32)
    output = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    assert output.shape == (batch, 6, 21 * (size // 32) ** 2)
    assert output.dtype == np.float32


def test_planted_nuclei_are_found_with_their_label(session):
    right = planted = 0
    for seed in range(777_000, 777_006):
        tile = simulate_tile(seed, scale_jitter=0.0)
        pixels = tile.image.transpose(2, 0, 1)[None].astype(np.float32) / 255.0
        found = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
        found = found[:, found[4:].max(0) > 0.4]
        for box, positive in zip(tile.boxes, tile.positive, strict=True):
            centre = (box[:2] + box[2:]) / 2
            if (centre < 10).any() or (centre > 310).any():
                continue
            planted += 1
            near = found[:, np.hypot(*(found[:2] - centre[:, None])) < 5.0]
            right += bool(near.size and near[4:, near[4:].max(0).argmax()].argmax() == (0 if positive else 1))
    assert planted > 200
    assert right / planted > 0.85
