"""The whole path of one slide by hand, without Snakemake: `ercohort run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ercohort.config import Config
from ercohort.errors import InputError
from ercohort.files import read_json
from ercohort.model import read_model
from ercohort.sheet import SLIDE_ID
from ercohort.slide_score import RegionChoice
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.engine import prepare_engine
from ercohort.steps.export import draw_pictures, export_geojson
from ercohort.steps.merge import merge_slide
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import convert_slide, mask_tissue

Report = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


@dataclass(frozen=True)
class SlideRun:
    """What `run_slide` made: the slide's folder, its row of the cohort table, and those of its regions."""

    folder: Path
    row: dict[str, Any]
    regions: list[dict[str, Any]]


def run_slide(
    path: str,
    out: Path,
    config: Config,
    *,
    mpp: float | None,
    gpu: int,
    report: Report,
    roi: str | None = None,
) -> SlideRun:
    """Take one slide from its file to its row, through the same steps as the workflow.

    Parameters
    ----------
    path
        The slide file or DICOM folder.
    out
        Folder that gets the files which the workflow writes to `results/slides/{slide}/`.
    mpp
        µm per pixel; None if the file is to be believed.
    gpu
        0 for the CPU.
    roi
        QuPath file of the regions that count; None: all tissue does.
    report
        Told of every step and, while nuclei are detected, of every tile.

    Raises
    ------
    InputError
        The file's name makes no slide id, or there is no file of that name for the regions.
    """
    from ercohort.slide.convert import needs_conversion

    slide_id = _slide_id(path)
    if roi is not None and not os.path.isfile(roi):
        raise InputError(f"{roi}: no such file; give the GeoJSON that QuPath exported of the slide's regions")
    detector = read_model(config.model)
    threads = len(os.sched_getaffinity(0))
    out.mkdir(parents=True, exist_ok=True)
    engine, shard, shard_record = out / "engine.json", out / "shard.parquet", out / "shard.json"
    prepare_engine(
        model=config.model,
        backend=config.backend,
        precision=config.precision,
        output=engine,
        gpu=gpu,
        tensorrt=config.tensorrt,
        tile_px=config.tiles.tile_px,
    )
    report("tissue", 0, 1)
    readable = path
    conversion: Path | None = None
    if needs_conversion(path) and os.path.exists(path):
        readable, conversion = str(out / "converted.tif"), out / "converted.json"
        convert_slide(path=path, mpp=mpp, slide=readable, record=conversion)
    regions = RegionChoice(roi, config.regions, config.geojson.frame)
    mask_tissue(
        slide_id=slide_id,
        path=path,
        readable=readable,
        conversion=conversion,
        mpp=mpp,
        settings=config.tissue,
        stain=config.stain,
        folder=out,
        regions=regions,
    )
    report("tiles", 0, 1)
    lay_out_tiles(detector_mpp=detector.mpp, settings=config.tiles, folder=out, regions=regions)
    detect_nuclei(
        shard=1,
        model=config.model,
        engine=engine,
        settings=config.detect,
        tile_px=config.tiles.tile_px,
        gpu=gpu,
        threads=threads,
        folder=out,
        detections=shard,
        record=shard_record,
        progress=lambda done, total: report("nuclei", done, total),
    )
    report("merge", 0, 1)
    merge_slide(
        detections=[shard],
        records=[shard_record],
        settings=config.detect,
        scores=config.scores,
        quality=config.quality,
        regions=regions,
        detector_mpp=detector.mpp,
        false_positive_percent=detector.false_positive_percent,
        folder=out,
    )
    shard.unlink()
    shard_record.unlink()
    report("QuPath file", 0, 1)
    export_geojson(settings=config.geojson, folder=out)
    report("pictures", 0, 1)
    draw_pictures(folder=out, regions=regions, scores=config.scores, min_dab_od=config.detect.min_dab_od)
    summary = read_json(out / "summary.json")
    return SlideRun(out, summary["row"], summary["regions"])


def _slide_id(path: str) -> str:
    stem = Path(path).absolute().stem
    if not SLIDE_ID.fullmatch(stem):
        cleaned = "".join(letter if SLIDE_ID.fullmatch("a" + letter) else "_" for letter in stem).lstrip(
            "_.-"
        )
        if not cleaned:
            raise InputError(f"{path}: its name makes no slide id; rename the file with letters or digits")
        return cleaned
    return stem
