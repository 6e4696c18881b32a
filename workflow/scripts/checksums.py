"""Collect the checksums of all files that the run wrote."""

from pathlib import Path

from ercohort.checksums import collect
from ercohort.logs import job_log

with job_log(snakemake.log[0]):
    collect(Path(snakemake.output[0]).parent, snakemake.params.slides)
