"""The columns of every table that ercohort writes.

All coordinates are level-0 pixels of the slide frame (OpenSlide's origin).
"""

from __future__ import annotations

from typing import Any

import polars as pl

POSITIVE = "Positive"
NEGATIVE = "Negative"
LABELS = (POSITIVE, NEGATIVE)
"""Class names of the detector: the leaf names that QuPath's own scores recognise."""

TILES: dict[str, Any] = {
    "tile_id": pl.Int32,
    # Window given to the detector; it may hang over the slide's edge, so x and y may be negative.
    "x": pl.Int32,
    "y": pl.Int32,
    "width": pl.Int32,
    "height": pl.Int32,
    # Core: the half-open rectangle [x0, x1) x [y0, y1) that the tile owns.
    "core_x0": pl.Int32,
    "core_y0": pl.Int32,
    "core_x1": pl.Int32,
    "core_y1": pl.Int32,
    "tissue_fraction": pl.Float32,
    "shard": pl.Int32,  # 1 to the number of shards
}

NUCLEI: dict[str, Any] = {
    "x0": pl.Float32,
    "y0": pl.Float32,
    "x1": pl.Float32,
    "y1": pl.Float32,
    "score": pl.Float32,
    "label": pl.Enum(LABELS),
    "dab_od": pl.Float32,
    "hematoxylin_od": pl.Float32,
    "grade": pl.UInt8,
    "region": pl.String,
    "tile_id": pl.Int32,
}

DETECTIONS: dict[str, Any] = {
    "x0": pl.Float32,
    "y0": pl.Float32,
    "x1": pl.Float32,
    "y1": pl.Float32,
    "score": pl.Float32,
    "label": pl.Enum(LABELS),
    "dab_od": pl.Float32,
    "hematoxylin_od": pl.Float32,
    "tile_id": pl.Int32,
    # The box touches a window edge that lies inside the slide: it may be a part of a nucleus.
    "cut": pl.Boolean,
    # Whether a seam between shards can still decide about this box (it is then resolved by the merge).
    "open": pl.Boolean,
}
"""What a shard hands to the merge."""

COHORT_COLUMNS: tuple[str, ...] = (
    "n_nuclei", "n_positive", "n_negative", "percent_positive", "ci_low", "ci_high",
    "er_category", "borderline", "n_weak", "n_moderate", "n_strong", "h_score",
    "allred_proportion", "allred_intensity", "allred_total", "tissue_mm2", "nuclei_per_mm2",
    "n_tiles", "n_tiles_failed", "mpp", "qc_flags", "model", "backend", "precision", "seconds", "version",
)  # fmt: skip
"""Columns of `cohort_er.csv` after `slide_id, status, message` and the sheet's own extra columns."""
