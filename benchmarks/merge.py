"""Time and memory of the merge at two million boxes; prints the figures and checks nothing.

    python benchmarks/merge.py [BOXES]

Simulated boxes of 9 to 20 px at the density of a large slide (one nucleus per 18.5 px square), laid out in
tiles of 640 px with a halo of 32 px. Each case is merged in a process of its own, twice: the first time
loads or compiles the loops.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from ercohort.merge import merge_shards
from ercohort.schema import DETECTIONS, LABELS
from ercohort.seams import resolve_shard

CORE, HALO = 576, 32
CASES = {
    "one": "one shard, nothing open",
    "eight": "eight shards, seams between them open",
    "all": "one shard, every box open (worst case)",
}


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
    tables, begun = [], perf_counter()
    for shard in range(1, count + 1):
        mine = tiles.filter(pl.col("shard") == shard)
        emitted = detections.filter(pl.col("tile_id").is_in(mine["tile_id"].implode()))
        tables.append(resolve_shard(emitted, mine, tiles, **settings))
    print(f"  shards resolved in {perf_counter() - begun:.2f} s in all", flush=True)
    return tables


def measure(folder: str) -> None:
    """Merge the tables in a folder twice and print what it took."""
    tables = [pl.read_parquet(path) for path in sorted(Path(folder).iterdir())]
    boxes, still_open = sum(len(table) for table in tables), sum(int(table["open"].sum()) for table in tables)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for attempt in ("first", "again"):
        begun = perf_counter()
        nuclei = merge_shards(tables, scale=1.0, nms_iou=0.5, seam_ios=0.7)
        print(f"  {attempt}: {perf_counter() - begun:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  {boxes:,} boxes ({still_open / boxes:.1%} open) -> {len(nuclei):,} nuclei; "
        f"process {peak:.2f} GiB at most, {held:.2f} GiB before the merge"
    )


def main() -> None:
    """Print the figures of all cases."""
    if len(sys.argv) > 2:
        measure(sys.argv[2])
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    for case, title in CASES.items():
        print(f"{title}:", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for i, table in enumerate(shards_of(case, n)):
                table.write_parquet(Path(folder, f"{i}.parquet"))
            subprocess.run([sys.executable, __file__, str(n), folder], check=True)


if __name__ == "__main__":
    main()
