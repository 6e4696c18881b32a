"""Merge the shards of one slide and count."""

from pathlib import Path

from ercohort.config import DetectSettings, QualitySettings, ScoreSettings
from ercohort.logs import job_log
from ercohort.slide_score import RegionChoice
from ercohort.steps.merge import merge_slide

with job_log(snakemake.log[0]):
    merge_slide(
        detections=list(snakemake.input.detections),
        records=list(snakemake.input.records),
        settings=DetectSettings(**snakemake.params.detect),
        scores=ScoreSettings(**snakemake.params.scores),
        quality=QualitySettings(**snakemake.params.quality),
        detector_mpp=snakemake.params.detector_mpp,
        false_positive_percent=snakemake.params.false_positive_percent,
        regions=RegionChoice.of(snakemake.params.regions),
        folder=Path(snakemake.input.slide).parent,
    )
