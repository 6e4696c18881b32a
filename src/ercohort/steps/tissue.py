"""From a slide file to its tissue; every way a slide can be bad ends here as a status."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ercohort.checksums import note
from ercohort.config import StainSettings, TissueSettings
from ercohort.errors import SlideError, Status
from ercohort.files import atomic_path, read_json, write_json
from ercohort.gone import gone_error
from ercohort.record import SlideRecord, TissueRecord, slide_trouble
from ercohort.slide.fingerprint import fingerprint
from ercohort.stain_vectors import DEFAULT_VECTORS, StainVectors

if TYPE_CHECKING:
    from ercohort.slide import Slide, SlideInfo
    from ercohort.slide_score import RegionChoice
    from ercohort.tissue import Tissue


def convert_slide(
    *, path: str, mpp: float | None, slide: str | Path, record: str | Path, expected: bool = False
) -> None:
    """Turn a flat picture into a tiled slide; a picture that cannot be turned leaves an empty file.

    Parameters
    ----------
    path, mpp
        The slide's row in the sheet.
    slide, record
        Outputs: the tiled slide, and what became of it.
    expected
        As for `mask_tissue`.

    Raises
    ------
    MachineError
        A file that was expected is gone.
    """
    from ercohort.slide.convert import convert

    if expected:
        _require(path, Path(record).parent)
    result = {"status": Status.OK.value, "message": ""}

    def trouble(status: Status, message: str) -> None:
        result.update(status=status.value, message=message)
        with atomic_path(slide) as temporary:
            temporary.touch()

    with slide_trouble(slide, trouble):
        convert(path, slide, mpp=mpp)
    write_json(record, result)
    note("convert", slide, record)


def mask_tissue(
    *,
    slide_id: str,
    path: str,
    readable: str,
    conversion: str | Path | None = None,
    mpp: float | None,
    settings: TissueSettings,
    folder: Path,
    expected: bool = False,
    stain: StainSettings | None = None,
    regions: RegionChoice | None = None,
) -> None:
    """Open a slide and find its tissue; every way in which a slide can be bad ends here as a status.

    Parameters
    ----------
    slide_id, path, mpp
        The slide's row in the sheet.
    readable
        The file that is read by region: `path`, or the pyramid made from it.
    conversion
        What became of the conversion, where `readable` was made by one.
    folder
        The slide's folder; gets `slide.json`, `tissue.png` and `thumbnail.jpg`.
    expected
        Whether the file was there when the run began, or has results: its absence is then no status.
    stain
        Which stain vectors; QuPath's if not given.
    regions
        Which tissue counts; quality is measured on that alone.

    Raises
    ------
    MachineError
        A file that was expected is gone.
    """
    from ercohort import tissue
    from ercohort.quality import measure_quality
    from ercohort.slide.guarded import open_guarded
    from ercohort.slide.probe import check_pixels

    if expected:
        _require(path, folder)
    record = SlideRecord(slide_id, path, Status.OK, fingerprint=fingerprint(path))
    found: tissue.Tissue | None = None

    def trouble(status: Status, message: str) -> None:
        nonlocal record
        record = replace(record, status=status, message=message)

    with slide_trouble(folder / "slide.json", trouble):
        with open_guarded(_readable(path, readable, conversion), mpp=mpp) as slide:
            check_pixels(slide)
            record = replace(record, info=slide.info)
            found = tissue.find_tissue(slide, settings)
            vectors = _vectors(slide, found, stain or StainSettings())
            counted = _counted(found, regions, slide.info)
            if counted.found.any():
                record = replace(record, quality=measure_quality(slide, counted, vectors))
        measured = TissueRecord(
            found.downsample_x, found.downsample_y, found.background, found.area_mm2, vectors
        )
        record = replace(record, tissue=measured)
        if not found.mask.any():
            raise SlideError(
                Status.NO_TISSUE,
                "only glass was found; if there is tissue, lower tissue.min_od in the config",
            )
    tissue.save_tissue(found or tissue.no_tissue(), folder / "tissue.png", folder / "thumbnail.jpg")
    record.write(folder / "slide.json")
    note("tissue", folder / "slide.json", folder / "tissue.png", folder / "thumbnail.jpg")


def _counted(found: Tissue, regions: RegionChoice | None, info: SlideInfo) -> Tissue:
    """Leave out what no region that counts has: a fault there is no fault of what was counted."""
    try:
        roi = regions.read(info) if regions else None
    except SlideError:  # the merge meets it again, and makes it the slide's status
        return found
    if roi is None:
        return found
    return replace(found, found=roi.counted_of(found.found, (found.downsample_x, found.downsample_y)))


def _vectors(slide: Slide, found: Tissue, settings: StainSettings) -> StainVectors:
    if settings.vectors == "default":
        return DEFAULT_VECTORS
    from ercohort.stain_estimate import estimate_vectors

    return estimate_vectors(slide, found)


def _require(path: str, folder: Path) -> None:
    """Refuse to put `missing` in the place of results, or of a slide that was there when the run began."""
    if fingerprint(path) is None:
        raise gone_error(path, f"take it out of the sheet, or remove {folder}")


def _readable(path: str, readable: str, conversion: str | Path | None) -> str:
    if not os.path.exists(readable):
        raise SlideError(
            Status.MISSING, f"{path}: no such file; correct the path in the sheet, or put it there"
        )
    if conversion is not None:
        result = read_json(conversion)
        if result["status"] != Status.OK:
            raise SlideError(Status(result["status"]), result["message"])
    return readable
