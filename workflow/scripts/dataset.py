"""Make the training set from the corrected labels."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.sheet import read_sheet
from ercohort.steps.dataset import build_labelled_dataset

with job_log(snakemake.log[0]):
    build_labelled_dataset(
        config=Config(**snakemake.params.config),
        samples=read_sheet(snakemake.params.sheet),
        labels=Path(snakemake.params.config["dataset"]["labels"]),
        output=Path(snakemake.output.data).parent,
        readable=snakemake.params.readable,
    )
