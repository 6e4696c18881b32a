"""Lay out the tiles of one slide."""

from pathlib import Path

from ercohort.config import TileSettings
from ercohort.logs import job_log
from ercohort.slide_score import RegionChoice
from ercohort.steps.tiles import lay_out_tiles

with job_log(snakemake.log[0]):
    lay_out_tiles(
        detector_mpp=snakemake.params.detector_mpp,
        settings=TileSettings(**snakemake.params.tiles),
        regions=RegionChoice.of(snakemake.params.regions),
        folder=Path(snakemake.input.slide).parent,
    )
