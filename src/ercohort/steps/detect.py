"""From tiles to the boxes of one shard."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ercohort import schema
from ercohort.config import DetectSettings
from ercohort.errors import MachineError, ModelError, Status
from ercohort.files import read_json, write_json, write_table
from ercohort.provenance import utc_now
from ercohort.record import SlideRecord, TissueRecord, slide_trouble

if TYPE_CHECKING:
    from ercohort.backends import BackendChoice
    from ercohort.detect import ShardResult
    from ercohort.model import ModelInfo
    from ercohort.slide import Slide
    from ercohort.watch import Watch

LOGGER = logging.getLogger("ercohort")

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


def usable_threads(asked: int) -> int:
    """Threads to use: what was asked for, but no more than the processors this process may run on."""
    return max(1, min(asked, len(os.sched_getaffinity(0))))


def detect_nuclei(
    *,
    shard: int,
    n_shards: int = 1,
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
    guarded: bool = False,
) -> None:
    """Detect the nuclei of one shard.

    A job that stands still ends itself (`watch.Watch`).

    Parameters
    ----------
    shard, n_shards
        1 to the number of shards, and that number.
    engine
        `engine.json`: which backend and precision were asked for, and the detector's classes.
    gpu, threads
        GPUs and CPU threads that the job was given.
    detections, record
        Outputs: rows of `schema.DETECTIONS`, and how it went (tiles that failed, times, host, backend;
        `model` is there without tiles too; `fallback` says why it was not run as it was meant to be).
    guarded
        Read the slide in a child process: a tile that crashes or blocks the reader is then one that failed.
    """
    from ercohort.backends import choose_backend, choose_prepared
    from ercohort.model import read_model
    from ercohort.slide.guarded import open_reader
    from ercohort.tiles import split
    from ercohort.watch import Watch

    slide_record = SlideRecord.read(folder / "slide.json")
    prepared = read_json(engine)
    columns = schema.with_classes(schema.DETECTIONS, prepared["model"]["labels"])
    tiles = split(pl.read_parquet(folder / "tiles.parquet"), n_shards)
    mine = tiles.filter(pl.col("shard") == shard)
    table = pl.DataFrame(schema=columns)
    result: dict[str, Any] = {
        "status": Status.OK.value,
        "message": "",
        "n_tiles": 0,
        "failed": [],
        "seconds": 0.0,
        "fallback": None,
        "model": "{name}@{sha256:.12}".format(**prepared["model"]),
        "host": platform.node(),
        "started": utc_now(),
    }

    def trouble(status: Status, message: str) -> None:
        if status is Status.MISSING:  # it was there for the mask: a share went away
            raise MachineError(f"{message}; or mount its share, and run the same command again")
        result.update(status=status.value, message=message)

    with slide_trouble(folder / "slide.json", trouble):
        if len(mine) and slide_record.info and slide_record.tissue:
            detector = read_model(model)
            if detector.sha256 != prepared["model"]["sha256"]:
                raise ModelError(f"{model}: changed since {engine} was written; run snakemake again")
            with (
                Watch(f"{slide_record.slide_id}, shard {shard}") as watch,
                open_reader(slide_record.info, guarded=guarded) as slide,
            ):
                job = _Job(
                    slide,
                    mine,
                    tiles,
                    detector,
                    settings,
                    tile_px,
                    usable_threads(threads),
                    slide_record.tissue,
                    _watched(progress or _log_progress(slide_record.slide_id), watch),
                )
                found, result["fallback"] = _run_where_it_fits(
                    job.run,
                    choose_prepared(prepared, gpu, detector, tile_px),
                    prepared["asked"]["tensorrt"]["batch"],
                    lambda: choose_backend(
                        "openvino", precision=prepared["asked"]["precision"], model=detector
                    ),
                )
            if found.stats["failed"] and not os.path.exists(slide_record.info.path):
                raise MachineError(
                    f"{slide_record.info.path}: it went away while it was read; mount its share or put it "
                    "back, and run the same command again"
                )
            _log_stats(slide_record.slide_id, found.stats)
            table = found.table
            result.update(found.stats)
    write_table(detections, table, columns)
    write_json(record, {**result, "ended": utc_now()})


def _watched(progress: Progress, watch: Watch) -> Progress:
    def beat(done: int, total: int) -> None:
        watch.beat()
        progress(done, total)

    return beat


@dataclass(frozen=True)
class _Job:
    """A shard, to be run on one backend or another."""

    slide: Slide
    tiles: pl.DataFrame
    all_tiles: pl.DataFrame
    detector: ModelInfo
    settings: DetectSettings
    tile_px: int
    threads: int
    tissue: TissueRecord
    progress: Progress

    def run(self, choice: BackendChoice, batch: int | None) -> ShardResult:
        """Run it from its beginning, in batches of so many tiles; None leaves that to the backend."""
        from ercohort.detect import detect_shard

        opened = choice.open(
            self.detector, tile_px=self.tile_px, detect=self.settings, threads=self.threads, batch=batch
        )
        with closing(opened) as backend:
            return detect_shard(
                self.slide,
                self.tiles,
                self.all_tiles,
                backend,
                settings=self.settings,
                background=self.tissue.background,
                vectors=self.tissue.stain,
                progress=self.progress,
            )


def _run_where_it_fits(
    run: Callable[[BackendChoice, int | None], ShardResult],
    choice: BackendChoice,
    batch: int,
    choose_cpu: Callable[[], BackendChoice],
) -> tuple[ShardResult, str | None]:
    """Run a shard; where the GPU's memory is too small, with ever smaller batches, and at last on the CPU.

    Parameters
    ----------
    run
        Runs the shard from its beginning, with the batch that `BackendChoice.open` is given.
    batch
        What the first run has, tiles: the settings'.

    Returns
    -------
    What `run` returned, and why it was not the first choice; None if it was.
    """
    from ercohort.gpu.device import GpuMemoryError

    smaller: int | None = None
    why = None
    while True:
        try:
            return run(choice, smaller), why
        except GpuMemoryError as error:
            reason = str(error)
        if batch > 1:
            batch = smaller = batch // 2
            why = f"{reason}: run in batches of {batch}"
        else:
            choice, smaller = choose_cpu(), None
            why = f"{reason}: run on the CPU"
        LOGGER.warning("%s", why)


def _log_stats(slide_id: str, stats: dict[str, Any]) -> None:
    """Tell the job's log how a shard went: how fast, and where the time went."""
    LOGGER.info(
        "%s: %d tiles in %.1f s, %.1f tiles/s, on %s (%s, %s), which was busy for %.0f %% of the time",
        slide_id,
        stats["n_tiles"],
        stats["seconds"],
        stats["tiles_per_second"],
        stats["device"],
        stats["backend"],
        stats["precision"],
        100 * stats["busy_share"],
    )
    shares = (
        f"{name} {seconds:.2f} s ({100 * stats['shares'][name]:.0f} %)"
        for name, seconds in stats["stages"].items()
    )
    LOGGER.info("%s: %s", slide_id, ", ".join(shares))
    if "device_stages" in stats:
        on_device = (f"{name} {seconds:.2f} s" for name, seconds in stats["device_stages"].items())
        LOGGER.info(
            "%s: on the device: %s; batches of %d on %d streams, %.0f MB at the peak",
            slide_id,
            ", ".join(on_device),
            stats["batch"],
            stats["streams"],
            stats["peak_device_bytes"] / 1e6,
        )


def _log_progress(slide_id: str) -> Progress:
    """Tell the job's log how far a shard is, every tenth of its tiles."""

    def progress(done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            LOGGER.info("%s: %d of %d tiles", slide_id, done, total)

    return progress
