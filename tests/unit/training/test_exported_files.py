"""FP16 and int8 twins of the shipped detector find what it finds; files that differ are noticed."""

from pathlib import Path

import numpy as np
import pytest

from ercohort.config import DetectSettings
from ercohort.model import read_model
from ercohort.simulate import simulate_tile
from ercohort.training.half import body_nodes, last_convolutions, to_half
from ercohort.training.parity import LEAST_F1, LEAST_F1_INT8, _run, compare
from ercohort.training.quantise import write_int8

onnx = pytest.importorskip("onnx", reason="needs the `train` extra: pip install 'ercohort[train]'")
pytest.importorskip("onnxruntime", reason="needs the `train` extra: pip install 'ercohort[train]'")

MODEL = Path(__file__).parents[3] / "models" / "er-yolov8n.onnx"
DETECT = DetectSettings()


@pytest.fixture(scope="module")
def tiles():
    return [simulate_tile(seed, size=160, scale_jitter=0.0).image for seed in range(777_100, 777_120)]


@pytest.fixture(scope="module")
def reference(tiles):
    return _run(MODEL, tiles, "f32", DETECT)[0]


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    path = tmp_path_factory.mktemp("half") / "half.onnx"
    onnx.save(to_half(onnx.load(MODEL)), path)
    return path


@pytest.fixture(scope="module")
def int8(tmp_path_factory, tiles):
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    write_int8(MODEL, path, tiles[:5])
    return path


def _compare(path, tiles, reference, least=LEAST_F1):
    return compare(path, tiles, reference, precision="f32", detect=DETECT, least_f1=least)


def test_a_file_agrees_with_itself(tiles, reference):
    parity = _compare(MODEL, tiles, reference)
    assert parity.n_torch == parity.n_file > 300
    assert (parity.matched_f1, parity.score_max, parity.box_max_px) == (1.0, 0.0, 0.0)
    assert (parity.tiles, parity.tile_px, parity.precision) == (20, 160, "f32")
    assert parity.holds
    assert "matched F1 1.0000" in parity.line()


def test_half_keeps_the_interface_and_halves_the_file(half):
    assert read_model(half).labels == read_model(MODEL).labels
    assert half.stat().st_size < 0.55 * MODEL.stat().st_size
    onnx.checker.check_model(onnx.load(half), full_check=True)


def test_half_computes_the_body_in_fp16_and_the_decoding_in_float32(half):
    typed = onnx.shape_inference.infer_shapes(onnx.load(half))
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.graph.value_info}
    kinds |= {item.name: item.data_type for item in typed.graph.initializer}
    float16, float32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    last = last_convolutions(onnx.load(MODEL).graph)
    assert len(last) == 6  # two branches at three scales
    convolutions = [node for node in typed.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 64
    for node in convolutions:
        expected = float32 if "/dfl/" in node.name else float16
        assert {kinds[node.input[1]], kinds[node.output[0]]} == {expected}
    for node in typed.graph.node:
        if node.op_type in ("Softmax", "Div"):
            assert kinds[node.output[0]] == float32


def test_half_finds_the_same_nuclei(half, tiles, reference):
    parity = _compare(half, tiles, reference)
    assert parity.holds
    assert 0.0 < parity.score_max < 0.02
    assert parity.box_mean_px < 0.01


def test_int8_quantises_all_of_the_body_but_its_ends(int8):
    graph = onnx.load(int8).graph
    producer = {name: node for node in graph.node for name in node.output}
    full = onnx.load(MODEL).graph
    body, last = body_nodes(full), last_convolutions(full)
    first = full.node[0].name
    for node in graph.node:
        if node.op_type == "Conv":
            quantised = node.input[1] in producer and producer[node.input[1]].op_type == "DequantizeLinear"
            wanted = node.output[0] in body and node.name != first and node.name not in last
            assert quantised == wanted, node.name
    assert int8.stat().st_size < 0.4 * MODEL.stat().st_size
    assert read_model(int8).labels == read_model(MODEL).labels


def test_int8_scales_weights_by_channel(int8):
    shapes = {item.name: tuple(item.dims) for item in onnx.load(int8).graph.initializer}
    assert shapes["model.1.conv.weight_scale"] == (32,)


def test_int8_finds_the_same_nuclei(int8, tiles, reference):
    parity = _compare(int8, tiles, reference, LEAST_F1_INT8)
    assert parity.matched_f1 > 0.98
    assert parity.score_max > 0.0


def test_a_file_that_differs_does_not_hold(tiles, reference, tmp_path):
    model = onnx.load(MODEL)
    for item in model.graph.initializer:
        if item.name == "model.22.cv3.0.2.bias":
            values = onnx.numpy_helper.to_array(item) - np.float32(3)
            item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))
    onnx.save(model, tmp_path / "shifted.onnx")
    parity = _compare(tmp_path / "shifted.onnx", tiles, reference)
    assert parity.matched_f1 < 0.95
    assert not parity.holds


def test_swapped_classes_do_not_match(tiles, reference, tmp_path):
    model = onnx.load(MODEL)
    for item in model.graph.initializer:
        if ".cv3." in item.name and (item.name.endswith(("2.weight", "2.bias"))) and item.dims[0] == 2:
            values = onnx.numpy_helper.to_array(item)[::-1]
            item.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), item.name))
    onnx.save(model, tmp_path / "swapped.onnx")
    assert _compare(tmp_path / "swapped.onnx", tiles, reference).matched_f1 < 0.01
