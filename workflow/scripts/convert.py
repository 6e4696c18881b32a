"""Turn a flat picture into a tiled slide."""

from ercohort.logs import job_log
from ercohort.steps.tissue import convert_slide

with job_log(snakemake.log[0]):
    convert_slide(
        path=snakemake.params.path,
        mpp=snakemake.params.mpp,
        slide=snakemake.output.slide,
        record=snakemake.output.record,
        expected=snakemake.params.fingerprint is not None,
    )
