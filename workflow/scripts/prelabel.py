"""Mark regions of one slide for a person to correct."""

from pathlib import Path

from ercohort.config import Config
from ercohort.logs import job_log
from ercohort.steps.prelabel import prelabel_slide

with job_log(snakemake.log[0]):
    prelabel_slide(
        config=Config(model=snakemake.params.model, **snakemake.params.config),
        engine=snakemake.input.get("engine") or None,
        gpu=snakemake.resources.get("gpu", 1),
        threads=snakemake.threads,
        folder=Path(snakemake.input.slide).parent,
        output=snakemake.output[0],
    )
