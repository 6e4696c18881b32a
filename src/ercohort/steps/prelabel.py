"""From a slide to a file of regions and nuclei that a person corrects in QuPath."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ercohort.config import Config
from ercohort.errors import GeoJSONError, InputError, ModelError, Status
from ercohort.files import atomic_path, read_json
from ercohort.record import SlideRecord, slide_trouble
from ercohort.steps.detect import usable_threads

if TYPE_CHECKING:
    from ercohort.labels.prelabel import ModelFinder, Prelabels

LOGGER = logging.getLogger("ercohort")


def prelabel_slide(
    *,
    config: Config,
    engine: str | Path | None,
    gpu: int,
    threads: int,
    folder: Path,
    output: str | Path,
) -> None:
    """Pick regions of a slide, find their nuclei, and write both as GeoJSON for QuPath.

    A slide with a bad status, and one that turns out to be bad here, gives a valid file without objects and a
    line in the log.

    Parameters
    ----------
    config
        `prelabel`, `tissue.margin_um` and `geojson.frame`; `model`, `tiles` and `detect` of the detector.
    engine
        `engine.json`, as `prepare_engine` wrote it; None for the classical finder, which needs no model.
    gpu, threads
        GPUs and CPU threads that the job was given.
    folder
        The slide's folder: `slide.json` and `tissue.png`, and `nuclei.parquet` where the uncertain regions
        are asked for.
    output
        The `.geojson` to write.

    Raises
    ------
    InputError
        `nuclei.parquet` is needed and not there.
    ModelError, BackendError
        The detector, or what runs it, cannot be used.
    GeoJSONError
        QuPath would refuse the file.
    """
    from ercohort.labels.prelabel import no_prelabels

    record = SlideRecord.read(folder / "slide.json")
    finder = _model_finder(config, engine, gpu, threads) if config.prelabel.finder == "model" else None
    nuclei = _known_nuclei(folder) if config.prelabel.choose == "uncertain" else None
    found, status = no_prelabels(), record.status

    def trouble(why: Status, message: str) -> None:
        nonlocal status
        status = why
        LOGGER.warning("%s: no regions, the slide is %s: %s", record.slide_id, why, message)

    with slide_trouble(folder / "slide.json", trouble):
        if record.status is Status.OK:
            found = _prelabel(record, config, finder, nuclei, folder)
        else:
            trouble(record.status, record.message)
    _write(found, record, status, config, Path(output))


def _model_finder(config: Config, engine: str | Path | None, gpu: int, threads: int) -> ModelFinder:
    from ercohort.backends import choose_prepared
    from ercohort.labels.prelabel import ModelFinder
    from ercohort.model import read_model

    if engine is None:
        raise ModelError("prelabel.finder is `model`, and there is no engine.json; set it to `classical`")
    prepared = read_json(engine)
    model = read_model(config.model)
    if model.sha256 != prepared["model"]["sha256"]:
        raise ModelError(f"{config.model}: changed since {engine} was written; run snakemake again")
    choice = choose_prepared(prepared, gpu, model, config.tiles.tile_px)
    return ModelFinder(model, choice, config.tiles, config.detect, usable_threads(threads))


def _known_nuclei(folder: Path) -> pl.DataFrame:
    path = folder / "nuclei.parquet"
    if not path.exists():
        raise InputError(
            f"{path}: no such file, and prelabel.choose is `uncertain`; run the workflow on the slide first, "
            "or set prelabel.choose to `random`"
        )
    return pl.read_parquet(path)


def _prelabel(
    record: SlideRecord, config: Config, finder: ModelFinder | None, nuclei: pl.DataFrame | None, folder: Path
) -> Prelabels:
    from ercohort.labels.prelabel import find_by_stain
    from ercohort.labels.regions import pick_regions
    from ercohort.slide import open_slide
    from ercohort.tissue import load_tissue_mask

    if record.info is None or record.tissue is None:
        raise InputError(f"{folder / 'slide.json'}: is ok but not whole; delete it, and run again")
    mask = load_tissue_mask(folder / "tissue.png", margin=True)
    regions = pick_regions(
        mask,
        record.tissue,
        record.info,
        config.prelabel,
        slide_id=record.slide_id,
        margin_um=config.tissue.margin_um,
        nuclei=nuclei,
        least_score=config.detect.score,
    )
    if len(regions) < config.prelabel.regions:
        LOGGER.warning(
            "%s: only %d of %d regions fit; a smaller prelabel.region_um gives more",
            record.slide_id, len(regions), config.prelabel.regions,
        )  # fmt: skip
    with open_slide(record.info.path, info=record.info) as slide:
        if finder is None:
            return find_by_stain(slide, regions, record.tissue)
        return finder.find(slide, regions, record.tissue, mask.shape)


def _write(found: Prelabels, record: SlideRecord, status: Status, config: Config, output: Path) -> None:
    """Write the file, and read it as QuPath would before it gets its name."""
    from ercohort.geojson_validate import validate_geojson
    from ercohort.labels.region_file import write_regions

    with atomic_path(output) as temporary:
        n_written = write_regions(
            temporary,
            found.regions,
            found.nuclei,
            slide_id=record.slide_id,
            info=record.info,
            frame=config.geojson.frame,
            made={"status": status.value, **config.prelabel.model_dump(), "model": found.model},
        )
        try:
            report = validate_geojson(temporary)
        except GeoJSONError as error:  # the file a person looks for has the final name
            raise GeoJSONError(str(error).replace(str(temporary), str(output))) from None
        if report.n_features != n_written:
            raise GeoJSONError(f"{output}: {n_written} objects written, {report.n_features} read; report it")
    LOGGER.info("%s: %d regions, %d nuclei", record.slide_id, len(found.regions), len(found.nuclei))
