"""From a slide's tissue to the tiles that hold it."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from ercohort import schema
from ercohort.checksums import note
from ercohort.config import TileSettings
from ercohort.errors import Status
from ercohort.files import write_table
from ercohort.record import SlideRecord

LOGGER = logging.getLogger("ercohort")


def lay_out_tiles(*, detector_mpp: float, settings: TileSettings, folder: Path) -> None:
    """Write `tiles.parquet`: the tiles whose core touches tissue; none for a slide with a bad status."""
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
            mask=load_tissue_mask(folder / "tissue.png"),
            downsample_x=record.tissue.downsample_x,
            downsample_y=record.tissue.downsample_y,
            n_shards=1,
        )
    LOGGER.info("%s: %d tiles", record.slide_id, len(tiles))
    write_table(folder / "tiles.parquet", tiles, schema.TILES)
    note("tiles", folder / "tiles.parquet")
