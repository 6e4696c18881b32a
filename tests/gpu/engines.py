"""A pipeline on the GPU, by TensorRT or, where that does not work, by torch: for tests and benchmarks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ercohort.config import DetectSettings, TensorRtSettings
from ercohort.errors import BackendError
from ercohort.gpu.compile import compile_cubin
from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.launches import TileShape, anchors
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.gpu.probe import Gpu, gpu_or_reason
from ercohort.model import ModelInfo

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_MODEL = ROOT / "models" / "er-yolov8n.onnx"


def half_file(model: ModelInfo, folder: Path) -> Path:
    """Return the FP16 file beside the model, or make one in `folder`."""
    path = Path(model.path)
    beside = path.with_name(f"{path.stem}-fp16.onnx")
    if beside.exists():
        return beside
    import onnx

    from ercohort.training.half import to_half

    made = folder / beside.name
    onnx.save(to_half(onnx.load(model.path)), made)
    return made


def with_half(model: ModelInfo, folder: Path) -> ModelInfo:
    """Return the model from a folder in which its FP16 file lies beside it."""
    from dataclasses import replace

    half = half_file(model, folder)
    if half.parent == Path(model.path).parent:
        return model
    copy = folder / Path(model.path).name
    copy.write_bytes(Path(model.path).read_bytes())
    return replace(model, path=str(copy))


def open_pipeline(
    model: ModelInfo,
    folder: Path,
    *,
    tile_px: int,
    detect: DetectSettings,
    threads: int,
    batch: int,
    streams: int,
) -> tuple[PipelineBackend, str]:
    """Open the pipeline; also say which library runs the network, and why not TensorRT if it is not.

    Raises
    ------
    BackendError
        There is no GPU, or neither TensorRT nor torch can use it.
    """
    gpu = gpu_or_reason()
    if isinstance(gpu, str):
        raise BackendError(gpu)
    try:
        from ercohort.backends.tensorrt import open_tensorrt
        from ercohort.gpu.flavour import find_flavour

        settings = TensorRtSettings(batch=batch, streams=streams, store=str(folder / "engines"))
        backend: PipelineBackend = open_tensorrt(
            with_half(model, folder), tile_px=tile_px, detect=detect, threads=threads,
            precision="f16", settings=settings,
        )  # fmt: skip
        return backend, find_flavour().label
    except BackendError as error:
        why = str(error)
    if importlib.util.find_spec("torch") is None:
        raise BackendError(f"{why}; and torch, which could take its place in tests, is not installed")
    import torch

    if not torch.cuda.is_available():
        raise BackendError(f"{why}; and torch {torch.__version__}, which could take its place, has no CUDA")
    options = {"tile_px": tile_px, "detect": detect, "threads": threads, "batch": batch, "streams": streams}
    return open_torch(model, half_file(model, folder), gpu, **options), f"torch {torch.__version__} ({why})"


def open_torch(
    model: ModelInfo,
    half: Path,
    gpu: Gpu,
    *,
    tile_px: int,
    detect: DetectSettings,
    threads: int,
    batch: int,
    streams: int,
) -> PipelineBackend:
    """Open the pipeline with torch in TensorRT's place."""
    from tests.gpu.torch_engine import TorchContext

    shape = TileShape(tile_px, anchors(tile_px), len(model.labels), fp16_input=False)
    device = CudaDevice(gpu)
    device.load(compile_cubin("sm_{}{}".format(*gpu.compute_capability), fp16_input=False))
    sides = (batch, 3, shape.padded, shape.padded)
    return PipelineBackend(
        device, lambda stream: TorchContext(half, stream, sides), shape,
        batch=batch, streams=streams, detect=detect,
        name="torch", precision="f16", model=model, threads=threads,
    )  # fmt: skip
