"""From training sets to a checkpoint, with pictures of how it went."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ercohort.config import Config
from ercohort.files import write_json

if TYPE_CHECKING:
    from ercohort.training.run_record import RunRecord
    from ercohort.training.tile_sets import TileSets

LOGGER = logging.getLogger("ercohort")

MOST_TRAINING_TILES = 300
"""Tiles that are judged where none are set aside for validation."""


def train_detector(
    *, config: Config, data: Sequence[str | Path], folder: str | Path, threads: int | None = None
) -> Path:
    """Train on the sets, or go on where an earlier call was cut off.

    Parameters
    ----------
    data
        `data.yaml` files with the same classes.
    folder
        Gets `detector.pt`, the best checkpoint, `curves.png`, `worst_tiles.jpg` and `training.json`, and
        `run`, which holds what going on needs.
    threads
        CPU threads; all if not given.

    Returns
    -------
    Path of the best checkpoint.

    Raises
    ------
    BackendError
        torch, ultralytics or onnx is not installed.
    InputError
        The sets cannot be trained on.
    ModelError
        `train.base` cannot be started from.
    """
    from ercohort.training.packages import require_training_packages

    require_training_packages()
    from ercohort.training.curves import draw_curves
    from ercohort.training.run_record import RunRecord
    from ercohort.training.tile_sets import read_tile_sets
    from ercohort.training.trainer import STATE, TrainSettings, train

    folder = Path(folder)
    sets = read_tile_sets(data)
    settings = TrainSettings.of(config.train, sets.tile_px)
    best = train(sets, folder, settings, base=config.train.base, threads=threads)
    record = RunRecord.read(folder / STATE / "run.json")
    draw_curves(folder / "curves.png", record.epochs, start=record.start, finished=record.finished)
    judged = _judge(best, sets, folder / "worst_tiles.jpg", score=config.detect.score)
    write_json(
        folder / "training.json",
        {
            "plan": record.plan, "limits": record.limits, "finished": record.finished,
            "hours": round(record.seconds / 3600, 3), "start": record.start, "best": record.best(),
            "operating_point": judged,
            "epochs": record.epochs,
        },
    )  # fmt: skip
    LOGGER.info("%s: %s", best, ", ".join(f"{key} {value:.3f}" for key, value in judged.items()))
    _warn_of_no_gain(record)
    return best


def _warn_of_no_gain(record: RunRecord) -> None:
    kept = record.best()
    if kept and record.start and kept["class_f1"] <= record.start["class_f1"]:
        LOGGER.warning(
            "training gained nothing: F1 on the validation tiles was %.3f before and is %.3f; "
            "lower train.learning_rate, label more, or keep the detector it started from",
            record.start["class_f1"], kept["class_f1"],
        )  # fmt: skip


def _judge(checkpoint: Path, sets: TileSets, picture: Path, *, score: float) -> dict[str, float]:
    """Draw the worst tiles; return figures at the workflow's score, which is not chosen on these tiles."""
    from ercohort.training.checkpoint import read_checkpoint
    from ercohort.training.packages import prepare_ultralytics
    from ercohort.training.tile_sets import read_tile
    from ercohort.training.validation import detect, read_truth
    from ercohort.training.worst_tiles import draw_worst_tiles, judge_tile, summarise

    prepare_ultralytics(picture.parent)
    model, _ = read_checkpoint(checkpoint)
    pictures = sets.val or sets.train[:: -(-len(sets.train) // MOST_TRAINING_TILES)]
    tiles, truth = zip(*map(read_truth, pictures), strict=True)
    found = detect(model, tiles, score=score)
    judged = [
        judge_tile(path.stem, read_tile(path), right, seen, mpp=sets.mpp)
        for path, right, seen in zip(pictures, truth, found, strict=True)
    ]
    split = "validation" if sets.val else "training"
    draw_worst_tiles(picture, judged, sets.names, mpp=sets.mpp, score=score, split=split)
    return {"score": score, **summarise(judged)}


def generate_tiles(
    *,
    nuinsseg: str | None,
    n_virtual: int,
    n_simulated: int,
    tile_px: int,
    seed: int,
    processes: int,
    folder: Path,
) -> Path:
    """Make simulated and virtual IHC tiles, a fiftieth of them for validation.

    Parameters
    ----------
    nuinsseg
        Folder of outlined H&E tiles; not used without virtual tiles.
    tile_px
        Side of a tile, pixels.

    Returns
    -------
    Path of `data.yaml`.

    Raises
    ------
    InputError
        `nuinsseg` holds no outlined tiles.
    """
    from ercohort.training.dataset import DatasetRecipe, build_dataset

    recipe = DatasetRecipe(
        n_simulated=n_simulated,
        n_virtual=n_virtual,
        n_validation=max((n_simulated + n_virtual) // 50, 2),
        tile_px=tile_px,
        seed=seed,
    )
    return build_dataset(folder, nuinsseg if n_virtual else None, recipe, processes=processes)
