"""Boxes of a large slide, laid out as tiles emit them, and the time that merging them takes.

Simulated boxes of 9 to 20 px at the density of a large slide (one nucleus per 18.5 px square), in tiles of
640 px with a halo of 32 px.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import polars as pl

from ercohort.merge import merge_shards
from ercohort.schema import DETECTIONS, LABELS
from ercohort.seams import resolve_shard

CORE, HALO = 576, 32
CASES = ("one", "eight", "all")
"""One shard, nothing open; eight shards, seams between them open; one shard, every box open (the worst)."""


def simulate(n: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Boxes as tiles emit them, seams doubled, and the manifest."""
    rng = np.random.default_rng(1)
    tiles_per_side = int(np.ceil(np.sqrt(n) * 18.5 / CORE))
    side = tiles_per_side * CORE
    center = rng.uniform(0, side, (n, 2))
    half = rng.uniform(4.5, 10, (n, 2))
    boxes = np.hstack([center - half, center + half]).astype(np.float32)
    tile = (center[:, 1] // CORE * tiles_per_side + center[:, 0] // CORE).astype(np.int32)
    # What the neighbour's slack adds: nuclei within 3 px of a core's border, seen from both sides.
    twice = np.flatnonzero((center[:, 0] % CORE < 3) & (center[:, 0] > CORE))
    rows = np.concatenate([np.arange(n), twice])
    tile = np.concatenate([tile, tile[twice] - 1])
    shift = np.zeros((len(rows), 1), np.float32)
    shift[n:] = 0.5
    columns = dict(zip(("x0", "y0", "x1", "y1"), (boxes[rows] + shift).T, strict=True))
    detections = pl.DataFrame(
        {
            **columns,
            "score": rng.uniform(0.4, 1.0, len(rows)),
            "label": np.array(LABELS)[rng.integers(0, 2, len(rows))],
            "dab_od": rng.uniform(0, 1, len(rows)),
            "hematoxylin_od": rng.uniform(0, 1, len(rows)),
            "tile_id": tile,
            "cut": np.zeros(len(rows), bool),
        }
    ).cast({name: dtype for name, dtype in DETECTIONS.items() if name != "open"})
    row, column = np.divmod(np.arange(tiles_per_side**2), tiles_per_side)
    tiles = pl.DataFrame(
        {
            "tile_id": np.arange(tiles_per_side**2, dtype=np.int32),
            "x": column * CORE - HALO,
            "core_x0": column * CORE,
            "core_y0": row * CORE,
            "core_x1": (column + 1) * CORE,
        }
    )
    return detections, tiles


def shards_of(case: str, n: int) -> list[pl.DataFrame]:
    """Make the tables that the merge is given."""
    detections, tiles = simulate(n)
    if case == "all":
        return [detections.with_columns(open=pl.lit(True)).select(*DETECTIONS)]
    count = 8 if case == "eight" else 1
    tiles = tiles.with_columns(shard=1 + pl.col("tile_id") * count // tiles.height)
    settings = {"scale": 1.0, "nms_iou": 0.5, "seam_ios": 0.7}
    tables = []
    for shard in range(1, count + 1):
        mine = tiles.filter(pl.col("shard") == shard)
        emitted = detections.filter(pl.col("tile_id").is_in(mine["tile_id"].implode()))
        tables.append(resolve_shard(emitted, mine, tiles, **settings))
    return tables


def time_merge(case: str, n: int) -> float:
    """Seconds to merge `n` boxes, the loops compiled."""
    settings = {"scale": 1.0, "nms_iou": 0.5, "seam_ios": 0.7}
    merge_shards(shards_of(case, 1000), **settings)
    tables = shards_of(case, n)
    begun = perf_counter()
    merge_shards(tables, **settings)
    return perf_counter() - begun
