"""The detector against annotated nuclei: all candidates of a slide, then the figures of the cohort."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort import schema
from ercohort.annotated import Frame, load_annotated, read_geojson_truth
from ercohort.config import DatasetSettings, DetectSettings, EvaluateSettings
from ercohort.files import atomic_path, write_table
from ercohort.points import find_truth, is_geojson
from ercohort.record import SlideRecord
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.merge import merge_slide

LOGGER = logging.getLogger("ercohort")

MARGIN_UM = 50.0
"""Tiles this near to an annotated region are run too: what they find can settle a seam inside it."""


def find_candidates(
    *,
    source: Path,
    truth: str | Path,
    model: str,
    engine: str | Path,
    detect: DetectSettings,
    settings: EvaluateSettings,
    tile_px: int,
    detector_mpp: float,
    dataset: DatasetSettings,
    frame: Frame,
    gpu: int,
    threads: int,
    folder: Path,
) -> None:
    """Detect a slide's nuclei from `evaluate.lowest_score` on, where it is annotated.

    Parameters
    ----------
    source
        The slide's folder of the run, with `slide.json` and `tiles.parquet`.
    truth
        The slide's truth: a file, or the folder of all truth.
    engine
        `engine.json`: which backend and precision were asked for.
    dataset, frame
        How the classes and coordinates of QuPath files are read.
    gpu, threads
        GPUs and CPU threads that the job was given.
    folder
        Gets `slide.json`, `tiles.parquet`, `nuclei.parquet` and `summary.json`, as a run leaves them.
        Nuclei above `detect.score` are those of a run, except where a less sure one decides a seam.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "slide.json") as temporary:
        shutil.copyfile(source / "slide.json", temporary)
    tiles = pl.read_parquet(source / "tiles.parquet")
    regions = _regions(source, truth, dataset, frame)
    if regions is not None and len(tiles):
        tiles = tiles.filter(touches(tiles, regions))
    LOGGER.info("%s: %d tiles hold annotated nuclei", source.name, len(tiles))
    write_table(folder / "tiles.parquet", tiles, schema.TILES)
    lowered = detect.model_copy(update={"score": min(detect.score, settings.lowest_score)})
    shard, record = folder / "shard.parquet", folder / "shard.json"
    detect_nuclei(
        shard=1, model=model, engine=engine, settings=lowered, tile_px=tile_px, gpu=gpu, threads=threads,
        folder=folder, detections=shard, record=record,
    )  # fmt: skip
    merge_slide(
        detections=[shard], records=[record], settings=lowered, detector_mpp=detector_mpp, folder=folder
    )
    shard.unlink()
    record.unlink()


def _regions(
    source: Path, truth: str | Path, dataset: DatasetSettings, frame: Frame
) -> NDArray[np.float64] | None:
    """Return the annotated rectangles, (R, 4); None where all of the slide may be annotated."""
    found, info = find_truth(truth), SlideRecord.read(source / "slide.json").info
    own = found.get(source.name) or (next(iter(found.values())) if Path(truth).is_file() else None)
    if own is None or info is None or not is_geojson(own.points):
        return None
    return read_geojson_truth(own.points, info, dataset, frame)[1] + MARGIN_UM / info.mpp * _OUTWARDS


_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])


def touches(tiles: pl.DataFrame, rectangles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which tiles have a core that overlaps a rectangle, (N,)."""
    cores = tiles.select("core_x0", "core_y0", "core_x1", "core_y1").to_numpy()[:, None]
    overlap = (cores[..., :2] < rectangles[:, 2:]) & (cores[..., 2:] > rectangles[:, :2])
    return np.asarray(np.any(overlap[..., 0] & overlap[..., 1], axis=1))


def evaluate_cohort(
    *,
    candidates: Path,
    truth: str | Path,
    score: float,
    settings: EvaluateSettings,
    dataset: DatasetSettings,
    frame: Frame,
    folder: Path,
    slide_ids: Collection[str] | None = None,
) -> None:
    """Compare what `find_candidates` left in `candidates/slides/<id>/` with the truth.

    Parameters
    ----------
    score
        The operating point, `detect.score`.
    folder
        Gets `evaluation.json`, `slides.csv`, `report.txt`, `agreement.png`, `curve.png`, `froc.png` and
        `worst_fields.jpg`.
    slide_ids
        Slides of this run; what earlier ones left of others is passed over. None takes all.

    Raises
    ------
    InputError
        See `annotated.load_annotated`.
    """
    from ercohort.evaluate import evaluate_slides
    from ercohort.evaluation_output import write_outputs

    annotated = load_annotated(candidates, truth, dataset=dataset, frame=frame, slide_ids=slide_ids)
    evaluation = evaluate_slides(
        annotated,
        radius_um=settings.radius_um,
        score=score,
        curve_from=min(settings.lowest_score, score),
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )
    write_outputs(folder, evaluation, annotated)
