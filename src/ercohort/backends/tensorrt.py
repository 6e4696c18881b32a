"""The detector on an NVIDIA GPU, by TensorRT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ercohort.config import DetectSettings, TensorRtSettings
from ercohort.errors import BackendError, ModelError
from ercohort.gpu.compile import compile_cubin
from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.device import GpuMemoryError, Stream
from ercohort.gpu.engine import LoadedEngine, load_engine
from ercohort.gpu.engine_store import engine_for, store_folder
from ercohort.gpu.flavour import find_flavour
from ercohort.gpu.launches import TileShape
from ercohort.gpu.lease import lease_gpu
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.gpu.probe import find_devices
from ercohort.model import ModelInfo

_OUT_OF_MEMORY = re.compile(r"out[ _]?of[ _]?memory|cudaErrorMemoryAllocation", re.IGNORECASE)


class TensorRtBackend(PipelineBackend):
    """A `PipelineBackend` that holds a GPU until it is closed.

    Attributes
    ----------
    lease
        Closed at the end: gives the GPU back.
    """

    lease: ExitStack

    def _free(self) -> None:
        super()._free()
        self.lease.close()


class EngineCopy:
    """Implements `ercohort.gpu.device.Context` by an execution context.

    Parameters
    ----------
    stream
        Where it runs.
    batch, side
        Shape of every inference.
    """

    def __init__(
        self, engine: LoadedEngine, device: CudaDevice, stream: Stream, *, batch: int, side: int
    ) -> None:
        self._stream = stream
        self._context: Any = engine.context()
        raw = self._context.context
        # Only an engine's first context has a profile by itself.
        if raw.active_optimization_profile < 0:
            mark = engine.flavour.log.mark()
            if not raw.set_optimization_profile_async(0, stream):
                raise engine.flavour.failure("cannot use its profile twice", mark)
            device.synchronize()
        scratch = self._context.set_shape(batch, side)
        if scratch:
            self._context.use_scratch(device.allocate(scratch), scratch)

    def enqueue(self, source: int, result: int) -> None:
        """Run a whole batch from the input at one device address to the output at another."""
        with out_of_memory_told():
            self._context.run(self._stream, source, result)

    def close(self) -> None:
        """Drop the context, whose scratch memory the device frees."""
        self._context = None


def open_tensorrt(
    model: ModelInfo,
    *,
    tile_px: int,
    detect: DetectSettings,
    threads: int,
    precision: str,
    settings: TensorRtSettings,
    batch: int | None = None,
) -> TensorRtBackend:
    """Lease a GPU, find or build the detector's engine for it, and load both engine and kernels.

    Parameters
    ----------
    tile_px
        Side of the tiles, pixels at the detector's scale.
    detect
        Score threshold and NMS overlap.
    threads
        CPU threads that the job was given.
    precision
        `f16`, as `choose_backend` says it.
    batch
        Tiles that fly together; None takes `settings.batch`, which the engine is built for in any case and
        which is the most that it takes.

    Raises
    ------
    ModelError
        The detector cannot run on a GPU: no FP16 file.
    GpuMemoryError
        The GPU has too little free memory for such batches.
    BackendError
        No GPU, no TensorRT, no engine: one line that says which.
    """
    batch = settings.batch if batch is None else min(batch, settings.batch)
    with ExitStack() as stack, out_of_memory_told():
        gpu = stack.enter_context(lease_gpu(find_devices()))
        device = CudaDevice(gpu)
        stack.callback(device.close)
        stored = engine_for(model, settings, tile_px, find_flavour(), gpu)
        engine = load_engine(find_flavour(), stored.read_plan(), runtime_cache=stored.read_runtime_cache())
        shape = _shape(engine, model, batch, tile_px)
        arch = "sm_{}{}".format(*gpu.compute_capability)
        device.load(compile_cubin(arch, fp16_input=shape.fp16_input, cache=store_folder(settings)))
        backend = TensorRtBackend(
            device,
            lambda stream: EngineCopy(engine, device, stream, batch=batch, side=shape.padded),
            shape,
            batch=batch,
            streams=settings.streams,
            detect=detect,
            name="tensorrt",
            precision=precision,
            model=model,
            threads=threads,
        )
        stored.keep_runtime_cache(engine.runtime_cache())
        backend.lease = stack.pop_all()
        return backend


def _shape(engine: LoadedEngine, model: ModelInfo, batch: int, tile_px: int) -> TileShape:
    """Ask the engine how many anchors its head has for tiles of this size."""
    shape = TileShape(tile_px, anchors=0, classes=len(model.labels), fp16_input=False)
    context = engine.context()
    context.set_shape(batch, shape.padded)
    _, rows, anchors = context.output_shape()
    if rows != 4 + shape.classes:
        raise ModelError(f"{model.path}: its FP16 file has {rows - 4} classes; export the detector again")
    return TileShape(tile_px, anchors, shape.classes, fp16_input=engine.input_dtype == np.float16)


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Turn TensorRT's many ways to say that a GPU's memory is full into `GpuMemoryError`."""
    try:
        yield
    except GpuMemoryError:
        raise
    except BackendError as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise GpuMemoryError(str(error)) from None
        raise
