"""Detect the nuclei of one shard of a slide."""

from pathlib import Path

from ercohort.config import DetectSettings
from ercohort.logs import job_log
from ercohort.steps.detect import detect_nuclei

with job_log(snakemake.log[0]):
    shard, n_shards = map(int, snakemake.wildcards.scatteritem.split("-of-"))
    detect_nuclei(
        shard=shard,
        n_shards=n_shards,
        model=snakemake.params.model,
        engine=snakemake.input.engine,
        settings=DetectSettings(**snakemake.params.detect),
        tile_px=snakemake.params.tile_px,
        gpu=snakemake.resources.get("gpu", 1),
        threads=snakemake.threads,
        folder=Path(snakemake.input.slide).parent,
        detections=snakemake.output.detections,
        record=snakemake.output.record,
        guarded=bool(snakemake.resources.guarded),
    )
