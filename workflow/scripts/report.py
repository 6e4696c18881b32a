"""Write the report of the cohort."""

from pathlib import Path

from ercohort.logs import job_log
from ercohort.steps.report import write_report

with job_log(snakemake.log[0]):
    write_report(
        results=Path(snakemake.input.table).parent,
        sheet=snakemake.params.sheet,
        page=snakemake.output.page,
        plot=snakemake.output.plot,
        examples=snakemake.output.examples,
    )
