"""Which backend a run gets: `auto` goes to the CPU and says why, `tensorrt` fails with the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ercohort.backends import choose_backend, choose_prepared
from ercohort.config import Config, TensorRtSettings, check_config
from ercohort.errors import BackendError, InputError, ModelError
from ercohort.files import read_json
from ercohort.gpu.engine_store import StoredEngine
from ercohort.gpu.flavour import Flavour, Log
from ercohort.gpu.profile import make_profile
from ercohort.model import ModelInfo, fp16_file, read_model
from ercohort.preflight import backend_line, check_run
from ercohort.steps.engine import prepare_engine
from tests.tiny_onnx import GOOD_METADATA, THREE_CLASSES, THREE_METADATA, write_detector
from tests.unit.gpu.engines import ADA

FULL = Flavour("TensorRT", "11.4.0.106", None, Log(), None)
NO_DRIVER = "there is no NVIDIA driver here"


@pytest.fixture
def model(tmp_path: Path) -> ModelInfo:
    """A detector with the FP16 file beside it."""
    model = read_model(write_detector(tmp_path / "tiny.onnx"))
    metadata = {**GOOD_METADATA, "source_sha256": model.sha256}
    write_detector(tmp_path / "tiny-fp16.onnx", metadata=metadata)
    return model


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Set what this machine has."""

    def set_up(gpu: Any = ADA, flavour: Flavour | BackendError = FULL) -> None:
        def find_flavour() -> Flavour:
            if isinstance(flavour, BackendError):
                raise flavour
            return flavour

        monkeypatch.setattr("ercohort.gpu.probe.gpu_or_reason", lambda: gpu)
        monkeypatch.setattr("ercohort.gpu.probe.find_devices", lambda: [ADA])
        monkeypatch.setattr("ercohort.gpu.flavour.find_flavour", find_flavour)
        monkeypatch.setattr("ercohort.gpu.lease.default_folder", lambda: tmp_path / "leases")

    return set_up


def test_a_gpu_is_taken_where_all_is_there(machine: Callable[..., None], model: ModelInfo) -> None:
    machine()
    for name in ("auto", "tensorrt"):
        choice = choose_backend(name, 1, model=model, tile_px=640)
        assert choice.to_dict() == {
            "backend": "tensorrt",
            "precision": "f16",
            "device": "A described GPU",
            "runtime": "TensorRT 11.4.0.106",
            "reason": "using the GPU: TensorRT 11.4.0.106, f16, A described GPU",
        }


def lack(case: str, machine: Callable[..., None], model: ModelInfo) -> dict[str, Any]:
    """Take one thing away; return the arguments of the choice."""
    given = {"gpu": 1, "model": model, "tile_px": 640}
    if case == "driver":
        machine(gpu=NO_DRIVER)
    elif case == "TensorRT":
        machine(flavour=BackendError("TensorRT is not installed; install one"))
    else:
        machine()
    half = Path(model.path).with_name("tiny-fp16.onnx")
    if case == "FP16 file":
        half.unlink()
    elif case == "FP16 file of another":
        write_detector(half, metadata={**GOOD_METADATA, "source_sha256": "0" * 64})
    elif case == "FP16 file of other classes":
        write_detector(half, metadata=THREE_METADATA, classes=THREE_CLASSES)
    elif case == "profile":
        given["tile_px"] = 1312
    elif case == "free size":
        given["model"] = read_model(write_detector(Path(model.path), shape=(1, 3, 640, 640)))
        write_detector(half)
    elif case == "GPU for the job":
        given["gpu"] = 0
    return given


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("driver", NO_DRIVER),
        ("TensorRT", "TensorRT is not installed; install one"),
        ("FP16 file", "tiny-fp16.onnx: no such file, and a GPU needs it beside"),
        ("FP16 file of another", "tiny-fp16.onnx: was not made from"),
        ("FP16 file of other classes", "tiny-fp16.onnx: was not made from"),
        ("profile", "of 320 to 1280 px, and `tiles.tile_px` is 1312; set `tensorrt.max_px` to at least 1312"),
        ("free size", "export it with dynamic=True"),
        ("GPU for the job", "no GPU was asked for"),
    ],
)
def test_what_is_missing(machine: Callable[..., None], model: ModelInfo, case: str, words: str) -> None:
    given = lack(case, machine, model)
    choice = choose_backend("auto", **given)
    assert choice.backend == "openvino"
    assert words in choice.reason
    assert "\n" not in choice.reason
    with pytest.raises(BackendError) as caught:
        choose_backend("tensorrt", **given)
    said = str(caught.value)
    assert said.startswith("backend `tensorrt` cannot be used: ")
    assert words in said
    assert said.endswith("or set `backend: auto` to run on the CPU")
    assert "\n" not in said


def test_tiles_below_the_profile(model: ModelInfo) -> None:
    with pytest.raises(BackendError, match=r"set `tensorrt\.min_px` to at most 256"):
        make_profile(TensorRtSettings(), 256)


def test_an_fp16_file_without_a_source_is_believed_if_it_says_the_same(model: ModelInfo) -> None:
    half = write_detector(Path(model.path).with_name("tiny-fp16.onnx"))
    assert fp16_file(model) == half
    write_detector(half, metadata={**GOOD_METADATA, "mpp": "0.25"})
    with pytest.raises(ModelError, match="was not made from"):
        fp16_file(model)


def test_settings_of_the_gpu_backend() -> None:
    with pytest.raises(InputError, match=r"`tensorrt`.*min_px 640 is above max_px 320"):
        check_config({"tensorrt": {"min_px": 640, "max_px": 320}})
    with pytest.raises(InputError, match=r"`tensorrt\.streams`"):
        check_config({"tensorrt": {"streams": 5}})


def run_values(model: ModelInfo, folder: Path, **values: Any) -> dict[str, Any]:
    (folder / "samples.tsv").write_text("slide_id\tpath\na\tx\n")
    return {"model": model.path, "samples": str(folder / "samples.tsv"), **values}


def test_before_the_first_job_tensorrt_is_checked_without_looking_for_a_gpu(
    machine: Callable[..., None], model: ModelInfo, tmp_path: Path
) -> None:
    """On a cluster this runs on nodes without one; where jobs run here, `backend_line` does look."""
    machine(gpu=NO_DRIVER)
    values = run_values(model, tmp_path, backend="tensorrt")
    config, _, detector = check_run(values, sources=[], root=tmp_path)
    assert backend_line(config, detector, gpu=None, local=False).endswith("each job chooses on its own node")
    assert "may work at a time: 1 " in backend_line(config, detector, gpu=1, local=False)
    with pytest.raises(BackendError, match=f"cannot be used: {NO_DRIVER}"):
        backend_line(config, detector, gpu=1)
    with pytest.raises(BackendError, match=r"cannot be used: .* is 1312"):
        check_run({**values, "tiles": {"tile_px": 1312}}, sources=[], root=tmp_path)


def prepare(model: ModelInfo, output: Path, backend: str) -> dict[str, Any]:
    prepare_engine(model=model.path, backend=backend, precision="f32", output=output, tile_px=640)
    return read_json(output)


def test_the_engine_is_in_the_record(
    machine: Callable[..., None], model: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    stored = StoredEngine(tmp_path / "a.plan", {"plan_sha256": "ab"})
    seen: list[Any] = []

    def engine_for(*arguments: Any) -> StoredEngine:
        seen.extend(arguments)
        return stored

    monkeypatch.setattr("ercohort.gpu.engine_store.engine_for", engine_for)
    prepared = prepare(model, tmp_path / "engine.json", "auto")
    assert seen == [model, TensorRtSettings(), 640, FULL, ADA]
    assert prepared["engine"] == {"plan": str(stored.plan_path), "plan_sha256": "ab"}
    assert prepared["backend"] == "tensorrt"
    assert prepared["asked"]["tensorrt"] == Config().tensorrt.model_dump()
    assert choose_prepared(prepared, 1, model, 640).backend == "tensorrt"
    assert choose_prepared(prepared, 0, model, 640).backend == "openvino"


def test_an_engine_that_cannot_be_built_sends_auto_to_the_cpu_for_good(
    machine: Callable[..., None], model: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()

    def engine_for(*_: Any) -> StoredEngine:
        raise BackendError("a new engine crashed on G (SIGSEGV)")

    monkeypatch.setattr("ercohort.gpu.engine_store.engine_for", engine_for)
    with pytest.raises(
        BackendError, match=r"`tensorrt` cannot be used: a new engine crashed .*`backend: auto`"
    ):
        prepare(model, tmp_path / "engine.json", "tensorrt")
    prepared = prepare(model, tmp_path / "engine.json", "auto")
    assert (prepared["backend"], prepared["engine"]) == ("openvino", None)
    assert "SIGSEGV" in prepared["reason"]
    assert "SIGSEGV" in choose_prepared(prepared, 1, model, 640).reason
