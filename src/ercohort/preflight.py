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
from ercohort.inert import shown
from ercohort.model import ModelInfo, read_model
from ercohort.sheet import Sample, read_sheet

_ROOM_BYTES = 1 << 20
"""With less than this on a disk, a step that failed there failed for want of space."""

_FILLED_IN = re.compile(r"[{}<>]|://")


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


def results_trouble(results: Path) -> str | None:
    """Say why a run could write no results; None where it can."""
    folder = results if results.exists() else results.absolute().parent
    if os.access(folder, os.W_OK | os.X_OK):
        return None
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    why = "its file system is read-only; make it writable" if read_only else (
        "no permission to write there; change the folder's owner or rights, or run from a folder of your own"
    )  # fmt: skip
    return f"{folder}: {why}"


def full_disk(folder: Path) -> str:
    """Say that a disk is full; nothing where it is not."""
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize >= _ROOM_BYTES and (disk.f_favail or not disk.f_files):
        return ""
    return f"ercohort: {folder.absolute()}: no space left on its disk; make room\n"


def backend_line(config: Config, model: ModelInfo, *, gpu: int | None, local: bool = True) -> str:
    """Say in one line what will run the detector, and why.

    Parameters
    ----------
    gpu
        GPUs that the run may use; None sets no limit.
    local
        Whether jobs run on this machine; else each chooses on its own node.

    Raises
    ------
    BackendError
        The config asks for what this machine lacks, and jobs run here.
    """
    if not local:
        # profiles/default, loaded beside a cluster's profile, would let one GPU of the cluster work.
        limit = "" if gpu is None else f"; GPUs that may work at a time: {gpu} (--resources gpu={gpu})"
        return f"backend is `{config.backend}`; each job chooses on its own node{limit}"
    return choose_backend(
        config.backend,
        1 if gpu is None else gpu,
        precision=config.precision,
        tensorrt=config.tensorrt,
        model=model,
        tile_px=config.tiles.tile_px,
    ).reason


def sheet_columns(samples: dict[str, Sample]) -> list[dict[str, str]]:
    """Return what the cohort table repeats of the sheet: the id and the sheet's own columns."""
    return [{"slide_id": sample.slide_id, **sample.extra} for sample in samples.values()]
