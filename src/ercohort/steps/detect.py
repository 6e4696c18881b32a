"""From tiles to the boxes of one shard."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from ercohort import schema
from ercohort.config import DetectSettings
from ercohort.errors import ModelError, Status
from ercohort.files import read_json, write_json, write_table
from ercohort.record import SlideRecord, slide_trouble

LOGGER = logging.getLogger("ercohort")

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


def usable_threads(asked: int) -> int:
    """Threads to use: what was asked for, but no more than the processors this process may run on."""
    return max(1, min(asked, len(os.sched_getaffinity(0))))


def detect_nuclei(
    *,
    shard: int,
    model: str,
    engine: str | Path,
    settings: DetectSettings,
    tile_px: int,
    gpu: int,
    threads: int,
    folder: Path,
    detections: str | Path,
    record: str | Path,
    progress: Progress | None = None,
) -> None:
    """Detect the nuclei of one shard.

    Parameters
    ----------
    shard
        1 to the number of shards.
    engine
        `engine.json`: which backend and precision were asked for, and the detector's classes.
    gpu, threads
        GPUs and CPU threads that the job was given.
    detections, record
        Outputs: rows of `schema.DETECTIONS`, and how it went (tiles that failed, times, backend).
    """
    from ercohort.backends import choose_backend
    from ercohort.detect import detect_shard
    from ercohort.model import read_model
    from ercohort.slide import open_slide

    slide_record = SlideRecord.read(folder / "slide.json")
    prepared = read_json(engine)
    columns = schema.with_classes(schema.DETECTIONS, prepared["model"]["labels"])
    tiles = pl.read_parquet(folder / "tiles.parquet")
    mine = tiles.filter(pl.col("shard") == shard)
    table = pl.DataFrame(schema=columns)
    result: dict[str, Any] = {
        "status": Status.OK.value,
        "message": "",
        "n_tiles": 0,
        "failed": [],
        "seconds": 0.0,
    }

    def trouble(status: Status, message: str) -> None:
        result.update(status=status.value, message=message)

    with slide_trouble(folder / "slide.json", trouble):
        if len(mine) and slide_record.info and slide_record.tissue:
            choice = choose_backend(
                prepared["asked"]["backend"], gpu, precision=prepared["asked"]["precision"]
            )
            detector = read_model(model)
            if detector.sha256 != prepared["model"]["sha256"]:
                raise ModelError(f"{model}: changed since {engine} was written; run snakemake again")
            with (
                open_slide(slide_record.info.path, info=slide_record.info) as slide,
                closing(
                    choice.open(
                        detector,
                        tile_px=tile_px,
                        detect=settings,
                        threads=usable_threads(threads),
                    )
                ) as backend,
            ):
                found = detect_shard(
                    slide,
                    mine,
                    tiles,
                    backend,
                    settings=settings,
                    background=slide_record.tissue.background,
                    progress=progress or _log_progress(slide_record.slide_id),
                )
            LOGGER.info("%s: %s", slide_record.slide_id, found.stats)
            table = found.table
            result.update(found.stats)
            result["model"] = f"{detector.name}@{detector.sha256[:12]}"
    write_table(detections, table, columns)
    write_json(record, result)


def _log_progress(slide_id: str) -> Progress:
    """Tell the job's log how far a shard is, every tenth of its tiles."""

    def progress(done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            LOGGER.info("%s: %d of %d tiles", slide_id, done, total)

    return progress
