"""Draw the pictures of one slide."""

from pathlib import Path

from ercohort.logs import job_log
from ercohort.steps.export import draw_pictures

with job_log(snakemake.log[0]):
    draw_pictures(folder=Path(snakemake.input.slide).parent)
