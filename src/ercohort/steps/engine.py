"""What runs the detector: chosen and recorded once per run."""

from __future__ import annotations

import logging
from pathlib import Path

from ercohort import __version__
from ercohort.files import write_json

LOGGER = logging.getLogger("ercohort")


def prepare_engine(*, model: str, backend: str, precision: str, output: str | Path) -> None:
    """Choose what runs the detector and record it, with the model's identity, in `engine.json`."""
    from ercohort.backends import choose_backend
    from ercohort.model import read_model

    detector = read_model(model)
    choice = choose_backend(backend, 1, precision=precision)
    LOGGER.info("%s", choice.reason)
    write_json(
        output,
        {
            "asked": {"backend": backend, "precision": precision},
            **choice.to_dict(),
            "model": detector.to_dict(),
            "version": __version__,
        },
    )
