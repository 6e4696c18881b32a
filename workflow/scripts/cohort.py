"""Write the table of the cohort, and how it was made."""

from ercohort.config import ScoreSettings
from ercohort.logs import job_log
from ercohort.steps.cohort import write_cohort_table

with job_log(snakemake.log[0]):
    write_cohort_table(
        summaries=list(snakemake.input.summaries),
        sheet=snakemake.params.sheet,
        engine=snakemake.input.engine,
        config=snakemake.params.config,
        workflow=snakemake.scriptdir,
        table=snakemake.output.table,
        timings=snakemake.output.timings,
        record=snakemake.output.record,
        regions=snakemake.output.regions,
        groups=snakemake.output.get("groups"),
        group_by=snakemake.params.config["group_by"],
        scores=ScoreSettings(**snakemake.params.config["scores"]),
        false_positive_percent=snakemake.params.false_positive_percent,
    )
