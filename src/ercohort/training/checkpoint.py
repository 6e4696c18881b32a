"""Reading the checkpoints that training writes."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ercohort.errors import ModelError

# What the reader of a damaged or foreign pickle can run into.
_UNREADABLE = (
    AttributeError, EOFError, ImportError, IndexError, KeyError, pickle.UnpicklingError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    """What a checkpoint says about its own making; travels inside the `.pt` file.

    Attributes
    ----------
    mpp, tile_px
        Scale and size of the training tiles, µm per pixel and pixels.
    config
        Everything that decided the weights, as JSON can hold it.
    """

    mpp: float = 0.5
    tile_px: int = 640
    config: dict[str, Any] | None = None


def read_checkpoint(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """Read a `.pt` file of `train`.

    The file is a pickle, as ultralytics writes it: it can run code when it is read, so read only your own.

    Returns
    -------
    The averaged model, float32, in evaluation mode, and the whole checkpoint.

    Raises
    ------
    ModelError
        It is missing, cut short or no checkpoint of a detector.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint; train first (`snakemake train`)")
    if not zipfile.is_zipfile(path):  # torch's own reader calls this an error of the disk
        raise ModelError(f"{path}: is cut short or no checkpoint of `train`; train again")
    from ultralytics.nn.tasks import DetectionModel, load_checkpoint

    try:
        model, content = load_checkpoint(str(path))
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(
            f"{path}: is cut short or no checkpoint of `train` ({reason}); train again"
        ) from None
    if not isinstance(model, DetectionModel):
        raise ModelError(f"{path}: holds a {type(model).__name__}, not a detector; train again")
    return model, content


def class_names(model: Any) -> tuple[str, ...]:
    """Class names of a model in the order of its outputs."""
    return tuple(model.names[number] for number in sorted(model.names))


def training_of(model: Any) -> Training:
    """Return what the model says about its making; the defaults where it says nothing."""
    return Training(**getattr(model, "ercohort_training", {}))
