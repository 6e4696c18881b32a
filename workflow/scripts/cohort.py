"""Write the table of the cohort."""

from ercohort.logs import job_log
from ercohort.steps.cohort import write_cohort_table

with job_log(snakemake.log[0]):
    write_cohort_table(
        summaries=list(snakemake.input),
        sheet=snakemake.params.sheet,
        output=snakemake.output[0],
    )
