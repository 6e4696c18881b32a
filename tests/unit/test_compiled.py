"""The network that was compiled ahead: the same to the bit, and never run where it does not fit."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ercohort.backends import choose_prepared, openvino
from ercohort.backends.openvino import OpenVinoBackend, compile_ahead, inspect_cpu
from ercohort.backends.protocol import Candidates
from ercohort.config import DetectSettings
from ercohort.errors import BackendError, ModelError
from ercohort.files import read_json
from ercohort.model import ModelInfo, read_model
from ercohort.steps.engine import prepare_engine
from tests.tiny_onnx import write_detector
from tests.unit.test_backends import DEFAULT_MODEL, painted, run_tiles

pytestmark = pytest.mark.timeout(120)
DETECT = DetectSettings(score=0.05)
Kept = dict[str, Any]


@pytest.fixture
def tiny(tmp_path: Path) -> ModelInfo:
    return read_model(write_detector(tmp_path / "tiny.onnx"))


@pytest.fixture
def kept(tiny: ModelInfo, tmp_path: Path) -> Kept:
    return compile_ahead(tiny, tile_px=128, precision="f32", path=tmp_path / "engine.openvino")


@pytest.fixture
def compiled_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were compiled since."""
    files: list[str] = []
    compile_file = openvino._compile

    def compile_and_note(file: str, *arguments: Any) -> Any:
        files.append(file)
        return compile_file(file, *arguments)

    monkeypatch.setattr(openvino, "_compile", compile_and_note)
    return files


def run(
    model: ModelInfo, kept: Kept | None, *, image: np.ndarray, precision: str = "f32", threads: int = 1
) -> Candidates:
    with OpenVinoBackend(
        model, tile_px=len(image), detect=DETECT, threads=threads, precision=precision, compiled=kept
    ) as backend:
        return run_tiles(backend, [image] * 4)[-1]


def assert_equal(one: Candidates, other: Candidates) -> None:
    assert len(one.score) > 2
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.score, other.score)
    np.testing.assert_array_equal(one.label, other.label)


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_the_default_detector_is_the_same_to_the_bit(
    precision: str, tmp_path: Path, compiled_anew: list[str]
) -> None:
    try:
        inspect_cpu(precision)
    except BackendError as error:
        pytest.skip(str(error))
    model = read_model(DEFAULT_MODEL)
    image = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    path = tmp_path / "engine.openvino"
    kept = compile_ahead(model, tile_px=320, precision=precision, path=path)
    compiled_anew.clear()
    found = [run(model, kept, image=image, precision=precision, threads=threads) for threads in (1, 3)]
    assert not compiled_anew
    expected = run(model, None, image=image, precision=precision)
    assert len(compiled_anew) == 1
    for one in found:
        assert_equal(one, expected)


def test_it_is_that_network_which_runs(tiny: ModelInfo, tmp_path: Path, kept: Kept) -> None:
    """The compiled network of other scores, said to be the detector's: its scores are what is found."""
    other = read_model(write_detector(tmp_path / "other.onnx", classes=[(0.9, -2.0), (0.7, -0.7)]))
    foreign = compile_ahead(other, tile_px=128, precision="f32", path=tmp_path / "other.openvino")
    image = painted(1)
    assert_equal(run(tiny, {**foreign, "key": kept["key"]}, image=image), run(other, None, image=image))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("onnx_sha256", "0" * 64),
        ("tile_px", 160),
        ("precision", "bf16"),
        ("device", "another processor"),
        ("runtime", "OpenVINO 1"),
    ],
)
def test_one_that_does_not_fit_is_compiled_anew(
    tiny: ModelInfo, kept: Kept, compiled_anew: list[str], name: str, value: object
) -> None:
    assert kept["key"][name] != value
    other = {**kept, "key": {**kept["key"], name: value}}
    assert_equal(run(tiny, other, image=painted(1)), run(tiny, kept, image=painted(1)))
    assert compiled_anew == [tiny.path]


def test_of_another_int8_file_it_is_compiled_anew(
    tiny: ModelInfo, tmp_path: Path, compiled_anew: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "_has_vnni", lambda: True)
    twin = write_detector(tmp_path / "tiny-int8.onnx")
    kept = compile_ahead(tiny, tile_px=128, precision="int8", path=tmp_path / "engine.openvino")
    write_detector(twin, classes=[(0.9, -2.0), (0.7, -0.7)])
    compiled_anew.clear()
    run(tiny, kept, image=painted(1), precision="int8")
    assert compiled_anew == [str(twin)]


def test_a_damaged_file_is_not_run(
    tiny: ModelInfo, kept: Kept, compiled_anew: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO loads it, and finds other nuclei without a word."""
    path = Path(kept["path"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = run(tiny, kept, image=painted(1))
    assert "was damaged or changed; compiling the network anew" in caplog.text
    assert compiled_anew == [tiny.path]
    assert_equal(found, run(tiny, None, image=painted(1)))


@pytest.mark.parametrize("content", [b"", b"no network at all"])
def test_a_file_that_openvino_refuses_is_compiled_anew(
    tiny: ModelInfo, kept: Kept, compiled_anew: list[str], content: bytes
) -> None:
    Path(kept["path"]).write_bytes(content)
    run(tiny, {**kept, "sha256": hashlib.sha256(content).hexdigest()}, image=painted(1))
    assert compiled_anew == [tiny.path]


def test_a_file_that_is_gone_is_compiled_anew(tiny: ModelInfo, kept: Kept, compiled_anew: list[str]) -> None:
    Path(kept["path"]).unlink()
    run(tiny, kept, image=painted(1))
    assert compiled_anew == [tiny.path]


def test_the_engine_step_keeps_it_for_the_jobs(
    tiny: ModelInfo, tmp_path: Path, compiled_anew: list[str]
) -> None:
    engine = tmp_path / "engine/engine.json"
    prepare_engine(
        model=tiny.path, backend="auto", precision="f32", output=engine, gpu=0, tile_px=128,
        compile_ahead=True,
    )  # fmt: skip
    assert compiled_anew == [tiny.path]
    choice = choose_prepared(read_json(engine), 0, tiny, 128)
    with choice.open(tiny, tile_px=128, detect=DETECT, threads=2) as backend:
        assert_equal(run_tiles(backend, [painted(1)])[0], run(tiny, None, image=painted(1)))
    assert len(compiled_anew) == 2  # the second is the one without


def test_a_run_of_one_slide_compiles_once(tiny: ModelInfo, tmp_path: Path, compiled_anew: list[str]) -> None:
    engine = tmp_path / "engine.json"
    prepare_engine(model=tiny.path, backend="openvino", precision="f32", output=engine)
    assert not compiled_anew
    assert read_json(engine)["compiled"] is None


def test_what_cannot_be_run_is_said_ahead(tiny: ModelInfo, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes tiles of 160 px only"):
        compile_ahead(
            replace(tiny, fixed_px=160), tile_px=128, precision="f32", path=tmp_path / "engine.openvino"
        )
    assert not (tmp_path / "engine.openvino").exists()
