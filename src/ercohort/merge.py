"""Merge the shards of a slide into its nuclei, and decide about pale ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ercohort.errors import InputError
from ercohort.schema import DETECTIONS, LABELS, NUCLEI, class_names, is_negative, with_classes
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
        Rows of `schema.NUCLEI`, with the shards' classes, in order of tile, y0, x0, y1, x1, the same for any
        number of shards; `grade` and `region` are null until they are known.

    Raises
    ------
    InputError
        Two shards hold the same tile: its nuclei would count twice. Or shards hold different classes.
    """
    _check_tiles(shards)
    table = pl.concat([pl.DataFrame(schema=with_classes(DETECTIONS, _classes(shards))), *shards])
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


def pale_to_negative(nuclei: pl.DataFrame, min_dab_od: float) -> pl.DataFrame:
    """Call every nucleus negative whose mean DAB optical density is below `min_dab_od`.

    A detector is sure of most nuclei, pale brown ones included: its score orders them poorly, their stain
    does. QuPath's positive cell detection decides by the same measurement.

    Parameters
    ----------
    nuclei
        Columns `label` and `dab_od` of `schema.NUCLEI`, with one negative class.
    min_dab_od
        Least optical density of a positive nucleus.

    Returns
    -------
    pl.DataFrame
        The same rows and columns; only `label` differs.
    """
    classes = nuclei.schema["label"]
    negative = next(filter(is_negative, class_names(classes)))
    label = pl.when(pl.col("dab_od") < min_dab_od).then(pl.lit(negative, classes)).otherwise(pl.col("label"))
    return nuclei.with_columns(label.alias("label"))


def _check_tiles(shards: Sequence[pl.DataFrame]) -> None:
    tiles = pl.concat([pl.Series("tile_id", [], pl.Int32), *(shard["tile_id"].unique() for shard in shards)])
    twice = tiles.filter(tiles.is_duplicated())
    if len(twice):
        raise InputError(
            f"tile {twice[0]} is in two shards, so its nuclei would count twice; "
            f"remove the slide's `shards` folder and run again"
        )


def _classes(shards: Sequence[pl.DataFrame]) -> tuple[str, ...]:
    found = list(dict.fromkeys(class_names(shard.schema["label"]) for shard in shards)) or [LABELS]
    if len(found) > 1:
        first, second = (", ".join(labels) for labels in found[:2])
        raise InputError(
            f"shards hold the classes {first} and {second}, so two detectors made them; "
            "remove the slide's `shards` folder and run again"
        )
    return found[0]
