"""YOLOv8n from scratch on the CPU: the trainer, and one call that trains."""

from __future__ import annotations

import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ercohort.training.torchvision_cure import make_torchvision_importable


@dataclass(frozen=True)
class TrainSettings:
    """Optimisation of the detector.

    Attributes
    ----------
    hours
        Wall time after which training ends; the learning rate falls to its end by then.
    batch, tile_px
        Tiles per step and their side in pixels.
    learning_rate
        Of AdamW, at its highest.
    seed
        Of the weights and the order of tiles. With a time limit the result also depends on the machine.
    """

    hours: float = 1.0
    batch: int = 8
    tile_px: int = 320
    learning_rate: float = 1.2e-3
    seed: int = 1


def train(data: str | Path, folder: str | Path, settings: TrainSettings) -> Path:
    """Train on the tiles of `data.yaml`; a checkpoint is written after every epoch.

    Returns
    -------
    Path of the last checkpoint, `folder/weights/last.pt`.
    """
    # Read by ultralytics when it is imported: no download, no report, no settings in the home folder.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    make_torchvision_importable()
    trainer = _trainer_class()(overrides=_overrides(Path(data), folder, settings))
    trainer.train()
    return folder / "weights" / "last.pt"


def _overrides(data: Path, folder: Path, settings: TrainSettings) -> dict[str, Any]:
    return {
        "model": "yolov8n.yaml", "data": str(data), "project": str(folder.parent), "name": folder.name,
        "exist_ok": True, "pretrained": False, "device": "cpu", "workers": 1, "amp": False, "plots": False,
        "time": settings.hours, "batch": settings.batch, "nbs": settings.batch, "imgsz": settings.tile_px,
        "seed": settings.seed, "deterministic": False, "patience": 0, "val": False, "cache": "ram",
        "optimizer": "AdamW", "lr0": settings.learning_rate, "lrf": 0.02, "cos_lr": True,
        "momentum": 0.9, "weight_decay": 5e-4, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0,
        "hsv_h": 0.02, "hsv_s": 0.4, "hsv_v": 0.25, "scale": 0.15, "translate": 0.1,
        "fliplr": 0.5, "flipud": 0.5, "mosaic": 0.25, "close_mosaic": 2,
    }  # fmt: skip


def _trainer_class() -> Any:
    """Build the trainer's class; inside a function, because its bases belong to the `train` extra."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    class NucleusTrainer(DetectionTrainer):
        """Mixed precision on CPUs that have it, transposed tiles, and no validation between epochs."""

        def get_model(self, *args: Any, **kwargs: Any) -> Any:
            model = super().get_model(*args, **kwargs)
            if _cpu_has_bf16():
                from ercohort.training.mixed_precision import MixedPrecisionModel

                model.__class__ = MixedPrecisionModel
            return model

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            # With the flips, transposing gives all eight orientations; tissue has no upright.
            if random.random() < 0.5:
                batch["img"] = batch["img"].transpose(2, 3).contiguous()
                batch["bboxes"] = batch["bboxes"][:, [1, 0, 3, 2]]
            return batch

        def validate(self) -> tuple[dict[str, float], float]:
            # Costs a quarter of the time on dense tiles; the finished detector is evaluated by distance.
            return {}, 0.0

        def final_eval(self) -> None:
            return

    return NucleusTrainer


def _cpu_has_bf16() -> bool:
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def describe(settings: TrainSettings) -> dict[str, Any]:
    """All settings that decide the weights, for the model's metadata."""
    fixed = _overrides(Path("data.yaml"), Path("run"), settings)
    for key in ("data", "project", "name"):
        del fixed[key]
    return {**asdict(settings), "ultralytics": fixed}
