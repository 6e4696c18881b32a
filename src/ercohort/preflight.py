"""What is checked before any job starts: the config, the sheet and the model."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ercohort.backends import choose_backend
from ercohort.backends.select import check_gpu_model, gpu_refused
from ercohort.config import Config, check_config
from ercohort.errors import BackendError, InputError, ModelError
from ercohort.inert import is_inert, shown
from ercohort.model import ModelInfo, read_model
from ercohort.sheet import Sample, read_sheet

_FILLED_IN = re.compile(r"[{}<>]|://")
_ADVISED_AGAINST = re.compile(r"^\./|//|/$")


def check_run(
    values: dict[str, Any], *, sources: Sequence[str], root: Path
) -> tuple[Config, dict[str, Sample], ModelInfo]:
    """Check the values of the config files, the sheet and the model that they name.

    Parameters
    ----------
    values
        The settings as Snakemake merged them.
    sources
        The config files they came from, for messages.
    root
        The workflow's own folder: a model that is not in the working directory is looked up there.

    Raises
    ------
    InputError, ModelError, BackendError
        One readable line per mistake.
    """
    source = ", ".join(sources) or "config/config.yaml"
    config = check_config(values, source)
    _check_paths(config, source)
    samples, model = read_sheet(config.samples), read_model(find_model(config.model, root))
    if config.backend == "tensorrt":
        # Every job comes by here, on nodes without a GPU too; `backend_line` looks for one.
        try:
            check_gpu_model(model, config.tensorrt, config.tiles.tile_px)
        except (BackendError, ModelError) as error:
            raise gpu_refused(error) from None
    return config, samples, model


def _check_paths(config: Config, source: str) -> None:
    """Refuse paths in which Snakemake would fill in what is in braces."""
    paths = {
        "samples": config.samples,
        "model": config.model,
        "tensorrt.store": config.tensorrt.store,
        "dataset.labels": config.dataset.labels,
        "train.base": config.train.base,
        "train.nuinsseg": config.train.nuinsseg,
        "evaluate.truth": config.evaluate.truth,
    }
    acted_on = [key for key, path in paths.items() if path and _FILLED_IN.search(path)]
    if acted_on:
        raise InputError(
            *(
                f"{source}: `{key}` is {shown(paths[key])}: Snakemake acts on {{ }} < > and ://; rename it"
                for key in acted_on
            )
        )


def find_model(path: str, root: Path) -> str:
    """Return the model's path, in the working directory or else in the workflow's own folder."""
    beside = root / path
    return str(beside) if not Path(path).exists() and beside.exists() else path


def can_be_input(path: str) -> bool:
    """Say whether Snakemake takes a slide's path as it stands, when a rule lists it as an input.

    It fills in `{x}` and `<x>`, takes `scheme://` for a remote file, and advises against `./x` and `x//y`.
    A file among the results would have to be made before it is read. Any such path is given to the steps as
    a parameter alone; the fingerprint beside it says when a slide was replaced.
    """
    made = Path("results").absolute() in Path(os.path.abspath(path)).parents
    return is_inert(path) and not made and not _FILLED_IN.search(path) and not _ADVISED_AGAINST.search(path)


def backend_line(config: Config, model: ModelInfo, *, gpu: int, local: bool = True) -> str:
    """Say in one line what will run the detector, and why.

    Parameters
    ----------
    gpu
        GPUs that the run may use.
    local
        Whether jobs run on this machine; else each chooses on its own node.

    Raises
    ------
    BackendError
        The config asks for what this machine lacks, and jobs run here.
    """
    if not local:
        return f"backend is `{config.backend}`; each job chooses on its own node"
    return choose_backend(
        config.backend,
        gpu,
        precision=config.precision,
        tensorrt=config.tensorrt,
        model=model,
        tile_px=config.tiles.tile_px,
    ).reason


def sheet_columns(samples: dict[str, Sample]) -> list[dict[str, str]]:
    """Return what the cohort table repeats of the sheet: the id and the sheet's own columns."""
    return [{"slide_id": sample.slide_id, **sample.extra} for sample in samples.values()]
