"""Compare the nuclei of the cohort with the annotated ones."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.steps.evaluate import evaluate_cohort

with job_log(snakemake.log[0]):
    config = Config(**snakemake.params.config)
    evaluate_cohort(
        candidates=Path(snakemake.output.evaluation).parent,
        truth=config.evaluate.truth,
        score=config.detect.score,
        settings=config.evaluate,
        dataset=config.dataset,
        frame=config.geojson.frame,
        folder=Path(snakemake.output.evaluation).parent,
        slide_ids=snakemake.params.slides,
    )
