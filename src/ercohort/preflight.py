"""What is checked before any job starts: the config, the sheet and the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ercohort.backends import choose_backend
from ercohort.config import Config, check_config
from ercohort.model import ModelInfo, read_model
from ercohort.sheet import Sample, read_sheet


def check_run(values: dict[str, Any]) -> tuple[Config, dict[str, Sample], ModelInfo]:
    """Check the values of the config file, the sheet and the model that they name.

    Raises
    ------
    InputError, ModelError
        One readable line per mistake.
    """
    config = check_config(values)
    return config, read_sheet(config.samples), read_model(config.model)


def backend_line(config: Config, *, gpu: int) -> str:
    """Say in one line what will run the detector, and why."""
    return choose_backend(config.backend, gpu, precision=config.precision).reason


def size_of(path: str) -> int | None:
    """Return the bytes of a slide file, or of all files of a DICOM folder; None where nothing is."""
    slide = Path(path)
    try:
        if slide.is_dir():
            return sum(item.stat().st_size for item in slide.iterdir() if item.is_file())
        return slide.stat().st_size
    except OSError:
        return None


def sheet_columns(samples: dict[str, Sample]) -> list[dict[str, str]]:
    """Return what the cohort table repeats of the sheet: the id and the sheet's own columns."""
    return [{"slide_id": sample.slide_id, **sample.extra} for sample in samples.values()]
