"""From a checkpoint to the files that the workflow runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ercohort.config import Config

LOGGER = logging.getLogger("ercohort")


def export_detector(
    *, config: Config, checkpoint: str | Path, data: Sequence[str | Path], folder: str | Path
) -> Path:
    """Write the detector in float32, FP16 and, if it agrees with the trained network, int8.

    Parameters
    ----------
    checkpoint
        A `.pt` file of `train_detector`.
    data
        `data.yaml` files: tiles that the files are compared and calibrated on.
    folder
        Gets the files and `parity.json`.

    Returns
    -------
    Path of the float32 file.

    Raises
    ------
    BackendError
        torch, ultralytics or onnx is not installed.
    InputError
        The sets are not sound.
    ModelError
        The checkpoint is missing, cut short or of other classes, or the files do not agree with it.
    """
    from ercohort.training.packages import require_training_packages

    require_training_packages()
    from ercohort.training.export import export_all
    from ercohort.training.tile_sets import read_tile_sets

    sets = read_tile_sets(data)
    export_all(checkpoint, folder, settings=config.export, detect=config.detect, sets=sets)
    output = Path(folder) / f"{config.export.name}.onnx"
    LOGGER.info("%s: set `model` in config/config.yaml to it to use it", output)
    return output
