"""Probe a slide, find its tissue and lay out its tiles."""

from pathlib import Path

from ercohort.config import StainSettings, TileSettings, TissueSettings
from ercohort.logs import job_log
from ercohort.slide_score import RegionChoice
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import mask_tissue

with job_log(snakemake.log[0]):
    given = snakemake.params
    folder = Path(snakemake.output.slide).parent
    regions = RegionChoice.of(given.regions)
    mask_tissue(
        slide_id=snakemake.wildcards.slide,
        path=given.path,
        readable=snakemake.input.get("slide") or given.path,
        conversion=snakemake.input.get("conversion") or None,
        mpp=given.mpp,
        expected=given.fingerprint is not None,
        settings=TissueSettings(**given.tissue),
        stain=StainSettings(**given.stain),
        regions=regions,
        folder=folder,
    )
    lay_out_tiles(
        detector_mpp=given.detector_mpp,
        settings=TileSettings(**given.tiles),
        regions=regions,
        folder=folder,
    )
