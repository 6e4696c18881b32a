"""The default detector, from nothing to the ONNX file in one call."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ercohort import __version__
from ercohort.training.dataset import DatasetRecipe, build_dataset
from ercohort.training.export import export
from ercohort.training.packages import require_training_packages
from ercohort.training.trainer import TrainSettings, describe, train


def train_default_model(
    output: str | Path,
    nuinsseg: str | Path | None,
    *,
    seed: int = 1,
    hours: float = 1.35,
    folder: str | Path | None = None,
    recipe: DatasetRecipe | None = None,
    settings: TrainSettings | None = None,
) -> Path:
    """Make the tiles, train and export; the recipe of `models/er-yolov8n.onnx`.

    Parameters
    ----------
    output
        The ONNX file to write.
    nuinsseg
        Folder with the outlined H&E tiles of NuInsSeg; None trains on simulated tiles alone.
    seed, hours
        Of the tiles and the weights; wall time of training itself.
    folder
        Where tiles (about 500 MB) and checkpoints stay; a temporary folder if not given.
    recipe, settings
        Other numbers of tiles or other optimisation than the default's; `seed` and `hours` win.

    Raises
    ------
    InputError
        If `nuinsseg` holds no outlined tiles.
    BackendError
        If torch or ultralytics is not installed.
    """
    require_training_packages()
    recipe = replace(recipe or DatasetRecipe(), seed=seed)
    settings = replace(settings or TrainSettings(), seed=seed, hours=hours)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(folder or temporary)
        data = build_dataset(work / "tiles", nuinsseg, recipe)
        checkpoint = train(data, work / "run", settings)
        return export(checkpoint, output, config=full_config(recipe, settings, nuinsseg), version=__version__)


def full_config(
    recipe: DatasetRecipe, settings: TrainSettings, nuinsseg: str | Path | None
) -> dict[str, Any]:
    """Everything that decides the weights; no path of the machine is in it."""
    sources = ["simulated"] if nuinsseg is None else ["simulated", "NuInsSeg virtual IHC"]
    return {"sources": sources, "dataset": asdict(recipe), "training": describe(settings)}
