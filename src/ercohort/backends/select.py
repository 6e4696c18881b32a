"""Which backend a run uses, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ercohort.backends.protocol import Backend
from ercohort.config import DetectSettings, TensorRtSettings
from ercohort.errors import BackendError, ModelError
from ercohort.model import ModelInfo, fp16_file

Opener = Callable[..., Backend]


@dataclass(frozen=True)
class BackendChoice:
    """A backend that this machine can run, not yet loaded.

    Attributes
    ----------
    backend, precision, device
        As in the table's columns and in `ercohort.backends.protocol.Backend`.
    runtime
        Library and version that runs the network.
    reason
        One line for the log: which backend, where, and why this one.
    """

    backend: str
    precision: str
    device: str
    runtime: str
    reason: str
    _open: Opener = field(repr=False, compare=False)

    def open(
        self,
        model: ModelInfo,
        *,
        tile_px: int,
        detect: DetectSettings,
        threads: int,
        batch: int | None = None,
    ) -> Backend:
        """Load a detector for tiles of `tile_px`, to run on `threads` CPU threads.

        Parameters
        ----------
        batch
            Tiles that go through the network together, where that can be chosen: on a GPU. None takes what
            the settings say.

        Raises
        ------
        ModelError
            The detector cannot take tiles of this size.
        BackendError
            The library cannot load it.
        """
        options = {} if batch is None else {"batch": batch}
        return self._open(
            model, tile_px=tile_px, detect=detect, threads=threads, precision=self.precision, **options
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `engine.json` records."""
        names = ("backend", "precision", "device", "runtime", "reason")
        return {name: getattr(self, name) for name in names}


def choose_backend(
    name: str = "auto",
    gpu: int = 0,
    *,
    precision: str = "auto",
    tensorrt: TensorRtSettings | None = None,
    model: ModelInfo | None = None,
    tile_px: int | None = None,
    compiled: Mapping[str, Any] | None = None,
) -> BackendChoice:
    """Choose what runs the detector on this machine.

    Parameters
    ----------
    name
        `auto`, `openvino` or `tensorrt`, from the config.
    gpu
        GPUs that the job may use (``--resources gpu=``); 0 asks for the CPU.
    precision
        `auto`, `f32`, `bf16` or `int8`, from the config: arithmetic on the CPU.
    tensorrt
        Settings of the GPU backend; None takes the defaults.
    model, tile_px
        The detector and its tiles: whether it comes in int8, and to be told beforehand that a GPU cannot
        run it.
    compiled
        The network for the CPU as the engine step compiled it, if it did.

    Raises
    ------
    BackendError
        The backend or the precision is not to be had here; the message says what to do.
    ModelError
        `precision` is `int8`, and the detector has no such file.
    """
    if name not in ("auto", "openvino", "tensorrt"):
        raise BackendError(f"backend `{name}` is not known; set `backend` to auto, openvino or tensorrt")
    if name == "openvino":
        return _openvino(precision, "backend is `openvino`", model, compiled)
    if name == "auto" and gpu == 0:
        return _openvino(precision, "no GPU was asked for", model, compiled)
    settings = TensorRtSettings() if tensorrt is None else tensorrt
    try:
        if gpu == 0:
            raise BackendError("no GPU was asked for; add --resources gpu=1")
        return _tensorrt(settings, model, tile_px)
    except (BackendError, ModelError) as error:
        if name == "tensorrt":
            raise gpu_refused(error) from None
        return _openvino(precision, str(error), model, compiled)


def choose_prepared(prepared: dict[str, Any], gpu: int, model: ModelInfo, tile_px: int) -> BackendChoice:
    """Choose as `choose_backend` does, by what `engine.json` says was asked for.

    Under `auto`, a GPU for which no engine could be built is not tried again.

    Parameters
    ----------
    prepared
        The content of `engine.json`.
    """
    asked = prepared["asked"]
    if prepared["refused"]:
        return _openvino(asked["precision"], prepared["refused"], model, prepared["compiled"])
    return choose_backend(
        asked["backend"],
        gpu,
        precision=asked["precision"],
        tensorrt=TensorRtSettings(**asked["tensorrt"]),
        model=model,
        tile_px=tile_px,
        compiled=prepared["compiled"],
    )


def check_gpu_model(model: ModelInfo, settings: TensorRtSettings, tile_px: int) -> None:
    """Check what can be checked without a GPU: the profile, the FP16 file, and that its size is free.

    Raises
    ------
    ModelError, BackendError
        One line with the cure.
    """
    from ercohort.gpu.profile import make_profile

    make_profile(settings, tile_px)
    fp16_file(model)
    if model.fixed_px is not None:
        raise ModelError(
            f"{model.path}: takes tiles of {model.fixed_px} px only, which an engine of several sizes cannot "
            "be built from; export it with dynamic=True"
        )


def gpu_refused(error: Exception) -> BackendError:
    """Return the error of a run that asks for TensorRT where it is not to be had."""
    return BackendError(
        f"backend `tensorrt` cannot be used: {error}; or set `backend: auto` to run on the CPU"
    )


def _tensorrt(settings: TensorRtSettings, model: ModelInfo | None, tile_px: int | None) -> BackendChoice:
    from ercohort.gpu.flavour import find_flavour
    from ercohort.gpu.probe import gpu_or_reason

    gpu = gpu_or_reason()  # before TensorRT is touched, which may end the process where there is none
    if isinstance(gpu, str):
        raise BackendError(gpu)
    if model is not None:
        check_gpu_model(model, settings, tile_px or model.tile_px)
    runtime = find_flavour().label
    return BackendChoice(
        backend="tensorrt",
        precision="f16",
        device=gpu.name,
        runtime=runtime,
        reason=f"using the GPU: {runtime}, f16, {gpu.name}",
        _open=partial(_open_tensorrt, settings=settings),
    )


def _open_tensorrt(model: ModelInfo, **options: Any) -> Backend:
    from ercohort.backends.tensorrt import open_tensorrt

    return open_tensorrt(model, **options)


def _openvino(
    precision: str, why: str, model: ModelInfo | None, compiled: Mapping[str, Any] | None
) -> BackendChoice:
    from ercohort.backends import openvino

    found = openvino.inspect_cpu(precision, model)
    remark = f"; {found.remark}" if found.remark else ""
    return BackendChoice(
        backend="openvino",
        precision=found.precision,
        device=found.device,
        runtime=found.runtime,
        reason=f"using the CPU ({why}): {found.runtime}, {found.precision}, {found.device}{remark}",
        _open=partial(openvino.OpenVinoBackend, compiled=compiled),
    )
