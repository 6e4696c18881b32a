"""From a training checkpoint to the ONNX file that the workflow reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ercohort.errors import ModelError
from ercohort.files import atomic_path
from ercohort.schema import LABELS

MODEL_MPP = 0.5
MODEL_TILE_PX = 640
MODEL_LICENCE = "AGPL-3.0-or-later"
_OPSET = 17
_MAX_BYTES = 15_000_000


def config_hash(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the configuration as sorted JSON."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def export(checkpoint: str | Path, output: str | Path, *, config: dict[str, Any], version: str) -> Path:
    """Write `output` (ONNX, float32, dynamic batch and size, raw YOLO head without NMS) with its metadata.

    Parameters
    ----------
    checkpoint
        A `.pt` file of `train`.
    config
        Everything that decided the weights; its hash goes into the file.
    version
        Of the model, e.g. "0.1.0".

    Raises
    ------
    ModelError
        If the checkpoint is missing or has other classes, or the result is too large to ship.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_file():
        raise ModelError(f"{checkpoint}: no such checkpoint; train first (`ercohort train`)")
    with tempfile.TemporaryDirectory() as name:
        raw = _export_raw(checkpoint, Path(name))
        with atomic_path(output) as temporary:
            _write_with_metadata(raw, temporary, _metadata(Path(output).stem, config, version))
            size = temporary.stat().st_size
            if size > _MAX_BYTES:
                raise ModelError(f"{output}: {size / 1e6:.1f} MB, more than {_MAX_BYTES / 1e6:.0f} MB")
    return Path(output)


def _export_raw(checkpoint: Path, folder: Path) -> Path:
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    from ultralytics import YOLO

    from ercohort.training.torchvision_cure import make_torchvision_importable

    make_torchvision_importable()
    copy = shutil.copy(checkpoint, folder / "model.pt")  # ultralytics writes beside the checkpoint
    model = YOLO(copy)
    found = tuple(model.names[k] for k in sorted(model.names))
    if found != LABELS:
        raise ModelError(f"{checkpoint}: classes are {found}, not {LABELS}; train on `build_dataset`'s tiles")
    return Path(
        model.export(
            format="onnx", dynamic=True, simplify=True, opset=_OPSET, imgsz=MODEL_TILE_PX, device="cpu"
        )
    )


def _metadata(name: str, config: dict[str, Any], version: str) -> dict[str, str]:
    return {
        "name": name,
        "version": version,
        "task": "detect",
        "names": repr(dict(enumerate(LABELS))),
        "mpp": str(MODEL_MPP),
        "tile_px": str(MODEL_TILE_PX),
        "stride": "32",
        "training_config_sha256": config_hash(config),
        "training_config": json.dumps(config, sort_keys=True),
        "licence": MODEL_LICENCE,
        "author": "ercohort",
        "description": "Detects ER-positive and ER-negative tumour nuclei. Trained on simulated slides and "
        "virtual IHC made from NuInsSeg (CC BY 4.0). Never validated on ER. Research use only.",
    }


def _write_with_metadata(raw: Path, output: Path, metadata: dict[str, str]) -> None:
    import onnx

    model = onnx.load(str(raw))
    del model.metadata_props[:]  # ultralytics' own hold a date, so that no two exports would be equal
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, str(output))
