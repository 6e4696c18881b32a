"""Write the QuPath file of one slide, read it as QuPath would, and draw the pictures."""

from pathlib import Path

from ercohort.config import GeoJSONSettings, ScoreSettings
from ercohort.logs import job_log
from ercohort.slide_score import RegionChoice
from ercohort.steps.export import draw_pictures, export_geojson

with job_log(snakemake.log[0]):
    folder = Path(snakemake.input.slide).parent
    export_geojson(settings=GeoJSONSettings(**snakemake.params.geojson), folder=folder)
    draw_pictures(
        folder=folder,
        guarded=bool(snakemake.resources.guarded),
        regions=RegionChoice.of(snakemake.params.regions),
        scores=ScoreSettings(**snakemake.params.scores),
        min_dab_od=snakemake.params.min_dab_od,
    )
