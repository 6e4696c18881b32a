"""Write the QuPath file of one slide, and read it as QuPath would."""

from pathlib import Path

from ercohort.config import GeoJSONSettings
from ercohort.logs import job_log
from ercohort.steps.export import export_geojson

with job_log(snakemake.log[0]):
    export_geojson(
        settings=GeoJSONSettings(**snakemake.params.geojson),
        folder=Path(snakemake.input.slide).parent,
    )
