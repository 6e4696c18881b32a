"""Version of each step's results.

Snakemake sees a step's version as a parameter and runs the step again when it changes. Raise a number in
the same commit that changes what the step writes; nothing else (a touched file, a pulled branch) makes a
step run again.
"""

STEP_VERSION: dict[str, int] = {
    "engine": 4,
    "convert": 1,
    "tissue_tiles": 4,
    "detect_shard": 2,
    "merge": 7,
    "geojson_overlay": 3,
    "cohort": 5,
    "checksums": 1,
    "report": 3,
    "prelabel": 1,
    "dataset": 1,
    "generated_tiles": 1,
    "train": 1,
    "export": 1,
    "candidates": 1,
    "evaluate": 1,
}
