"""Detect the nuclei of an annotated slide down to a low score."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.steps.evaluate import find_candidates

with job_log(snakemake.log[0]):
    config = Config(**snakemake.params.config)
    find_candidates(
        source=Path(snakemake.input.slide).parent,
        truth=snakemake.input.truth,
        model=snakemake.params.model,
        engine=snakemake.input.engine,
        detect=config.detect,
        settings=config.evaluate,
        tile_px=config.tiles.tile_px,
        detector_mpp=snakemake.params.detector_mpp,
        dataset=config.dataset,
        frame=config.geojson.frame,
        gpu=snakemake.resources.get("gpu", 1),
        threads=snakemake.threads,
        folder=Path(snakemake.output[0]).parent,
    )
