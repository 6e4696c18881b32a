"""The columns of every table that ercohort writes.

All coordinates are level-0 pixels of the slide frame (OpenSlide's origin).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

POSITIVE = "Positive"
NEGATIVE = "Negative"
LABELS = (POSITIVE, NEGATIVE)
"""Classes of the default detector: the leaf names that QuPath's own scores recognise.

A detector may have others, such as Positive, Weak, Negative; its tables then hold those (`with_classes`).
"""

CLASS_COUNT = "n_class_"
"""Start of the columns of the cohort table that count one class each; the class's name follows."""

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

SCORE_COLUMNS: tuple[str, ...] = (
    "n_nuclei", "n_positive", "n_negative", "percent_positive", "ci_low", "ci_high",
    "er_category", "borderline", "n_weak", "n_moderate", "n_strong", "h_score",
    "allred_proportion", "allred_intensity", "allred_total",
)  # fmt: skip
"""What is known of any set of nuclei: a slide's, a region's, a group's."""

COHORT_COLUMNS: tuple[str, ...] = (
    "region", *SCORE_COLUMNS, "percent_od_disagrees", "tissue_mm2", "nuclei_per_mm2", "n_tiles",
    "n_tiles_failed", "mpp", "stain_vectors", "qc_flags", "model", "backend", "precision", "version",
)  # fmt: skip
"""Columns of `cohort_er.csv` after `slide_id, status, message` and the sheet's own extra columns.

Where the detector's classes are not Positive and Negative, one `n_class_<class>` for each follows them.
"""

REGION_COLUMNS: tuple[str, ...] = (
    "region", "counted", *SCORE_COLUMNS, "percent_od_disagrees", "tissue_mm2", "nuclei_per_mm2", "qc_flags",
)  # fmt: skip
"""Columns of `cohort_er_regions.csv` after `slide_id, status` and the sheet's own extra columns."""

GROUP_COLUMNS: tuple[str, ...] = (
    "n_slides", "n_slides_counted", *SCORE_COLUMNS, "tissue_mm2", "nuclei_per_mm2", "qc_flags",
)  # fmt: skip
"""Columns of `cohort_er_by_group.csv` after that of the group."""


def is_negative(label: str) -> bool:
    """Say whether a class holds the nuclei without stain: its leaf name is "negative", in any case.

    The leaf of `Tumor: Negative` is `Negative`, as in QuPath.
    """
    return label.rpartition(":")[2].strip().casefold() == NEGATIVE.casefold()


def positive_mask(labels: Iterable[str]) -> NDArray[np.bool_]:
    """Say of each class whether its nuclei count as positive, shape (classes,).

    Every class that is not the negative one does: of Positive, Weak, Negative (as in HER2) the first two.
    """
    return np.array([not is_negative(label) for label in labels], dtype=np.bool_)


def with_classes(columns: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Return the schema `NUCLEI` or `DETECTIONS` for a detector whose classes are `labels`."""
    return {**columns, "label": pl.Enum(labels)}


def class_names(dtype: Any) -> tuple[str, ...]:
    """Return the classes that a column `label` can hold, in the detector's order; text has the default's."""
    return tuple(dtype.categories) if isinstance(dtype, pl.Enum) else LABELS


def class_index(label: pl.Series) -> NDArray[np.int64]:
    """Return the class of each row as an index into `class_names(label.dtype)`, shape (n,)."""
    index = label.cast(pl.Enum(class_names(label.dtype))).to_physical()
    return index.to_numpy().astype(np.int64)
