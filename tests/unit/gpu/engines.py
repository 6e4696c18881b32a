"""For tests of engines: a described GPU, TensorRT-RTX as it is, and a TensorRT that can be told to fail."""

from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ercohort.gpu.flavour import Flavour, find_flavour
from ercohort.gpu.probe import Gpu, find_devices
from ercohort.gpu.profile import Profile

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "models/er-yolov8n.onnx"
ADA = Gpu(0, "A described GPU", (8, 9), 13000, 24 * 10**9, "GPU-ada")
PROFILE = Profile(batch=8, min_px=320, tile_px=640, max_px=1280)

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)
needs_no_gpu = pytest.mark.skipif(bool(find_devices()), reason="this machine has a GPU")


def real_rtx(patch: pytest.MonkeyPatch) -> Flavour:
    """TensorRT-RTX, even where TensorRT itself is installed, whose builder needs a GPU."""
    patch.setitem(sys.modules, "tensorrt", None)
    find_flavour.cache_clear()
    found = find_flavour()
    assert found.is_rtx
    return found


def half_model(folder: Path) -> Path:
    """The default detector's FP16 file: the committed one, or one made here."""
    committed = MODEL.with_name("er-yolov8n-fp16.onnx")
    if committed.exists():
        return committed
    onnx = pytest.importorskip("onnx")
    from ercohort.training.half import to_half

    path = folder / committed.name
    onnx.save(to_half(onnx.load(MODEL)), path)
    return path


@dataclass
class FakeTensorRt(types.ModuleType):
    """As much of `tensorrt` as a build touches; `broken` names the call that fails, in TensorRT's ways."""

    broken: str = ""
    __version__: str = "11.4.0.106"
    given: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        trt = self
        types.ModuleType.__init__(self, "tensorrt")
        tensor = types.SimpleNamespace(
            name="images", dtype=types.SimpleNamespace(name="FLOAT"), shape=(-1, 3, -1, -1)
        )

        class ILogger:
            def say(self, name: str, line: str) -> None:
                levels = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)
                self.log(_Severity(getattr(levels, name)), line)

        class Config:
            num_compute_capabilities = 0

            def add_optimization_profile(self, profile: Any) -> int:
                trt.given["shapes"] = profile.shapes
                return -1 if trt.fails("profile") else 0

            def create_timing_cache(self, content: bytes) -> Any:
                trt.given.setdefault("timings", []).append(content)
                return (
                    None
                    if content and trt.fails("timings")
                    else types.SimpleNamespace(serialize=lambda: content + b"+")
                )

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                return not ignore_mismatch

        class OptimizationProfile:
            def set_shape(self, name: str, *shapes: Any) -> None:
                self.shapes = shapes

        class Builder:
            def __init__(self, logger: Any) -> None:
                trt.logger = logger
                if trt.fails("builder"):
                    raise TypeError("pybind11::init(): factory function returned nullptr")

            def create_network(self, flags: int) -> Any:
                trt.given["flags"] = flags
                return (
                    None
                    if trt.fails("network")
                    else types.SimpleNamespace(
                        num_inputs=1, num_outputs=1, get_input=lambda k: tensor, get_output=lambda k: tensor
                    )
                )

            create_builder_config = Config
            create_optimization_profile = OptimizationProfile

            def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
                trt.logger.say("WARNING", "a warning of the build")
                return None if trt.fails("build") else b"a plan"

        class OnnxParser:
            def __init__(self, network: Any, logger: Any) -> None:
                pass

            def parse(self, content: bytes) -> bool:
                return not trt.fails("parse")

        self.ILogger, self.Builder, self.OnnxParser = ILogger, Builder, OnnxParser
        self.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)

    def fails(self, call: str) -> bool:
        """Whether this call is the broken one; if so, its reason goes to the log, as TensorRT does it."""
        if self.broken == call:
            self.logger.say("ERROR", f"the reason\n of {call}")
        return self.broken == call


class _Severity(int):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


def fake_flavour(patch: pytest.MonkeyPatch, broken: str = "") -> tuple[Flavour, FakeTensorRt]:
    """The flavour that `find_flavour` makes of a fake TensorRT 11."""
    module = FakeTensorRt(broken)
    patch.setitem(sys.modules, "tensorrt", module)
    find_flavour.cache_clear()
    return find_flavour(), module


def packed(shape: tuple[int, ...]) -> bytes:
    """A shape as a plan holds it."""
    return np.array(shape, "<i8").tobytes()
