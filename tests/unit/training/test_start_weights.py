"""A training starts from exactly what the shipped file computes, and can go on from there."""

from pathlib import Path

import numpy as np
import pytest

from ercohort.errors import ModelError
from ercohort.schema import LABELS
from ercohort.simulate import simulate_tile

torch = pytest.importorskip("torch", reason="needs the `train` extra: pip install 'ercohort[train]'")
pytest.importorskip("ultralytics", reason="needs the `train` extra: pip install 'ercohort[train]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="needs the `train` extra: pip install 'ercohort[train]'"
)

MODEL = Path(__file__).parents[3] / "models" / "er-yolov8n.onnx"
NETWORK = "yolov8n"


@pytest.fixture(scope="module", autouse=True)
def _one_thread(tmp_path_factory):
    from ercohort.training.packages import prepare_ultralytics

    prepare_ultralytics(tmp_path_factory.mktemp("ultralytics"))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiles():
    return [simulate_tile(seed, size=160, scale_jitter=0.0).image for seed in range(777_200, 777_224)]


@pytest.fixture(scope="module")
def pixels(tiles):
    return np.stack(tiles[:16]).transpose(0, 3, 1, 2).astype(np.float32) / 255


@pytest.fixture(scope="module")
def expected(pixels):
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": pixels})[0]


def _model(names, tiles, measure=True):
    from ultralytics.nn.tasks import DetectionModel

    from ercohort.training.start_weights import start_weights

    model = DetectionModel(f"{NETWORK}.yaml", nc=len(names), verbose=False).eval()
    model.load_state_dict(start_weights(MODEL, NETWORK, names, tiles if measure else []))
    return model


def _run(model, pixels):
    with torch.no_grad():
        return model(torch.from_numpy(pixels))


def test_it_computes_what_the_file_computes(tiles, pixels, expected):
    found = _run(_model(LABELS, tiles), pixels)[0].numpy()
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 1e-4
    nuclei = expected[:, 4:].max(1) > 0.1
    assert nuclei.sum() > 500
    boxes = np.abs(found[:, :4] - expected[:, :4]).transpose(0, 2, 1)[nuclei]
    assert boxes.max() < 1e-3


def test_in_training_mode_it_still_does_almost_the_same(tiles, pixels, expected):
    def difference(model):
        scores = _run(model.train(), pixels)["scores"].sigmoid().numpy()
        return np.abs(scores - expected[:, 4:]).mean()

    measured, identity = difference(_model(LABELS, tiles)), difference(_model(LABELS, tiles, measure=False))
    assert measured < 0.01
    assert measured < identity / 3


def test_classes_keep_their_weights_by_name(tiles, pixels, expected):
    found = _run(_model(("Negative", "Weak", "Positive"), tiles[:1]), pixels)[0].numpy()
    assert found.shape[1] == 7
    assert np.abs(found[:, 4] - expected[:, 5]).max() < 1e-4
    assert np.abs(found[:, 6] - expected[:, 4]).max() < 1e-4
    assert found[:, 5].max() < 0.2  # a new class starts from rare


def test_which_classes_start_afresh_is_said(tiles, caplog):
    caplog.set_level("INFO", logger="ercohort")
    _model(("Negative", "Strong", "Weak"), tiles[:1])
    assert caplog.messages[-1].endswith(
        "whose classes are Positive, Negative: Negative keep their weights, Strong, Weak start afresh"
    )


@pytest.mark.parametrize("network", ["yolov8s", "yolov8n-p2"])
def test_another_network_is_refused(network, tiles):
    from ercohort.training.start_weights import start_weights

    with pytest.raises(ModelError, match=f"its network is not {network}; set `train.network`"):
        start_weights(MODEL, network, LABELS, tiles[:1])


def test_a_file_that_is_no_detector_is_refused(tmp_path, tiles):
    from ercohort.training.start_weights import start_weights

    (tmp_path / "model.onnx").write_bytes(MODEL.read_bytes()[:5000])
    with pytest.raises(ModelError, match="is not an ONNX file"):
        start_weights(tmp_path / "model.onnx", "yolov8n", LABELS, tiles[:1])
