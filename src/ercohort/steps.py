"""The body of every rule: files in, files out.

A step reads what earlier steps left in the slide's folder, calls the module that does the work, and writes
its outputs under their final names only when they are whole. A slide with a bad status passes through all
steps and leaves valid, empty outputs, so that every row of the sheet becomes a row of the table.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from ercohort import __version__, schema
from ercohort.config import DetectSettings, GeoJSONSettings, TileSettings, TissueSettings
from ercohort.errors import GeoJSONError, SlideError, Status
from ercohort.files import atomic_path, read_json, write_json, write_table
from ercohort.record import SlideRecord, TissueRecord, slide_trouble
from ercohort.slide import SlideInfo

LOGGER = logging.getLogger("ercohort")

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


def usable_threads(asked: int) -> int:
    """Threads to use: what was asked for, but no more than the processors this process may run on."""
    return max(1, min(asked, len(os.sched_getaffinity(0))))


def prepare_engine(*, model: str, backend: str, precision: str, output: str | Path) -> None:
    """Choose what runs the detector and record it, with the model's identity, in `engine.json`."""
    from ercohort.backends import choose_backend
    from ercohort.model import read_model

    detector = read_model(model)
    choice = choose_backend(backend, 1, precision=precision)
    LOGGER.info("%s", choice.reason)
    write_json(
        output,
        {
            "asked": {"backend": backend, "precision": precision},
            **choice.to_dict(),
            "model": detector.to_dict(),
            "version": __version__,
        },
    )


def convert_slide(*, path: str, mpp: float | None, slide: str | Path, record: str | Path) -> None:
    """Turn a flat picture into a tiled slide; a picture that cannot be turned leaves an empty file."""
    from ercohort.slide.convert import convert

    result = {"status": Status.OK.value, "message": ""}

    def trouble(status: Status, message: str) -> None:
        result.update(status=status.value, message=message)
        with atomic_path(slide) as temporary:
            temporary.touch()

    with slide_trouble("convert", trouble):
        convert(path, slide, mpp=mpp)
    write_json(record, result)


def mask_tissue(
    *,
    slide_id: str,
    path: str,
    readable: str | None,
    mpp: float | None,
    settings: TissueSettings,
    folder: Path,
) -> None:
    """Open a slide and find its tissue; every way in which a slide can be bad ends here as a status.

    Parameters
    ----------
    slide_id, path, mpp
        The slide's row in the sheet.
    readable
        The file that is read by region: `path`, or the pyramid made from it; None where it is missing.
    folder
        The slide's folder; gets `slide.json`, `tissue.png` and `thumbnail.jpg`.
    """
    from ercohort import tissue
    from ercohort.slide import open_slide
    from ercohort.slide.probe import probe

    record = SlideRecord(slide_id, path, Status.OK)
    found: tissue.Tissue | None = None

    def trouble(status: Status, message: str) -> None:
        nonlocal record
        record = replace(record, status=status, message=message)

    with slide_trouble("tissue_mask", trouble):
        info = probe(_readable(path, readable), mpp=mpp)
        record = replace(record, info=info)
        with open_slide(info.path, info=info) as slide:
            found = tissue.find_tissue(slide, settings)
        measured = TissueRecord(found.downsample_x, found.downsample_y, found.background, found.area_mm2)
        record = replace(record, tissue=measured)
        if not found.mask.any():
            raise SlideError(
                Status.NO_TISSUE,
                "only glass was found; if there is tissue, lower tissue.min_od in the config",
            )
    tissue.save_tissue(found or tissue.no_tissue(), folder / "tissue.png", folder / "thumbnail.jpg")
    record.write(folder / "slide.json")


def _readable(path: str, readable: str | None) -> str:
    if readable is None:
        raise SlideError(
            Status.MISSING, f"{path}: no such file; correct the path in the sheet, or put it there"
        )
    conversion = Path(readable).with_suffix(".json")
    if readable != path and conversion.exists():
        result = read_json(conversion)
        if result["status"] != Status.OK:
            raise SlideError(Status(result["status"]), result["message"])
    return readable


def lay_out_tiles(*, detector_mpp: float, n_shards: int, settings: TileSettings, folder: Path) -> None:
    """Write `tiles.parquet`: the tiles whose core touches tissue; none for a slide with a bad status."""
    from ercohort.tiles import make_tiles
    from ercohort.tissue import load_tissue_mask

    record = SlideRecord.read(folder / "slide.json")
    tiles = pl.DataFrame(schema=schema.TILES)
    if record.status is Status.OK and record.info and record.tissue:
        tiles = make_tiles(
            width=record.info.width,
            height=record.info.height,
            bounds=record.info.bounds,
            slide_mpp=record.info.mpp,
            detector_mpp=detector_mpp,
            settings=settings,
            mask=load_tissue_mask(folder / "tissue.png"),
            downsample_x=record.tissue.downsample_x,
            downsample_y=record.tissue.downsample_y,
            n_shards=n_shards,
        )
    LOGGER.info("%s: %d tiles in %d shards", record.slide_id, len(tiles), n_shards)
    write_table(folder / "tiles.parquet", tiles, schema.TILES)


def detect_nuclei(
    *,
    shard: int,
    model: str,
    engine: str | Path,
    settings: DetectSettings,
    tile_settings: TileSettings,
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
        `engine.json`: which backend and precision were asked for.
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
    tiles = pl.read_parquet(folder / "tiles.parquet")
    mine = tiles.filter(pl.col("shard") == shard)
    table = pl.DataFrame(schema=schema.DETECTIONS)
    result: dict[str, Any] = {
        "status": Status.OK.value,
        "message": "",
        "n_tiles": 0,
        "failed": [],
        "seconds": 0.0,
    }

    def trouble(status: Status, message: str) -> None:
        result.update(status=status.value, message=message)

    with slide_trouble("detect_shard", trouble):
        if len(mine) and slide_record.info and slide_record.tissue:
            asked = read_json(engine)["asked"]
            choice = choose_backend(asked["backend"], gpu, precision=asked["precision"])
            detector = read_model(model)
            with (
                open_slide(slide_record.info.path, info=slide_record.info) as slide,
                closing(
                    choice.open(
                        detector,
                        tile_px=tile_settings.tile_px,
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
    write_table(detections, table, schema.DETECTIONS)
    write_json(record, result)


def _log_progress(slide_id: str) -> Progress:
    """Tell the job's log how far a shard is, every tenth of its tiles."""

    def progress(done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            LOGGER.info("%s: %d of %d tiles", slide_id, done, total)

    return progress


def merge_slide(
    *,
    detections: Sequence[str | Path],
    records: Sequence[str | Path],
    settings: DetectSettings,
    detector_mpp: float,
    folder: Path,
) -> None:
    """Merge the shards of a slide into `nuclei.parquet` and score it into `summary.json`."""
    from ercohort.merge import merge_shards
    from ercohort.scoring import summarise

    slide = SlideRecord.read(folder / "slide.json")
    shards = [read_json(path) for path in records]
    failed = [tile for shard in shards for tile in shard["failed"]]
    n_tiles = sum(shard["n_tiles"] for shard in shards)
    nuclei = merge_shards(
        [pl.read_parquet(path) for path in detections],
        scale=detector_mpp / slide.info.mpp if slide.info else 1.0,
        nms_iou=settings.nms_iou,
        seam_ios=settings.seam_ios,
    )
    status, message = _status_before_scoring(slide, shards, len(failed), n_tiles, settings.max_failed_share)
    if status is Status.OK and slide.tissue and slide.info:
        score = summarise(
            nuclei,
            tissue_mm2=slide.tissue.area_mm2,
            mpp=slide.info.mpp,
            detector_mpp=detector_mpp,
            n_tiles=n_tiles,
            n_tiles_failed=len(failed),
        )
    else:
        nuclei = nuclei.clear()
        score = {"status": status.value, "message": message, "mpp": slide.info.mpp if slide.info else None}
        if slide.tissue:
            score |= {"tissue_mm2": slide.tissue.area_mm2, "n_tiles": n_tiles, "n_tiles_failed": len(failed)}
    row = {
        "slide_id": slide.slide_id,
        **score,
        **_how_it_was_made(shards),
        "version": __version__,
    }
    write_table(folder / "nuclei.parquet", nuclei, schema.NUCLEI)
    write_json(folder / "summary.json", {"row": row, "failed_tiles": failed, "shards": shards})


def _status_before_scoring(
    slide: SlideRecord, shards: list[dict[str, Any]], n_failed: int, n_tiles: int, max_failed_share: float
) -> tuple[Status, str]:
    """Find what keeps a slide from being scored: its status, a shard's, or too many tiles that failed."""
    if slide.status is not Status.OK:
        return slide.status, slide.message
    for shard in shards:
        if shard["status"] != Status.OK:
            return Status(shard["status"]), shard["message"]
    if n_failed > max_failed_share * n_tiles:
        return Status.UNREADABLE, (
            f"{n_failed:,} of {n_tiles:,} tiles could not be read, more than detect.max_failed_share allows; "
            "copy the slide again from the scanner"
        )
    return Status.OK, ""


def _how_it_was_made(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns that say what made the row; a column is `a+b` where shards ran on different backends."""
    columns: dict[str, Any] = {}
    for name in ("model", "backend", "precision"):
        values = sorted({str(shard[name]) for shard in shards if shard.get(name)})
        columns[name] = "+".join(values) or None
    seconds = sum(shard["seconds"] for shard in shards)
    columns["seconds"] = seconds or None
    return columns


def export_geojson(*, settings: GeoJSONSettings, folder: Path) -> None:
    """Write `nuclei.geojson.zip`, and read it as QuPath would before it gets its name."""
    from ercohort.geojson import write_geojson
    from ercohort.geojson_validate import validate_geojson

    slide = SlideRecord.read(folder / "slide.json")
    with atomic_path(folder / "nuclei.geojson.zip") as temporary:
        n_written = write_geojson(
            folder / "nuclei.parquet",
            temporary,
            slide_id=slide.slide_id,
            info=slide.info or _never_opened(slide.path),
            settings=settings,
        )
        report = validate_geojson(temporary)
        if report.n_features != n_written:
            raise GeoJSONError(
                f"{folder}: {n_written} nuclei were written as GeoJSON, {report.n_features} read back"
            )
    LOGGER.info("%s: %d features in %d files", slide.slide_id, report.n_features, report.n_files)


def _never_opened(path: str) -> SlideInfo:
    """Return the description of a slide that has no nuclei to place, because it could not be opened."""
    return SlideInfo(
        path=path,
        vendor="",
        width=0,
        height=0,
        mpp=1.0,
        mpp_source="",
        level_dimensions=(),
        level_downsamples=(),
        bounds=(0, 0, 0, 0),
        has_bounds=False,
        background=(255, 255, 255),
        reader="",
        file_bytes=0,
    )


def draw_pictures(*, folder: Path) -> None:
    """Draw `overlay.jpg` and `heatmap.png`; for a slide that could not be counted, cards that say why."""
    from ercohort import pictures
    from ercohort.slide import open_slide
    from ercohort.tissue import load_tissue_mask

    slide = SlideRecord.read(folder / "slide.json")
    row = read_json(folder / "summary.json")["row"]
    overlay, heatmap = folder / "overlay.jpg", folder / "heatmap.png"
    if slide.info is None or slide.tissue is None:
        for path in (overlay, heatmap):
            pictures.write_card(path, slide_id=slide.slide_id, status=row["status"], message=row["message"])
        return
    nuclei = pl.read_parquet(folder / "nuclei.parquet")
    mask = load_tissue_mask(folder / "tissue.png")
    with open_slide(slide.info.path, info=slide.info) as pixels:
        pictures.write_overlay(overlay, slide=pixels, nuclei=nuclei, mask=mask, row=row)
    pictures.write_heatmap(heatmap, info=slide.info, nuclei=nuclei, mask=mask, row=row)


def write_cohort_table(
    *, summaries: Sequence[str | Path], sheet: Sequence[dict[str, str]], output: str | Path
) -> None:
    """Write the cohort table: one row for every row of the sheet, in its order."""
    from ercohort.cohort import write_cohort

    rows = [{**columns, **read_json(path)["row"]} for columns, path in zip(sheet, summaries, strict=True)]
    write_cohort(output, rows)
