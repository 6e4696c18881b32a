"""Which backend a run uses, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ercohort.backends.protocol import Backend
from ercohort.config import DetectSettings
from ercohort.errors import BackendError
from ercohort.model import ModelInfo

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

    def open(self, model: ModelInfo, *, tile_px: int, detect: DetectSettings, threads: int) -> Backend:
        """Load a detector for tiles of `tile_px`, to run on `threads` CPU threads.

        Raises
        ------
        ModelError
            The detector cannot take tiles of this size.
        BackendError
            The library cannot load it.
        """
        return self._open(model, tile_px=tile_px, detect=detect, threads=threads, precision=self.precision)

    def to_dict(self) -> dict[str, Any]:
        """Return what `engine.json` records."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}


def choose_backend(name: str = "auto", gpu: int = 0, *, precision: str = "auto") -> BackendChoice:
    """Choose what runs the detector on this machine.

    Parameters
    ----------
    name
        `auto`, `openvino` or `tensorrt`, from the config.
    gpu
        GPUs that the job may use (``--resources gpu=``); 0 asks for the CPU.
    precision
        `auto`, `f32` or `bf16`, from the config: arithmetic on the CPU.

    Raises
    ------
    BackendError
        The backend or the precision is not to be had here; the message says what to do.
    """
    if name == "tensorrt":
        raise BackendError(
            "backend `tensorrt` is not part of this version of ercohort; "
            "set `backend: auto` or `openvino` in config/config.yaml to run on the CPU"
        )
    if name not in ("auto", "openvino"):
        raise BackendError(f"backend `{name}` is not known; set `backend` to auto, openvino or tensorrt")
    if name == "openvino":
        why = "backend is `openvino`"
    elif gpu == 0:
        why = "no GPU was asked for"
    else:
        why = "this version has no GPU backend"
    return _openvino(precision, why)


def _openvino(precision: str, why: str) -> BackendChoice:
    from ercohort.backends import openvino

    found = openvino.inspect_cpu(precision)
    return BackendChoice(
        backend="openvino",
        precision=found.precision,
        device=found.device,
        runtime=found.runtime,
        reason=f"using the CPU ({why}): {found.runtime}, {found.precision}, {found.device}",
        _open=openvino.OpenVinoBackend,
    )
