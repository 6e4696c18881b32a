"""What training and export need beyond the runtime, and how ultralytics is kept off the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ercohort.errors import BackendError

TRAINING_PACKAGES = ("torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "onnxslim")


def require_training_packages() -> None:
    """Say what to install before an hour of work, not after it.

    Raises
    ------
    BackendError
        Names the packages that are not installed and the command that installs them.
    """
    lost = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if lost:
        raise BackendError(
            f"training and export need {', '.join(lost)}; install the train extra: "
            "pip install --constraint constraints.txt --editable '.[train]'"
        )


def prepare_ultralytics(folder: Path) -> None:
    """Set up ultralytics before its first import: no download, no report, its settings under `folder`."""
    from ercohort.training.torchvision_cure import make_torchvision_importable

    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    make_torchvision_importable()
