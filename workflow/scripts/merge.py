"""Merge the shards of one slide and count."""

from pathlib import Path

from ercohort.config import DetectSettings
from ercohort.logs import job_log
from ercohort.steps.merge import merge_slide

with job_log(snakemake.log[0]):
    merge_slide(
        detections=list(snakemake.input.detections),
        records=list(snakemake.input.records),
        settings=DetectSettings(**snakemake.params.detect),
        detector_mpp=snakemake.params.detector_mpp,
        folder=Path(snakemake.input.slide).parent,
    )
