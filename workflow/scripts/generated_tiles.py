"""Make simulated and virtual IHC tiles to train on."""

from pathlib import Path

from ercohort.logs import job_log
from ercohort.steps.train import generate_tiles

# The processes that make the tiles import this file anew.
if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        generate_tiles(
            nuinsseg=snakemake.params.nuinsseg,
            n_virtual=snakemake.params.n_virtual,
            n_simulated=snakemake.params.n_simulated,
            tile_px=snakemake.params.tile_px,
            seed=snakemake.params.seed,
            processes=snakemake.threads,
            folder=Path(snakemake.output.data).parent,
        )
