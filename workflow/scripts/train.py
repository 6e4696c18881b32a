"""Train the detector, or go on where it was interrupted."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.steps.train import train_detector

with job_log(snakemake.log[0]):
    config = Config(**snakemake.params.config)
    found = config.train.model_copy(update={"base": snakemake.input.get("base") or None})
    train_detector(
        config=config.model_copy(update={"train": found}),
        data=list(snakemake.input.data),
        folder=Path(snakemake.output.checkpoint).parent,
        threads=snakemake.threads,
    )
