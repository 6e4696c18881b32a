"""What is checked before any job starts: the config, the sheet and the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ercohort.backends import choose_backend
from ercohort.config import Config, check_config
from ercohort.model import ModelInfo, read_model
from ercohort.sheet import Sample, read_sheet


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
    config = check_config(values, ", ".join(sources) or "config/config.yaml")
    if config.backend == "tensorrt":
        choose_backend(config.backend)  # says what is missing; other choices are made where the job runs
    return config, read_sheet(config.samples), read_model(find_model(config.model, root))


def find_model(path: str, root: Path) -> str:
    """Return the model's path, in the working directory or else in the workflow's own folder."""
    beside = root / path
    return str(beside) if not Path(path).exists() and beside.exists() else path


def backend_line(config: Config, *, gpu: int) -> str:
    """Say in one line what will run the detector, and why."""
    return choose_backend(config.backend, gpu, precision=config.precision).reason


def sheet_columns(samples: dict[str, Sample]) -> list[dict[str, str]]:
    """Return what the cohort table repeats of the sheet: the id and the sheet's own columns."""
    return [{"slide_id": sample.slide_id, **sample.extra} for sample in samples.values()]
