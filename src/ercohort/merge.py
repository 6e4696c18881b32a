"""Merge the shards of a slide into its nuclei."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ercohort.errors import InputError
from ercohort.schema import DETECTIONS, NUCLEI
from ercohort.seams import columns_of, sort_by_tile
from ercohort.twins import resolve


def merge_shards(
    shards: Sequence[pl.DataFrame], *, scale: float, nms_iou: float, seam_ios: float
) -> pl.DataFrame:
    """Resolve the seams between shards, and put all nuclei in one table.

    Parameters
    ----------
    shards
        What `seams.resolve_shard` returned for each shard of the slide, in any order.
    scale
        Level-0 pixels per detector pixel, as given to `seams.resolve_shard`.
    nms_iou, seam_ios
        Settings of the same names.

    Returns
    -------
    pl.DataFrame
        Rows of `schema.NUCLEI` in order of tile, y0, x0, y1, x1, the same for any number of shards; `grade`
        and `region` are null.

    Raises
    ------
    InputError
        Two shards hold the same tile: its nuclei would count twice.
    """
    _check_tiles(shards)
    table = pl.concat([pl.DataFrame(schema=DETECTIONS), *shards])
    still_open = table["open"].to_numpy()
    if still_open.any():
        rows = np.flatnonzero(still_open)
        kept, _ = resolve(*columns_of(table[rows]), scale=scale, nms_iou=nms_iou, seam_ios=seam_ios)
        keep = ~still_open
        keep[rows] = kept
        table = table.filter(pl.Series(keep))
    table = sort_by_tile(table.drop("cut", "open"))
    return table.with_columns(
        pl.lit(None, NUCLEI["grade"]).alias("grade"), pl.lit(None, NUCLEI["region"]).alias("region")
    ).select(*NUCLEI)


def _check_tiles(shards: Sequence[pl.DataFrame]) -> None:
    tiles = pl.concat([pl.Series("tile_id", [], pl.Int32), *(shard["tile_id"].unique() for shard in shards)])
    twice = tiles.filter(tiles.is_duplicated())
    if len(twice):
        raise InputError(
            f"tile {twice[0]} is in two shards, so its nuclei would count twice; "
            f"remove the slide's `shards` folder and run again"
        )
