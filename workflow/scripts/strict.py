"""Fail if any slide of the cohort has a bad status."""

from ercohort.cohort import require_good_slides
from ercohort.logs import job_log

with job_log(snakemake.log[0]):
    require_good_slides(snakemake.input[0])
