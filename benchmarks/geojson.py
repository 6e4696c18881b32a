"""Random nuclei over a slide of the reference size, written and validated as the QuPath file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ercohort import schema
from ercohort.config import GeoJSONSettings
from ercohort.files import write_table
from ercohort.geojson import write_geojson
from ercohort.geojson_validate import validate_geojson
from ercohort.slide import SlideInfo

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
