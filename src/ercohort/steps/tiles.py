"""From a slide's tissue to the tiles that hold it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ercohort import schema
from ercohort.checksums import note
from ercohort.config import TileSettings
from ercohort.errors import SlideError, Status
from ercohort.files import write_table
from ercohort.record import SlideRecord

if TYPE_CHECKING:
    from ercohort.slide import SlideInfo
    from ercohort.slide_score import RegionChoice

LOGGER = logging.getLogger("ercohort")


def lay_out_tiles(
    *, detector_mpp: float, settings: TileSettings, folder: Path, regions: RegionChoice | None = None
) -> None:
    """Write `tiles.parquet`: the tiles whose core touches tissue; none for a slide with a bad status.

    Parameters
    ----------
    regions
        Where a file of regions is given, only tiles whose core touches one are kept.
    """
    from ercohort.tiles import make_tiles
    from ercohort.tissue import load_tissue_mask

    record = SlideRecord.read(folder / "slide.json")
    tiles = pl.DataFrame(schema=schema.TILES)
    if record.status is Status.OK and record.info and record.tissue:
        tiles = make_tiles(
            width=record.info.width,
            height=record.info.height,
            bounds=record.info.bounds,
            slide_mpp=record.info.mpp,
            detector_mpp=detector_mpp,
            settings=settings,
            mask=load_tissue_mask(folder / "tissue.png", margin=True),
            downsample_x=record.tissue.downsample_x,
            downsample_y=record.tissue.downsample_y,
            n_shards=1,
        )
        if regions is not None:
            tiles = _in_regions(tiles, regions, record.info)
    LOGGER.info("%s: %d tiles", record.slide_id, len(tiles))
    write_table(folder / "tiles.parquet", tiles, schema.TILES)
    note("tiles", folder / "tiles.parquet")


def _in_regions(tiles: pl.DataFrame, regions: RegionChoice, info: SlideInfo) -> pl.DataFrame:
    """Keep the tiles whose core touches a region; none if the file is no use."""
    try:
        found = regions.read(info)
    except SlideError as error:  # the merge meets it again, and makes it the slide's status
        LOGGER.warning("%s", error.message)
        return tiles.clear()
    if found is None:
        return tiles
    cores = tiles.select("core_x0", "core_y0", "core_x1", "core_y1").to_numpy()
    return tiles.filter(pl.Series(found.touches(cores), dtype=pl.Boolean))
