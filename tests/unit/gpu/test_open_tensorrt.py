"""From a leased GPU to a backend that detects: the order of things, with a fake device and engine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ercohort.backends import tensorrt
from ercohort.backends.tensorrt import open_tensorrt, out_of_memory_told
from ercohort.config import TensorRtSettings
from ercohort.errors import BackendError, ModelError
from ercohort.gpu import lease
from ercohort.gpu.device import GpuMemoryError
from ercohort.gpu.probe import Gpu
from tests.unit.gpu.fake_device import FakeContext, FakeDevice
from tests.unit.gpu.test_pipeline import DETECT, MODEL, SHAPE, SIDE, SLIDE, Crew, assert_all

pytestmark = pytest.mark.timeout(60)
GPU = Gpu(0, "fake GPU", (9, 0), 13000, 1 << 30, "GPU-0")
SETTINGS = TensorRtSettings(batch=4, streams=3, min_px=32)


class FakeExecution:
    """`EngineContext`: has to be given its profile, shape and scratch memory before it runs."""

    def __init__(self, engine: FakeEngine, first: bool) -> None:
        self.engine = engine
        self.has_profile = first
        self.scratch = 0
        self.batch = 0
        self.context = self

    @property
    def active_optimization_profile(self) -> int:
        return 0 if self.has_profile else -1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.has_profile = index == 0
        return self.engine.takes_profile

    def set_shape(self, batch: int, side: int) -> int:
        assert self.has_profile
        assert side == SIDE
        self.batch = batch
        return 1000 * batch

    def output_shape(self) -> tuple[int, int, int]:
        return self.batch, self.engine.rows, SHAPE.anchors

    def use_scratch(self, address: int, n_bytes: int) -> None:
        assert n_bytes == 1000 * self.batch
        self.scratch = len(self.engine.device.view(address, n_bytes))

    def run(self, stream: int, image: int, output: int) -> None:
        assert self.scratch
        FakeContext(self.engine.device, stream, self.batch, SHAPE).enqueue(image, output)


class FakeEngine:
    """`LoadedEngine`."""

    input_dtype = np.dtype(np.float32)

    def __init__(self) -> None:
        self.device: Any = None
        self.contexts: list[FakeExecution] = []
        self.takes_profile = True
        self.rows = 6
        log = SimpleNamespace(mark=lambda: 0)
        self.flavour = SimpleNamespace(log=log, failure=lambda what, mark: BackendError(f"TensorRT {what}"))

    def context(self) -> FakeExecution:
        self.contexts.append(FakeExecution(self, not self.contexts))
        return self.contexts[-1]

    def runtime_cache(self) -> bytes:
        return b"kernels"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    """The engine that is found, on a device that is made when it is opened."""
    fake = FakeEngine()
    fake.kept = []  # type: ignore[attr-defined]

    class Device(FakeDevice):
        def __init__(self, gpu: Gpu) -> None:
            super().__init__()
            fake.device = self

        def load(self, cubin: bytes) -> None:
            assert cubin == b"sm_90"

    stored = SimpleNamespace(
        read_plan=lambda: b"plan", read_runtime_cache=lambda: b"", keep_runtime_cache=fake.kept.append
    )
    monkeypatch.setattr(tensorrt, "find_devices", lambda: [GPU])
    monkeypatch.setattr(lease, "default_folder", lambda: tmp_path / "locks")
    monkeypatch.setattr(tensorrt, "CudaDevice", Device)
    monkeypatch.setattr(tensorrt, "find_flavour", lambda: fake.flavour)
    monkeypatch.setattr(tensorrt, "engine_for", lambda *arguments: stored)
    monkeypatch.setattr(tensorrt, "load_engine", lambda flavour, plan, runtime_cache: fake)
    monkeypatch.setattr(tensorrt, "compile_cubin", lambda arch, fp16_input, cache: arch.encode())
    return fake


def is_leased(tmp_path: Path) -> bool:
    handle = os.open(tmp_path / "locks" / "GPU-0.lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def open_backend(**options: Any) -> Any:
    return open_tensorrt(
        MODEL, tile_px=SIDE, detect=DETECT, threads=2, precision="f16", settings=SETTINGS, **options
    )


@pytest.mark.parametrize(("asked", "batch"), [({}, 4), ({"batch": 2}, 2), ({"batch": 9}, 4)])
def test_it_detects_and_holds_the_gpu_until_it_is_closed(
    engine: FakeEngine, tmp_path: Path, asked: dict[str, int], batch: int
) -> None:
    with open_backend(**asked) as backend:
        assert (backend.name, backend.precision, backend.device) == ("tensorrt", "f16", "fake GPU")
        assert backend.n_slots == 5 * batch
        assert is_leased(tmp_path)
        assert engine.kept == [b"kernels"]  # type: ignore[attr-defined]
        backend.begin(SLIDE)
        assert_all(Crew(backend, [*range(30)]).run(), [*range(30)])
    assert engine.device.closed
    assert not is_leased(tmp_path)


def fail(error: Exception) -> Any:
    def raises(*arguments: Any, **options: Any) -> None:
        raise error

    return raises


@pytest.mark.parametrize(
    ("name", "error", "kind"),
    [
        ("engine_for", ModelError("no FP16 file"), ModelError),
        ("load_engine", BackendError("TensorRT cannot load the engine: the plan is foreign"), BackendError),
        ("load_engine", BackendError("TensorRT cannot load the engine: OutOfMemory (2)"), GpuMemoryError),
        ("compile_cubin", BackendError("NVRTC"), BackendError),
    ],
)
def test_what_does_not_open_gives_the_gpu_back(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    kind: type,
) -> None:
    monkeypatch.setattr(tensorrt, name, fail(error))
    with pytest.raises(kind) as caught:
        open_backend()
    assert type(caught.value) is kind
    assert str(caught.value) == str(error)
    assert engine.device.closed
    assert not is_leased(tmp_path)


def test_an_engine_with_other_classes(engine: FakeEngine, tmp_path: Path) -> None:
    engine.rows = 7
    with pytest.raises(ModelError, match="its FP16 file has 3 classes"):
        open_backend()
    assert engine.device.closed
    assert not is_leased(tmp_path)


def test_a_profile_that_cannot_be_shared(engine: FakeEngine, tmp_path: Path) -> None:
    engine.takes_profile = False
    with pytest.raises(BackendError, match="cannot use its profile"):
        open_backend()
    assert engine.device.closed
    assert not is_leased(tmp_path)


@pytest.mark.parametrize(
    "words",
    ["allocation of 2 bytes: out of memory", "Error Code 2: OutOfMemory", "CUDA_ERROR_OUT_OF_MEMORY"],
)
def test_words_for_full_memory(words: str) -> None:
    with pytest.raises(GpuMemoryError, match="TensorRT failed"), out_of_memory_told():
        raise BackendError(f"TensorRT failed on a batch: {words}")
