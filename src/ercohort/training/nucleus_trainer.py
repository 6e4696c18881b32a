"""Ultralytics' trainer with this project's ways: clock, resume, balance, validation, orientation.

Imported only while training, since its base class belongs to the `train` extra.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import WeightedRandomSampler
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from ercohort.training.balance import tile_weights
from ercohort.training.checkpoint import Training, read_checkpoint
from ercohort.training.mixed_precision import MixedPrecisionModel
from ercohort.training.run_record import RunRecord
from ercohort.training.tile_sets import TileSets
from ercohort.training.validation import detect, judge, read_truth

LOGGER = logging.getLogger("ercohort")


@dataclass(frozen=True)
class Task:
    """What one call of `train` has to do.

    Attributes
    ----------
    sets
        The tiles.
    record, record_path
        The diary, and where it is kept.
    balanced
        Whether tiles with rare classes are drawn more often.
    resume
        Checkpoint to go on from; None at the first epoch.
    start
        State to begin with; None for random weights.
    """

    sets: TileSets
    record: RunRecord
    record_path: Path
    balanced: bool
    resume: Path | None
    start: dict[str, Any] | None


class NucleusTrainer(DetectionTrainer):
    """Trains on the tiles of a `Task` until a limit of its record is reached."""

    # The base class sets these to None first, which type checkers take for all they can be.
    model: Any
    ema: Any
    scheduler: Any
    last: Any
    best: Any
    best_fitness: Any

    def __init__(self, overrides: dict[str, Any], task: Task) -> None:
        self.task = task
        self._truth = [read_truth(picture) for picture in task.sets.val]
        threads = torch.get_num_threads()
        super().__init__(overrides=overrides)
        torch.set_num_threads(threads)  # ultralytics takes one less than all, whatever the job was given
        self._seconds_before = task.record.seconds
        if task.record.epochs:
            self._plan_epochs(self._seconds_before / len(task.record.epochs))
        self.add_callback("on_train_start", lambda _: self._judge_start())
        self.add_callback("on_train_batch_end", lambda _: self._watch_clock())
        self.add_callback("on_fit_epoch_end", lambda _: self._end_epoch())

    # The model.

    def setup_model(self) -> dict[str, Any] | None:
        """Build the network: as the last checkpoint left it, from the start weights, or at random."""
        content = weights = None
        if self.task.resume:
            weights, content = read_checkpoint(self.task.resume)
            del self.task.record.epochs[content["epoch"] + 1 :]  # cut off before that epoch was saved
            self.resume = True
        self.model = self.get_model(cfg=self.args.model, weights=weights)
        if self.task.start:
            self.model.load_state_dict(self.task.start)
        return content

    def get_model(self, *args: Any, **kwargs: Any) -> Any:
        """Build the network; in mixed precision on CPUs that have it."""
        model = super().get_model(*args, **kwargs)
        sets, record = self.task.sets, self.task.record
        model.ercohort_training = asdict(Training(sets.mpp, sets.tile_px, record.plan))
        if self.device.type == "cpu" and _cpu_has_bf16():
            model.__class__ = MixedPrecisionModel
        return model

    # The tiles.

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """Load training tiles, drawn by weight; validation has its own reader."""
        if mode != "train":
            return SimpleNamespace(dataset=self._truth)
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if not self.task.balanced:
            return loader
        labels = [label["cls"].astype("int64").ravel() for label in loader.dataset.labels]
        weights = tile_weights(labels, self.data["nc"]).tolist()
        return InfiniteDataLoader(
            dataset=loader.dataset,
            batch_size=loader.batch_size,
            sampler=WeightedRandomSampler(weights, len(weights), generator=loader.generator),
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            collate_fn=loader.collate_fn,
            worker_init_fn=seed_worker,
            generator=loader.generator,
        )

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Transpose half of the batches: with the flips all eight orientations; tissue has no upright."""
        batch = super().preprocess_batch(batch)
        if random.random() < 0.5:
            batch["img"] = batch["img"].transpose(2, 3).contiguous()
            batch["bboxes"] = batch["bboxes"][:, [1, 0, 3, 2]]
        return batch

    # Validation.

    def get_validator(self) -> Any:
        """Return a stand-in without metrics of its own; `validate` does the work."""
        return SimpleNamespace(metrics=SimpleNamespace(keys=[]))

    def validate(self) -> tuple[dict[str, float], float | None]:
        """Judge the averaged weights on the validation tiles."""
        if not self._truth:
            return {}, None
        tiles, truth = zip(*self._truth, strict=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._has_bf16()):
            found = detect(self.ema.ema, tiles)
        metrics = judge(found, truth, n_classes=self.data["nc"], mpp=self.task.sets.mpp)
        fitness = metrics["class_f1"]
        if self.best_fitness is None or self.best_fitness < fitness:
            self.best_fitness = fitness
        return metrics, fitness

    def _judge_start(self) -> None:
        """Note how good the start weights are; they are no epoch, so they cannot be the best."""
        if self.task.start:
            self.task.record.start, _ = self.validate()
            self.best_fitness = None

    def final_eval(self) -> None:
        """Do nothing: every epoch has been judged, and `last.pt` keeps its optimizer."""

    def _has_bf16(self) -> bool:
        return self.device.type == "cuda" or _cpu_has_bf16()

    # The clock.

    def _elapsed(self) -> float:
        return self._seconds_before + time.time() - self.train_time_start

    def _watch_clock(self) -> None:
        self.stop |= self._elapsed() >= self.task.record.limits["hours"] * 3600

    def _plan_epochs(self, epoch_seconds: float) -> None:
        """Set the number of epochs so that the learning rate is at its end when the time is."""
        limits, done = self.task.record.limits, len(self.task.record.epochs)
        left = limits["hours"] * 3600 - self.task.record.seconds
        self.epochs = min(limits["epochs"], done + max(1, math.ceil(left / max(epoch_seconds, 1e-3))))
        self.args.epochs = self.epochs

    def _end_epoch(self) -> None:
        self.stop |= bool(self.task.record.over())
        if not self.stop:
            self._plan_epochs((time.time() - self.train_time_start) / (self.epoch + 1 - self.start_epoch))
            self._setup_scheduler()
            self.scheduler.last_epoch = self.epoch

    # What is kept.

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Add the epoch to the record; ultralytics' table is not written."""
        row = {"epoch": self.epoch + 1, "seconds": round(self._elapsed(), 1)}
        row |= {key.removeprefix("train/"): float(value) for key, value in metrics.items()}
        self.task.record.epochs.append(row)
        self.task.record.write(self.task.record_path)

    def save_model(self) -> bool:
        """Write the checkpoints under other names first, so that a kill never leaves half a file."""
        # The plain class: whoever reads the file need not have this package.
        self.ema.ema.__class__ = DetectionModel
        last, best = self.last, self.best
        self.last, self.best = (path.with_suffix(".part") for path in (last, best))
        try:
            saved: bool = super().save_model()
            for path in (best, last):
                if path.with_suffix(".part").exists():
                    os.replace(path.with_suffix(".part"), path)
        finally:
            self.last, self.best = last, best
        return saved


def _cpu_has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
