"""Record what runs the detector, and build what has to be built once."""

from ercohort.config import TensorRtSettings
from ercohort.logs import job_log
from ercohort.steps.engine import prepare_engine

with job_log(snakemake.log[0]):
    prepare_engine(
        model=snakemake.params.model,
        backend=snakemake.params.backend,
        precision=snakemake.params.precision,
        output=snakemake.output[0],
        gpu=snakemake.resources.get("gpu", 1),
        tensorrt=TensorRtSettings(**snakemake.params.tensorrt),
        tile_px=snakemake.params.tile_px,
        compile_ahead=True,
    )
