"""The detector on the CPU, by OpenVINO.

The network runs as one stream per thread: independent single-threaded copies scale better on a shared
machine than one copy on many threads, and the result does not depend on how many there are. Conversion from
8-bit RGB rows to the network's input is part of the compiled graph. OpenVINO's telemetry is kept out by
`ercohort.backends`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from ercohort.backends.compiled import CompiledKey, keep_compiled, load_compiled
from ercohort.backends.protocol import Slot
from ercohort.backends.slots import Found, SlotBackend, where
from ercohort.config import DetectSettings
from ercohort.decode import decode_and_count
from ercohort.errors import BackendError, ModelError
from ercohort.model import ModelInfo, int8_file, int8_sha256, twin_path

_SPARE_SLOTS = 2  # per stream: one being filled and one being decoded while the stream works on a third


@dataclass(frozen=True)
class Cpu:
    """What OpenVINO makes of this machine's processor.

    `remark` says why `auto` did not take a file that stands beside the detector.
    """

    device: str
    precision: str
    runtime: str
    remark: str = ""


def inspect_cpu(precision: str = "auto", model: ModelInfo | None = None) -> Cpu:
    """Name the processor and decide the arithmetic.

    Parameters
    ----------
    precision
        `f32`, `bf16`, `int8`, or `auto`: bf16 where the processor has instructions for it, else int8 where it
        has those and `model` comes in int8, else f32.
    model
        The detector; None where only the processor counts.

    Raises
    ------
    BackendError
        What is asked for is not in this processor, or OpenVINO finds no CPU plugin.
    ModelError
        int8 is asked for, and the detector has no such file.
    """
    try:
        core = ov.Core()
        device = " ".join(str(core.get_property("CPU", "FULL_DEVICE_NAME")).split())
        has_bf16 = _has_bf16(core)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO does not work here: {_one_line(error)}; reinstall openvino") from None
    if precision == "bf16" and not has_bf16:
        raise BackendError(f"{device} has no bf16 instructions; set `precision: auto` or `f32`")
    if precision == "int8" and not _has_vnni():
        raise BackendError(f"{device} has no VNNI instructions for int8; set `precision: auto` or `f32`")
    if precision == "int8" and model is not None:
        int8_file(model)
    remark = ""
    if precision == "auto":
        precision, remark = ("bf16", "") if has_bf16 else _int8_or_f32(model)
    return Cpu(device, precision, f"OpenVINO {ov.get_version().split('-')[0]}", remark)


def _int8_or_f32(model: ModelInfo | None) -> tuple[str, str]:
    if model is None or not twin_path(model.path, "int8").exists() or not _has_vnni():
        return "f32", ""
    try:
        int8_file(model)
    except ModelError as error:
        return "f32", str(error)
    return "int8", ""


def _has_bf16(core: ov.Core) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _has_vnni() -> bool:
    """Whether the processor adds products of bytes in 32 bits.

    Without these instructions OpenVINO's kernels add pairs of them in 16 bits, which can overflow.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_vnni", "avx_vnni"})


class OpenVinoBackend(SlotBackend):
    """`ercohort.backends.protocol.Backend` on CPU threads.

    Parameters
    ----------
    model
        The detector.
    tile_px
        Side of the tiles, pixels at the detector's scale.
    detect
        Score threshold and NMS overlap.
    threads
        CPU threads that the network may use; as many tiles run at once.
    precision
        `f32`, `bf16` or `int8`, which runs the detector's int8 file.
    compiled
        The network that `compile_ahead` kept; None, or one that does not fit, is compiled here.

    Raises
    ------
    ModelError
        The detector takes another tile size only, its output is not what the file says, or it has no int8
        file.
    BackendError
        OpenVINO cannot load or compile the file.
    """

    def __init__(
        self,
        model: ModelInfo,
        *,
        tile_px: int,
        detect: DetectSettings,
        threads: int,
        precision: str = "f32",
        compiled: Mapping[str, Any] | None = None,
    ) -> None:
        cpu = inspect_cpu(precision)
        file = _file(model, tile_px, cpu.precision)
        options = _options(cpu.precision, threads)
        network = load_compiled(compiled, _key(model, tile_px, cpu), options) if compiled else None
        if network is None:
            network = _compile(file, tile_px, options)
        _check_output(file, len(model.labels), network)
        n_slots = threads * (1 + _SPARE_SLOTS)
        images = [np.zeros((tile_px, tile_px, 3), np.uint8) for _ in range(n_slots)]
        super().__init__(
            images, name="openvino", precision=cpu.precision, device=cpu.device, model=model, threads=threads
        )
        self._decode = partial(decode_and_count, tile_px=tile_px, score=detect.score, nms_iou=detect.nms_iou)
        self._requests = [_request(network, image) for image in images]
        self._start_times = [0.0] * n_slots

    def _start(self, slot: Slot) -> None:
        self._start_times[slot.index] = perf_counter()
        self._requests[slot.index].start_async()
        self._started(slot)

    def _wait(self, slot: Slot) -> float:
        request = self._requests[slot.index]
        try:
            request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on {where(slot)}: {_one_line(error)}") from None
        return self._start_times[slot.index] + request.latency / 1e3

    def _collect(self, slot: Slot) -> Found:
        head = self._requests[slot.index].get_output_tensor(0).data[0]
        found, n_dropped = self._decode(head)
        self._note_dropped(slot, n_dropped, head.shape[1], "set `precision: f32`")
        return found

    def _free(self) -> None:
        self._requests.clear()


def compile_ahead(model: ModelInfo, *, tile_px: int, precision: str, path: Path) -> dict[str, Any]:
    """Compile the network once for all jobs of a run, into the file `path`.

    Parameters
    ----------
    model, tile_px, precision
        As `OpenVinoBackend` will be given them.

    Returns
    -------
    What `OpenVinoBackend` takes as `compiled`.

    Raises
    ------
    BackendError, ModelError
        As `OpenVinoBackend` does.
    DiskError
        The file cannot be written.
    """
    cpu = inspect_cpu(precision)
    file = _file(model, tile_px, cpu.precision)
    network = _compile(file, tile_px, _options(cpu.precision, threads=1))
    _check_output(file, len(model.labels), network)
    return keep_compiled(network, _key(model, tile_px, cpu), path)


def _file(model: ModelInfo, tile_px: int, precision: str) -> str:
    """Return the file that is run, if it takes tiles of this size."""
    if model.fixed_px not in (None, tile_px):
        raise ModelError(
            f"{model.path}: takes tiles of {model.fixed_px} px only, and `tiles.tile_px` is {tile_px}; "
            "change one of them, or export the detector with dynamic=True"
        )
    return str(int8_file(model)) if precision == "int8" else model.path


def _key(model: ModelInfo, tile_px: int, cpu: Cpu) -> CompiledKey:
    digest = int8_sha256(model) if cpu.precision == "int8" else model.sha256
    return CompiledKey(str(digest), tile_px, cpu.precision, cpu.device, cpu.runtime)


def _options(precision: str, threads: int) -> dict[str, Any]:
    return {
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        # An int8 file says itself which layers are int8; the others stay as exact as they are.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        # Readers and other jobs use the same cores: a pinned stream would wait while another core idles.
        "ENABLE_CPU_PINNING": False,
    }


def _compile(file: str, tile_px: int, options: Mapping[str, Any]) -> Any:
    """Compile for tiles of one size: with free dimensions the CPU plugin is several times slower."""
    try:
        core = ov.Core()
        network = core.read_model(file)
        network.reshape([1, 3, tile_px, tile_px])
        steps = PrePostProcessor(network)
        image = steps.input()
        image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        image.model().set_layout(ov.Layout("NCHW"))
        image.preprocess().convert_element_type(ov.Type.f32).scale(255.0)
        return core.compile_model(steps.build(), "CPU", dict(options))
    except RuntimeError as error:
        raise BackendError(f"{file}: OpenVINO cannot load it: {_one_line(error)}") from None


def _check_output(file: str, n_labels: int, compiled: Any) -> None:
    """Check the output that the network really has: what the file says of it is only a note."""
    output = compiled.outputs[0]
    shape = output.get_partial_shape()
    rows = 4 + n_labels
    as_said = shape.is_static and len(shape) == 3 and (shape[0], shape[1]) == (1, rows)
    if not as_said or output.get_element_type() != ov.Type.f32:
        raise ModelError(
            f"{file}: its output is {output.get_element_type().get_type_name()} {shape}, not the "
            f"float32 [1,{rows},anchors] that the file states; export it again"
        )


def _request(compiled: Any, image: np.ndarray) -> Any:
    """Make a request that reads its tile straight from `image`."""
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(image[np.newaxis], shared_memory=True))
    return request


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
