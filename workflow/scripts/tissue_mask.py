"""Probe a slide and find its tissue."""

from pathlib import Path

from ercohort.config import TissueSettings
from ercohort.logs import job_log
from ercohort.steps.tissue import mask_tissue

with job_log(snakemake.log[0]):
    mask_tissue(
        slide_id=snakemake.wildcards.slide,
        path=snakemake.params.path,
        readable=snakemake.input.get("slide") or snakemake.params.path,
        conversion=snakemake.input.get("conversion") or None,
        mpp=snakemake.params.mpp,
        expected=snakemake.params.fingerprint is not None,
        settings=TissueSettings(**snakemake.params.tissue),
        folder=Path(snakemake.output.slide).parent,
    )
