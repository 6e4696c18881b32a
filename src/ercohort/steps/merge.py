"""From the shards of a slide to its nuclei, each once, and its score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ercohort import __version__, schema
from ercohort.checksums import note
from ercohort.cohort import safe_text
from ercohort.config import DetectSettings, QualitySettings, ScoreSettings
from ercohort.errors import Status
from ercohort.files import atomic_path, read_json, write_json, write_table
from ercohort.record import SlideRecord, slide_trouble

if TYPE_CHECKING:
    from ercohort.slide_score import RegionChoice


def merge_slide(
    *,
    detections: Sequence[str | Path],
    records: Sequence[str | Path],
    settings: DetectSettings,
    detector_mpp: float,
    folder: Path,
    scores: ScoreSettings | None = None,
    quality: QualitySettings | None = None,
    regions: RegionChoice | None = None,
    false_positive_percent: float | None = None,
) -> None:
    """Merge the shards of a slide into `nuclei.parquet` and score it into `summary.json`.

    `failed_tiles.csv` lists the tiles that could not be read; it is empty but for its heading where all
    could. `quality` in the summary holds the number behind every flag, its threshold and whether it is
    raised.
    """
    from ercohort.merge import merge_shards, pale_to_negative
    from ercohort.quality_flags import judge_slide, qc_flags
    from ercohort.slide_score import RegionChoice, score_slide

    scores, quality = scores or ScoreSettings(), quality or QualitySettings()
    slide = SlideRecord.read(folder / "slide.json")
    shards = [read_json(path) for path in records]
    failed = sorted(tile for shard in shards for tile in shard["failed"])
    n_tiles = sum(shard["n_tiles"] for shard in shards)
    status, message = _status_before_scoring(slide, shards, len(failed), n_tiles, settings.max_failed_share)
    labels: tuple[str, ...] = schema.LABELS
    nuclei, score, scored_regions = None, None, []

    def trouble(found: Status, why: str) -> None:
        nonlocal status, message
        status, message = found, why

    with slide_trouble(folder / "slide.json", trouble):
        # A slide without nuclei has the detector's classes too.
        labels = schema.class_names(pl.read_parquet_schema(detections[0])["label"])
        if status is Status.OK and slide.tissue and slide.info:
            merged = merge_shards(
                [pl.read_parquet(path) for path in detections],
                scale=detector_mpp / slide.info.mpp,
                nms_iou=settings.nms_iou,
                seam_ios=settings.seam_ios,
            )
            if settings.min_dab_od is not None:
                merged = pale_to_negative(merged, settings.min_dab_od)
            scored = score_slide(
                merged,
                info=slide.info,
                tissue=slide.tissue,
                mask=folder / "tissue.png",
                scores=scores,
                quality=quality,
                choice=regions or RegionChoice(),
                detector_mpp=detector_mpp,
                false_positive_percent=false_positive_percent,
                n_tiles=n_tiles,
                n_tiles_failed=len(failed),
            )
            nuclei, score, scored_regions = scored.nuclei, scored.row, scored.regions
    if score is None:
        score = {"status": status.value, "message": message, "mpp": slide.info.mpp if slide.info else None}
        if slide.tissue:
            score |= {"tissue_mm2": slide.tissue.area_mm2, "n_tiles": n_tiles, "n_tiles_failed": len(failed)}
    judged = judge_slide(
        slide, score, nuclei, quality, scores, detector_mpp=detector_mpp,
        n_dropped=sum(shard.get("dropped_boxes") or 0 for shard in shards),
    )  # fmt: skip
    row = {
        "slide_id": slide.slide_id,
        **score,
        "qc_flags": qc_flags(judged),
        **_stain_column(slide),
        **_how_it_was_made(shards),
        "version": __version__,
    }
    columns = schema.with_classes(schema.NUCLEI, labels)
    write_table(
        folder / "nuclei.parquet", pl.DataFrame(schema=columns) if nuclei is None else nuclei, columns
    )
    _write_failed_tiles(folder, failed)
    made_of: dict[str, Any] = {"path": slide.path, "fingerprint": slide.fingerprint}
    if regions is not None and regions.file is not None:
        made_of["regions"] = {"path": regions.file, "fingerprint": regions.content}
    summary = {
        "row": row,
        "regions": scored_regions,
        "quality": judged,
        "slide": made_of,
        "failed_tiles": failed,
        "shards": shards,
    }
    write_json(folder / "summary.json", summary)
    note("merge", *(folder / name for name in ("nuclei.parquet", "failed_tiles.csv", "summary.json")))


def _stain_column(slide: SlideRecord) -> dict[str, str]:
    """Say with which stain vectors the optical densities were measured."""
    return {} if slide.tissue is None else {"stain_vectors": slide.tissue.stain.summary()}


def _write_failed_tiles(folder: Path, failed: list[list[Any]]) -> None:
    """Write where the tiles lie that could not be read: `x`, `y` in level-0 pixels of the slide frame."""
    columns = {"tile_id": pl.Int32, "x": pl.Int32, "y": pl.Int32, "message": pl.String}
    rows = [(tile_id, x, y, safe_text(why)) for tile_id, x, y, why in failed]
    with atomic_path(folder / "failed_tiles.csv") as temporary:
        pl.DataFrame(rows, columns, orient="row").write_csv(temporary)


def _status_before_scoring(
    slide: SlideRecord, shards: list[dict[str, Any]], n_failed: int, n_tiles: int, max_failed_share: float
) -> tuple[Status, str]:
    """Find what keeps a slide from being scored: its status, a shard's, or too many tiles that failed."""
    if slide.status is not Status.OK:
        return slide.status, slide.message
    for shard in shards:
        if shard["status"] != Status.OK:
            return Status(shard["status"]), shard["message"]
    if n_tiles and (n_failed == n_tiles or n_failed > max_failed_share * n_tiles):
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
    return columns
