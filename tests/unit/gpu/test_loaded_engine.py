"""Loading and running an engine, on a TensorRT and a CUDA whose device memory is this machine's."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ercohort.errors import BackendError
from ercohort.gpu.engine import load_engine
from ercohort.gpu.flavour import Flavour, Log
from ercohort.gpu.smoke import _infer

SCRATCH = 4096


class FakeContext:
    """Takes batches of up to 8 tiles; its output is the mean of each tile, everywhere."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.addresses, self.scratch = engine, {}, (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "images" and shape[0] <= 8 and not self.engine.fails("shape")

    def update_device_memory_size_for_shapes(self) -> int:
        return SCRATCH

    def set_device_memory(self, address: int, size: int) -> None:
        self.scratch = (address, size)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "output0"
        return (self.shape[0], 6, 21 * (self.shape[2] // 32) ** 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self.engine.fails("address")

    def execute_async_v3(self, stream: int) -> bool:
        assert self.scratch[1] >= SCRATCH
        assert stream == self.engine.stream
        images, heads = (
            np.ctypeslib.as_array(ctypes.cast(self.addresses[name], ctypes.POINTER(kind)), shape)
            for name, kind, shape in (
                ("images", ctypes.c_float, self.shape),
                ("output0", ctypes.c_float, self.get_tensor_shape("output0")),
            )
        )
        heads[:] = np.nan if self.engine.broken == "nan" else images.mean(axis=(1, 2, 3))[:, None, None]
        return not self.engine.fails("execute")


class FakeEngine:
    """A detector's engine; `broken` names the call that fails."""

    stream = 77
    num_io_tensors = 2

    def __init__(self, log: Log, broken: str = "", kinds: tuple[str, str] = ("FLOAT", "FLOAT")) -> None:
        self.log, self.broken, self.kinds = log, broken, kinds
        self.contexts: list[FakeContext] = []
        self.strategies: list[Any] = []
        self.kernels = b""

    def fails(self, call: str) -> bool:
        if self.broken == call:
            self.log.add(True, f"the reason of {call}")
        return self.broken == call

    def get_tensor_name(self, index: int) -> str:
        return ("images", "output0")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.kinds[name == "output0"])

    def create_execution_context(self, strategy: Any) -> FakeContext | None:
        self.strategies.append(strategy)
        if self.fails("context"):
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]

    def create_runtime_config(self) -> Any:
        def deserialize(kernels: bytes) -> bool:
            self.kernels = kernels
            return True

        cache = SimpleNamespace(deserialize=deserialize, serialize=lambda: self.kernels + b"+")
        return SimpleNamespace(
            set_execution_context_allocation_strategy=self.strategies.append,
            create_runtime_cache=lambda: cache,
            set_runtime_cache=lambda cache: True,
        )


def flavour_of(engine: FakeEngine | None, log: Log, name: str = "TensorRT") -> Flavour:
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    module = SimpleNamespace(
        Runtime=lambda logger: runtime,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="by the caller"),
    )
    return Flavour(name, "11.4.0.106", module, log, None)


def make(**options: Any) -> tuple[FakeEngine, Flavour]:
    log = Log()
    engine = FakeEngine(log, **options)
    return engine, flavour_of(engine, log)


def test_every_context_has_the_memory_of_the_caller() -> None:
    engine, flavour = make()
    loaded = load_engine(flavour, b"plan")
    assert (loaded.input_name, loaded.output_name, loaded.input_dtype) == ("images", "output0", np.float32)
    image, head = np.full((2, 3, 64, 64), 0.5, np.float32), np.zeros((2, 6, 84), np.float32)
    for _ in range(2):
        context = loaded.context()
        assert context.set_shape(2, 64) == SCRATCH
        assert context.output_shape() == head.shape
        context.use_scratch(256, SCRATCH)
        head[:] = 0
        context.run(FakeEngine.stream, image.ctypes.data, head.ctypes.data)
        assert (head == 0.5).all()
    assert engine.strategies == ["by the caller"] * 2
    assert loaded.runtime_cache() == b""


def test_tensorrt_rtx_goes_on_from_the_kernels_of_an_earlier_run() -> None:
    log = Log()
    engine = FakeEngine(log)
    loaded = load_engine(flavour_of(engine, log, "TensorRT-RTX"), b"plan", runtime_cache=b"kernels")
    loaded.context()
    assert engine.strategies[0] == "by the caller"
    assert loaded.runtime_cache() == b"kernels+"


def test_an_engine_of_fp16_input_says_so() -> None:
    _, flavour = make(kinds=("HALF", "FLOAT"))
    assert load_engine(flavour, b"plan").input_dtype == np.float16


def test_an_output_that_is_not_float32_is_refused() -> None:
    _, flavour = make(kinds=("FLOAT", "HALF"))
    with pytest.raises(BackendError, match="FLOAT and HALF; export the detector anew"):
        load_engine(flavour, b"plan")


def test_a_plan_that_tensorrt_refuses() -> None:
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0\.106 cannot load the engine"):
        load_engine(flavour_of(None, Log()), b"plan")


@pytest.mark.parametrize("broken", ["context", "shape", "address", "execute"])
def test_every_none_and_false_is_an_error_in_tensorrts_words(broken: str) -> None:
    _, flavour = make(broken=broken)
    loaded = load_engine(flavour, b"plan")
    image, head = np.zeros((1, 3, 32, 32), np.float32), np.zeros((1, 6, 21), np.float32)

    def run() -> None:
        context = loaded.context()
        context.set_shape(1, 32)
        context.use_scratch(256, SCRATCH)
        context.run(FakeEngine.stream, image.ctypes.data, head.ctypes.data)

    with pytest.raises(BackendError, match=rf"^TensorRT 11\.4\.0\.106 .*: the reason of {broken}$"):
        run()


def test_a_shape_outside_the_profile() -> None:
    _, flavour = make()
    with pytest.raises(BackendError, match="does not take 9 tiles of 64 px"):
        load_engine(flavour, b"plan").context().set_shape(9, 64)


class FakeCuda:
    """`cuda.bindings.runtime`, whose device memory is this machine's."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.held: list[Any] = []

    def _answer(self, call: str, *values: Any) -> tuple[Any, ...]:
        failed = self.broken == call
        status = SimpleNamespace(value=int(failed), name="cudaErrorUnknown" if failed else "cudaSuccess")
        return (status, *values)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cudaSetDevice")

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cudaStreamCreateWithFlags", FakeEngine.stream)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        self.held.append(ctypes.create_string_buffer(size))
        return self._answer("cudaMalloc", ctypes.addressof(self.held[-1]))

    def cudaMemcpy(self, to: int, source: int, size: int, kind: int) -> tuple[Any, ...]:  # noqa: N802
        ctypes.memmove(to, source, size)
        return self._answer("cudaMemcpy")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cudaStreamSynchronize")


def infer(
    patch: pytest.MonkeyPatch, plan: Path, cuda: FakeCuda, flavour: Flavour, batch: int = 8
) -> dict[str, Any]:
    patch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=cuda))
    patch.setattr("ercohort.gpu.flavour.find_flavour", lambda: flavour)
    plan.write_bytes(b"plan")
    return _infer(plan, 0, batch, 64)


def test_the_trial_runs_one_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, flavour = make()
    seen = infer(monkeypatch, tmp_path / "a.plan", FakeCuda(), flavour)
    assert seen["scratch_bytes"] == SCRATCH
    assert seen["milliseconds"] > 0


@pytest.mark.parametrize(
    ("cuda", "engine", "words"),
    [
        ("cudaSetDevice", "", "^cudaSetDevice: cudaErrorUnknown"),
        ("cudaStreamSynchronize", "", "^cudaStreamSynchronize: cudaErrorUnknown"),
        ("", "execute", "the reason of execute"),
        ("", "nan", "its output is not finite"),
    ],
)
def test_a_trial_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str, engine: str, words: str
) -> None:
    _, flavour = make(broken=engine)
    with pytest.raises(BackendError, match=words):
        infer(monkeypatch, tmp_path / "a.plan", FakeCuda(cuda), flavour)


def test_the_calls_of_the_trial_are_in_cuda_python() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    for name in [name for name in vars(FakeCuda) if name.startswith("cuda")]:
        assert hasattr(runtime, name)
    for name in vars(FakeCuda.cudaMemcpyKind):
        assert hasattr(runtime.cudaMemcpyKind, name)
