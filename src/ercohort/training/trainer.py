"""Training the detector: one call that starts, continues or, where nothing is left to do, returns."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ercohort.config import TrainingSettings
from ercohort.files import atomic_path
from ercohort.training.packages import prepare_ultralytics, require_training_packages
from ercohort.training.run_record import RunRecord
from ercohort.training.tile_sets import TileSets, read_tile, read_tile_sets, to_grid

LOGGER = logging.getLogger("ercohort")

STATE = "run"
"""Folder of what a training needs to go on; delete it to train anew."""
MAX_DETECTIONS = 5000
"""Nuclei per tile that ultralytics may return to somebody who validates a checkpoint with it, not its 300."""
_BASE_TILES = 64
_LIMITS = ("hours", "epochs", "patience")


@dataclass(frozen=True)
class TrainSettings:
    """Optimisation of the detector.

    Attributes
    ----------
    network
        "yolov8n", "yolov8n-p2", "yolov8s", ...
    hours, epochs
        Training ends at the first of these; the learning rate falls to its end by then.
    patience
        Epochs without gain on the validation tiles after which it ends; 0: never for this reason.
    batch, tile_px
        Tiles per step and their side in pixels.
    learning_rate
        Of AdamW, at its highest.
    balanced
        Whether tiles with rare classes are drawn more often (`ercohort.training.balance`).
    seed
        Of the weights and the order of tiles. With a time limit the result also depends on the machine.
    """

    network: str = "yolov8n"
    hours: float = 1.0
    epochs: int = 1000
    patience: int = 0
    batch: int = 8
    tile_px: int = 320
    learning_rate: float = 1.2e-3
    balanced: bool = True
    seed: int = 1

    @classmethod
    def of(cls, config: TrainingSettings, tile_px: int) -> TrainSettings:
        """Take the optimisation from the `train` section of the config."""
        return cls(
            tile_px=tile_px, **{key: getattr(config, key) for key in asdict(cls()) if key != "tile_px"}
        )


def train(
    data: TileSets | Path | str | Sequence[Path | str],
    folder: str | Path,
    settings: TrainSettings,
    *,
    base: str | Path | None = None,
    threads: int | None = None,
) -> Path:
    """Train on YOLO sets; called again in the same folder, go on where it was cut off.

    After every epoch the averaged weights are judged on the validation tiles (`validation.judge`); the best
    by `class_f1` are kept, or the last where no tiles are set aside. `folder/run` holds what continuing
    needs. A finished training with the same tiles and settings is left as it is; with others it starts anew.

    Parameters
    ----------
    data
        `data.yaml` files with the same classes, or what `read_tile_sets` makes of them.
    base
        ONNX detector to start from; None starts from random weights.
    threads
        CPU threads; all that torch finds if not given.

    Returns
    -------
    Path of the best checkpoint, `folder/detector.pt`.

    Raises
    ------
    BackendError
        torch, ultralytics or onnx is not installed.
    InputError
        The sets cannot be read or do not fit together.
    ModelError
        `base` is no detector of this network, or the checkpoint to go on from is damaged.
    """
    require_training_packages()
    folder = Path(folder).resolve()
    state = folder / STATE
    sets = data if isinstance(data, TileSets) else read_tile_sets(data)
    record = _open_record(state, _plan(sets, settings, base), settings)
    if not record.finished:
        prepare_ultralytics(state)
        _set_threads(threads)
        record.finished = record.over() or _run(sets, state, settings, record, base)
        record.write(state / "run.json")
        LOGGER.info("training ended: %s", record.finished)
    with atomic_path(folder / "detector.pt") as temporary:
        shutil.copyfile(state / "weights" / "best.pt", temporary)
    return folder / "detector.pt"


def _plan(sets: TileSets, settings: TrainSettings, base: str | Path | None) -> dict[str, Any]:
    """Everything that decides the weights but the limits; no path of the machine is in it."""
    from ercohort.model import read_model

    start = read_model(base) if base else None
    plan = {key: value for key, value in describe(settings).items() if key not in _LIMITS}
    plan["ultralytics"] = {key: plan["ultralytics"][key] for key in plan["ultralytics"] if key not in _LIMITS}
    return plan | {
        "names": list(sets.names),
        "mpp": sets.mpp,
        "tiles": {"train": len(sets.train), "val": len(sets.val), "digest": sets.digest()},
        "base": f"{start.name}@{start.sha256[:12]}" if start else None,
    }


def _open_record(state: Path, plan: dict[str, Any], settings: TrainSettings) -> RunRecord:
    """Find the training to go on with, or begin a new one; an earlier one of another plan is put aside."""
    limits = {key: getattr(settings, key) for key in _LIMITS}
    path = state / "run.json"
    if path.is_file():
        record = RunRecord.read(path)
        changed = [key for key in plan if plan[key] != record.plan.get(key)]
        if record.finished:
            changed += [key for key in _LIMITS if limits[key] != record.limits.get(key)]
        if not changed:
            record.limits = limits
            return record
        aside = state.with_name(f"{STATE}-before")
        LOGGER.info("training anew: %s changed; the training before is in %s", ", ".join(changed), aside)
        shutil.rmtree(aside, ignore_errors=True)
        state.rename(aside)
    shutil.rmtree(state / "weights", ignore_errors=True)
    record = RunRecord(plan, limits)
    record.write(path)
    return record


def _run(
    sets: TileSets, state: Path, settings: TrainSettings, record: RunRecord, base: str | Path | None
) -> str:
    """Train until a limit is reached; say which."""
    from ercohort.training.nucleus_trainer import NucleusTrainer, Task

    last = state / "weights" / "last.pt"
    start = None
    if last.is_file():
        LOGGER.info("going on after epoch %d of the training in %s", len(record.epochs), state)
    else:
        record.epochs.clear()
        start = _start(base, sets, settings) if base else None
    overrides = _overrides(sets.write_yaml(state / "data.yaml"), state, settings) | _machine()
    # A part that goes on must not draw the tiles in the order of the first part again.
    overrides["seed"] += 10_007 * len(record.epochs)
    task = Task(sets, record, state / "run.json", settings.balanced, last if last.is_file() else None, start)
    NucleusTrainer(overrides, task).train()
    return record.over() or f"{settings.hours:g} hours"


def _start(base: str | Path, sets: TileSets, settings: TrainSettings) -> dict[str, Any]:
    from ercohort.training.start_weights import start_weights

    step = math.ceil(len(sets.train) / _BASE_TILES)
    tiles = [to_grid(read_tile(picture)) for picture in sets.train[::step]]
    return start_weights(base, settings.network, sets.names, tiles)


def _set_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _machine() -> dict[str, Any]:
    """Where it runs: a GPU if torch finds one, in bfloat16; the CPU has `mixed_precision` for that."""
    import torch

    if torch.cuda.is_available():
        return {"device": "0", "amp": "bf16", "workers": 4}
    return {"device": "cpu", "amp": False, "workers": 0}


def _overrides(data: Path, state: Path, settings: TrainSettings) -> dict[str, Any]:
    return {
        "model": f"{settings.network}.yaml", "data": str(data), "project": str(state.parent),
        "name": state.name, "exist_ok": True, "pretrained": False, "plots": False, "cache": "ram",
        "epochs": settings.epochs, "batch": settings.batch, "nbs": settings.batch, "imgsz": settings.tile_px,
        "seed": settings.seed, "deterministic": False, "patience": 0,
        "optimizer": "AdamW", "lr0": settings.learning_rate, "lrf": 0.02, "cos_lr": True,
        "momentum": 0.9, "weight_decay": 5e-4, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0,
        "hsv_h": 0.02, "hsv_s": 0.4, "hsv_v": 0.25, "scale": 0.2, "translate": 0.1,
        "fliplr": 0.5, "flipud": 0.5, "mosaic": 0.25, "close_mosaic": 2,
        "max_det": MAX_DETECTIONS, "iou": 0.5, "agnostic_nms": True,
    }  # fmt: skip


def describe(settings: TrainSettings) -> dict[str, Any]:
    """All settings that decide the weights, for the model's metadata; nothing of the machine."""
    fixed = _overrides(Path("data.yaml"), Path("run"), settings)
    for key in ("data", "project", "name"):
        del fixed[key]
    return {**asdict(settings), "ultralytics": fixed}
