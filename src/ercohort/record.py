"""`slide.json`: what is known about one slide once it was opened, or why it could not be."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ercohort.errors import BackendError, MachineError, ModelError, SlideError, Status
from ercohort.files import read_json, write_json
from ercohort.quality import FocusPatch, QualityRecord
from ercohort.slide import SlideInfo
from ercohort.stain_vectors import DEFAULT_VECTORS, StainVectors

LOGGER = logging.getLogger("ercohort")


@dataclass(frozen=True)
class TissueRecord:
    """What later steps need of the tissue mask.

    Parameters
    ----------
    downsample_x, downsample_y
        Level-0 pixels per pixel of `tissue.png`.
    background
        Colour of the glass, RGB 0 to 255; optical densities are measured against it.
    area_mm2
        Area of tissue, mm².
    stain
        The stain vectors that optical densities are unmixed with.
    """

    downsample_x: float
    downsample_y: float
    background: tuple[float, float, float]
    area_mm2: float
    stain: StainVectors = DEFAULT_VECTORS

    @classmethod
    def of(cls, values: dict[str, Any]) -> TissueRecord:
        """Make one from what JSON holds of it; files of version 0.2 have no stain vectors."""
        stain = StainVectors.of(values["stain"]) if "stain" in values else DEFAULT_VECTORS
        return cls(**{**values, "background": tuple(values["background"]), "stain": stain})


@dataclass(frozen=True)
class SlideRecord:
    """One slide of the cohort.

    Parameters
    ----------
    slide_id, path
        As in the sheet.
    status, message
        `Status.OK` so far, or what is wrong with the slide and the cure.
    info, tissue
        None where the slide could not be opened.
    fingerprint
        Of the slide file (`slide.fingerprint`) before it was opened; None where there was none.
    quality
        Of the slide as it was stained and scanned; None where there is no tissue.
    """

    slide_id: str
    path: str
    status: Status
    message: str = ""
    info: SlideInfo | None = None
    tissue: TissueRecord | None = None
    fingerprint: str | None = None
    quality: QualityRecord | None = None

    def write(self, path: str | Path) -> None:
        """Write the record as JSON."""
        write_json(path, {**asdict(self), "info": self.info.to_dict() if self.info else None})

    @classmethod
    def read(cls, path: str | Path) -> SlideRecord:
        """Read a record that `write` wrote."""
        values = read_json(path)
        tissue = values.pop("tissue")
        info = values.pop("info")
        return cls(
            slide_id=values["slide_id"],
            path=values["path"],
            status=Status(values["status"]),
            message=values["message"],
            info=SlideInfo.from_dict(info) if info else None,
            tissue=TissueRecord.of(tissue) if tissue else None,
            fingerprint=values.get("fingerprint"),  # files of version 0.2 have none
            quality=_quality(values.get("quality")),
        )


def _quality(values: dict[str, Any] | None) -> QualityRecord | None:
    if values is None:
        return None
    return QualityRecord(**{**values, "patches": tuple(FocusPatch(**patch) for patch in values["patches"])})


@contextmanager
def slide_trouble(redo: str | Path, record: Callable[[Status, str], None]) -> Iterator[None]:
    """Turn what is wrong with a slide into a status; let what is wrong with the machine through.

    A `SlideError` becomes its status. An error that nobody foresaw becomes `failed`, with the traceback in
    the job's log: one odd slide must not cost the cohort its table. Errors of the machine (disk, memory,
    a backend or model that does not work) are raised, so that the workflow tries again or stops the branch.

    Parameters
    ----------
    redo
        The file with which the slide's work begins anew, for the message.
    record
        Takes the status and the message.
    """
    try:
        yield
    except SlideError as error:
        LOGGER.warning("%s: %s", error.status, error.message)
        record(error.status, error.message)
    except (OSError, MemoryError, MachineError, BackendError, ModelError):
        raise
    except Exception as error:
        LOGGER.error("%s", traceback.format_exc())
        record(
            Status.FAILED,
            f"unexpected {type(error).__name__}: {error}; the logs in results/logs have the details: please "
            f"report it; to try this slide again: snakemake --forcerun {redo} (and your other options)",
        )
