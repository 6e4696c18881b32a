"""Time, size and memory of writing and validating the QuPath file.

Run it as `python benchmarks/geojson.py`; `POLARS_MAX_THREADS=1` measures one core.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from ercohort import schema
from ercohort.config import GeoJSONSettings
from ercohort.files import write_table
from ercohort.geojson import write_geojson
from ercohort.geojson_validate import validate_geojson
from ercohort.slide import SlideInfo

COUNTS = (10_000, 100_000, 1_860_000)
WIDTH, HEIGHT = 38_463, 25_295


def make_nuclei(path: Path, n: int) -> None:
    """Write `n` random nuclei over a slide of the reference size."""
    rng = np.random.default_rng(0)
    centre = rng.uniform((20, 20), (WIDTH - 20, HEIGHT - 20), (n, 2))
    half = rng.normal(8, 1.5, (n, 2)).clip(3, 16)
    table = pl.DataFrame(np.hstack([centre - half, centre + half]), schema=["x0", "y0", "x1", "y1"])
    table = table.with_columns(
        score=rng.uniform(0.4, 1, n),
        label=rng.choice(schema.LABELS, n),
        dab_od=rng.uniform(0, 1.2, n),
        hematoxylin_od=rng.uniform(0, 1, n),
        grade=pl.lit(0),
        region=pl.lit(""),
        tile_id=pl.lit(0),
    )
    write_table(path, table, schema.NUCLEI)


def write(folder: Path) -> None:
    """Write the file."""
    info = SlideInfo(
        path="benchmark",
        vendor="",
        width=WIDTH,
        height=HEIGHT,
        mpp=0.25,
        mpp_source="file",
        level_dimensions=((WIDTH, HEIGHT),),
        level_downsamples=(1.0,),
        bounds=(0, 0, WIDTH, HEIGHT),
        has_bounds=False,
        background=(255, 255, 255),
        reader="",
        file_bytes=0,
    )
    settings = GeoJSONSettings.model_validate({})
    write_geojson(
        folder / "nuclei.parquet", folder / "n.geojson.zip", slide_id="B1", info=info, settings=settings
    )


def validate(folder: Path) -> None:
    """Read the file as QuPath would."""
    validate_geojson(folder / "n.geojson.zip")


def main() -> None:
    """Print one row for each number of nuclei and step; each step is a process of its own."""
    print(f"{'nuclei':>10} {'step':>9} {'seconds':>8} {'CPU s':>6} {'MB':>7} {'peak MB':>8}")
    context = multiprocessing.get_context("spawn")
    for n in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # In its own process too: a child's peak starts at what its parent holds.
            with context.Pool(1) as pool:
                pool.apply(make_nuclei, (folder / "nuclei.parquet", n))
            for step in (write, validate):
                with context.Pool(1) as pool:
                    seconds, cpu, peak = pool.apply(_measure, (step.__name__, folder))
                size = (folder / "n.geojson.zip").stat().st_size / 1e6
                print(f"{n:>10,} {step.__name__:>9} {seconds:>8.2f} {cpu:>6.2f} {size:>7.1f} {peak:>8.0f}")


def _measure(step: str, folder: Path) -> tuple[float, float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    {"write": write, "validate": validate}[step](folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
