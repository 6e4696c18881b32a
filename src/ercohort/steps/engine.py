"""What runs the detector: chosen and recorded once per run, and built where that takes time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ercohort import __version__
from ercohort.checksums import note
from ercohort.config import TensorRtSettings
from ercohort.errors import BackendError, ModelError
from ercohort.files import write_json
from ercohort.model import ModelInfo

LOGGER = logging.getLogger("ercohort")


def prepare_engine(
    *,
    model: str,
    backend: str,
    precision: str,
    output: str | Path,
    gpu: int = 1,
    tensorrt: TensorRtSettings | None = None,
    tile_px: int | None = None,
    compile_ahead: bool = False,
) -> None:
    """Choose what runs the detector, build its engine, and record both with the model's identity.

    Parameters
    ----------
    model
        The detector, an ONNX file.
    backend, precision, tensorrt
        Of the config.
    output
        `engine.json`. `refused` says why a GPU that was found could not be used, `engine` is the record of
        the engine in its store, `int8_sha256` that of the file beside the detector, which a CPU may run, and
        `compiled` the record of the network compiled for this CPU; null where they do not apply.
    gpu
        GPUs that the job was given.
    tile_px
        Side of the tiles, pixels; None takes what the detector was trained on.
    compile_ahead
        Where a CPU will run the detector, compile the network for all later jobs, into a file beside
        `output`. A job that does not find it, or runs on another processor, compiles for itself.

    Raises
    ------
    ModelError
        The file is no detector.
    BackendError
        `tensorrt` is asked for and cannot be used; under `auto` the CPU takes its place.
    """
    from ercohort.backends import choose_backend, choose_prepared
    from ercohort.backends.select import gpu_refused
    from ercohort.model import int8_sha256, read_model

    detector = read_model(model)
    settings = TensorRtSettings() if tensorrt is None else tensorrt
    side = detector.tile_px if tile_px is None else tile_px
    prepared: dict[str, Any] = {
        "asked": {"backend": backend, "precision": precision, "tensorrt": settings.model_dump()},
        "refused": None,
        "engine": None,
        "int8_sha256": int8_sha256(detector),
        "compiled": None,
    }
    choice = choose_backend(
        backend, gpu, precision=precision, tensorrt=settings, model=detector, tile_px=side
    )
    if choice.backend == "tensorrt":
        try:
            prepared["engine"] = _find_engine(detector, settings, side)
        except (BackendError, ModelError) as error:
            if backend == "tensorrt":
                raise gpu_refused(error) from None
            prepared["refused"] = str(error)
            choice = choose_prepared(prepared, gpu, detector, side)
    LOGGER.info("%s", choice.reason)
    if compile_ahead and choice.backend == "openvino":
        prepared["compiled"] = _compile_ahead(detector, side, choice.precision, Path(output))
    write_json(output, {**prepared, **choice.to_dict(), "model": detector.to_dict(), "version": __version__})
    note("engine", output)


def _compile_ahead(model: ModelInfo, tile_px: int, precision: str, output: Path) -> dict[str, Any]:
    from ercohort.backends import openvino

    path = output.with_suffix(".openvino")
    return openvino.compile_ahead(model, tile_px=tile_px, precision=precision, path=path)


def _find_engine(model: ModelInfo, settings: TensorRtSettings, tile_px: int) -> dict[str, Any]:
    """Find or build the engine on a GPU that no other job holds, since TensorRT times kernels there."""
    from ercohort.gpu.engine_store import engine_for
    from ercohort.gpu.flavour import find_flavour
    from ercohort.gpu.lease import lease_gpu
    from ercohort.gpu.probe import find_devices

    with lease_gpu(find_devices()) as gpu:
        stored = engine_for(model, settings, tile_px, find_flavour(), gpu)
    return {"plan": str(stored.plan_path), **stored.record}
