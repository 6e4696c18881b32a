"""`timings.csv`: how long the detection of each slide took, and where it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import polars as pl

from ercohort.cohort import safe_text
from ercohort.files import atomic_path

COLUMNS: dict[str, Any] = {
    "slide_id": pl.String,
    "n_tiles": pl.Int64,
    "seconds": pl.Float64,
    "tiles_per_second": pl.Float64,
    "shards": pl.Int64,
    "host": pl.String,
    "device": pl.String,
    "started": pl.String,
    "ended": pl.String,
}


def write_timings(path: str | PathLike[str], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Write one row for every slide; times are sums over its shards, cells without a value are empty.

    Parameters
    ----------
    summaries
        `summary.json` of every slide.
    """
    table = pl.DataFrame([_row(summary) for summary in summaries], COLUMNS)
    text = [name for name, dtype in COLUMNS.items() if dtype == pl.String]
    table = table.with_columns(pl.col(text).map_elements(safe_text, return_dtype=pl.String))
    with atomic_path(path) as temporary:
        table.write_csv(temporary)


def _row(summary: Mapping[str, Any]) -> dict[str, Any]:
    shards = summary["shards"]
    ran = [shard for shard in shards if shard.get("device")]
    seconds = sum(shard["seconds"] for shard in ran)
    n_tiles = sum(shard["n_tiles"] for shard in ran)
    return {
        "slide_id": summary["row"]["slide_id"],
        "n_tiles": n_tiles if ran else None,
        "seconds": round(seconds, 1) if ran else None,
        "tiles_per_second": round(n_tiles / seconds, 1) if seconds else None,
        "shards": len(shards),
        "host": _all(ran, "host"),
        "device": _all(ran, "device"),
        "started": min((shard["started"] for shard in ran if shard.get("started")), default=None),
        "ended": max((shard["ended"] for shard in ran if shard.get("ended")), default=None),
    }


def _all(shards: Sequence[Mapping[str, Any]], name: str) -> str | None:
    return "+".join(sorted({str(shard[name]) for shard in shards if shard.get(name)})) or None
