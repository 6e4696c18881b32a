"""Record what runs the detector, and build what has to be built once."""

from ercohort.logs import job_log
from ercohort.steps import prepare_engine

with job_log(snakemake.log[0]):
    prepare_engine(
        model=snakemake.input.model,
        backend=snakemake.params.backend,
        precision=snakemake.params.precision,
        output=snakemake.output[0],
    )
