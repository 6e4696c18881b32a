"""What a person opens: the QuPath file and the pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ercohort.checksums import note
from ercohort.config import GeoJSONSettings, ScoreSettings
from ercohort.errors import GeoJSONError, SlideError
from ercohort.files import atomic_path, read_json
from ercohort.record import SlideRecord
from ercohort.slide import SlideInfo

if TYPE_CHECKING:
    from ercohort.roi import Roi
    from ercohort.slide_score import RegionChoice

LOGGER = logging.getLogger("ercohort")


def export_geojson(*, settings: GeoJSONSettings, folder: Path) -> None:
    """Write `nuclei.geojson.zip`, and read it as QuPath would before it gets its name."""
    from ercohort.geojson import write_geojson
    from ercohort.geojson_validate import validate_geojson

    slide = SlideRecord.read(folder / "slide.json")
    output = folder / "nuclei.geojson.zip"
    with atomic_path(output) as temporary:
        n_written = write_geojson(
            folder / "nuclei.parquet",
            temporary,
            slide_id=slide.slide_id,
            info=slide.info or _never_opened(slide.path),
            settings=settings,
        )
        try:
            report = validate_geojson(temporary)
        except GeoJSONError as error:  # the file a person looks for has the final name
            raise GeoJSONError(*str(error).replace(str(temporary), str(output)).splitlines()) from None
        if report.n_features != n_written:
            raise GeoJSONError(
                f"{output}: {n_written} nuclei were written, {report.n_features} read back; report it"
            )
    note("geojson", output, n_features=n_written)
    LOGGER.info("%s: %d features in %d files", slide.slide_id, report.n_features, report.n_files)


def _never_opened(path: str) -> SlideInfo:
    """Return the description of a slide that has no nuclei to place, because it could not be opened."""
    return SlideInfo(
        path=path,
        vendor="",
        width=0,
        height=0,
        mpp=1.0,
        mpp_source="",
        level_dimensions=(),
        level_downsamples=(),
        bounds=(0, 0, 0, 0),
        has_bounds=False,
        background=(255, 255, 255),
        reader="",
        file_bytes=0,
    )


PICTURES = ("overlay.jpg", "heatmap.png", "fields.jpg", "od_histogram.png")
"""What is drawn of every slide."""


def draw_pictures(
    *,
    folder: Path,
    guarded: bool = False,
    regions: RegionChoice | None = None,
    scores: ScoreSettings | None = None,
    min_dab_od: float | None = None,
) -> None:
    """Draw the pictures of a slide (`PICTURES`); of one that could not be counted, cards that say why.

    Parameters
    ----------
    folder
        The slide's folder.
    guarded
        Read the slide in a child process: what crashes or blocks the reader is then left blank.
    regions
        Which regions of the slide count, to outline them.
    scores, min_dab_od
        Thresholds of the optical density, to mark them.
    """
    from ercohort import pictures
    from ercohort.field_strip import write_fields
    from ercohort.heatmap import write_heatmap
    from ercohort.od_histogram import write_od_histogram
    from ercohort.slide.guarded import open_reader
    from ercohort.tissue import load_tissue_mask
    from ercohort.watch import Watch

    slide = SlideRecord.read(folder / "slide.json")
    row = read_json(folder / "summary.json")["row"]
    overlay, heatmap, fields, histogram = paths = [folder / name for name in PICTURES]
    if slide.info is None or slide.tissue is None:
        for path in paths:
            pictures.write_card(path, slide_id=slide.slide_id, status=row["status"], message=row["message"])
        note("pictures", *paths)
        return
    row["simulated"] = slide.info.simulated
    nuclei = pl.read_parquet(folder / "nuclei.parquet")
    mask = load_tissue_mask(folder / "tissue.png", margin=False)
    roi = _read_regions(regions, slide.info)
    counted = nuclei if roi is None else nuclei.filter(~pl.col("region").is_in(list(roi.apart)))
    with Watch(slide.slide_id), open_reader(slide.info, guarded=guarded) as pixels:
        shown = {"slide": pixels, "nuclei": nuclei, "counted": counted, "mask": mask, "row": row, "roi": roi}
        pictures.write_overlay(overlay, **shown)
        write_fields(fields, tiles=pl.read_parquet(folder / "tiles.parquet"), **shown)
    write_heatmap(heatmap, info=slide.info, nuclei=counted, mask=mask, row=row, roi=roi)
    write_od_histogram(
        histogram, nuclei=counted, row=row, scores=scores or ScoreSettings(), min_dab_od=min_dab_od
    )
    note("pictures", *paths)


def _read_regions(regions: RegionChoice | None, info: SlideInfo) -> Roi | None:
    try:
        return regions.read(info) if regions else None
    except SlideError as error:  # the merge met it too, and made it the slide's status
        LOGGER.warning("%s", error.message)
        return None
