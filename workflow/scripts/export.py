"""Write the detector as the files that the workflow runs."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.steps.export_model import export_detector

with job_log(snakemake.log[0]):
    export_detector(
        config=Config(**snakemake.params.config),
        checkpoint=snakemake.input.checkpoint,
        data=list(snakemake.input.data),
        folder=Path(snakemake.output.model).parent,
    )
