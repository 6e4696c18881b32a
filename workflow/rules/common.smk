# The sheet, the config and what the rules ask about a slide.
import gc
import os
import sys
import time
from functools import cache
from pathlib import Path

try:
    from ercohort import cohort, gone, preflight
    from ercohort.errors import ErcohortError
    from ercohort.run_lock import RunLock
    from ercohort.slide.convert import needs_conversion
    from ercohort.slide.fingerprint import content_hash
    from ercohort.versions import STEP_VERSION
except ImportError as error:
    raise SystemExit(
        f"ercohort: {error}: this Python lacks the package; run `make setup` once, then `. .venv/bin/activate`"
    ) from None

try:
    CONFIG, SAMPLES, MODEL = preflight.check_run(
        config,
        sources=[os.path.relpath(file) for file in workflow.configfiles],
        root=Path(workflow.basedir),
    )
except ErcohortError as error:
    raise SystemExit(f"ercohort: {error}") from None

STARTED = time.time()
# The jobs of a thousand slides are millions of objects that stay; looking through them again and again is a
# tenth of the time that planning takes.
gc.set_threshold(200_000, 50, 100)
# Slides are pooled where the sheet has the column that tells what belongs together.
GROUP_TABLE = (
    {
        "groups": "results/cohort_er_by_group.csv",
        "groups_parquet": "results/cohort_er_by_group.parquet",
    }
    if any(CONFIG.group_by in sample.extra for sample in SAMPLES.values())
    else {}
)
RUN_LOCK = RunLock()
ABSENT = Path(".snakemake/ercohort/absent.json")
TROUBLE = preflight.results_trouble(Path("results"))
if workflow.is_main_process:
    for line in filter(None, [TROUBLE or RUN_LOCK.recover(Path("results"))]):
        print(f"ercohort: {line}", file=sys.stderr)

# What the shards of a slide are made with. Shards are temporary: where a step before `merge` failed after a
# change, nothing but these settings tells the next run that the nuclei are those of before.
SHARD_SETTINGS = {
    **CONFIG.model_dump(
        mode="json", include={"tissue", "tiles", "backend", "precision"}
    ),
    "score": CONFIG.detect.score,
    "model_sha256": MODEL.sha256,
    "versions": [STEP_VERSION[step] for step in ("tissue_tiles", "detect_shard")],
}


wildcard_constraints:
    slide=r"[A-Za-z0-9][A-Za-z0-9_.-]*",


@cache
def source(slide):
    """The slide's file, looked at once; no rule's input, since results outlive a file that went away."""
    return gone.find_source(SAMPLES[slide], Path("results/slides", slide))


@cache
def is_flat(slide):
    """Whether a slide is a flat picture, which is not read by region; looked at once."""
    path, made = source(slide).path, f"results/slides/{slide}/converted.tif"
    return needs_conversion(path) if os.path.exists(path) else os.path.exists(made)


def readable_slide(wildcards):
    """The pyramid made from a flat picture; nothing where the slide itself is read by region."""
    flat = is_flat(wildcards.slide)
    return f"results/slides/{wildcards.slide}/converted.tif" if flat else []


def conversion_record(wildcards):
    """What became of the conversion, where one is needed."""
    flat = is_flat(wildcards.slide)
    return f"results/slides/{wildcards.slide}/converted.json" if flat else []


def slide_regions(wildcards):
    """Which regions count, and what changes with their file; None where all tissue counts.

    No input: Snakemake acts on some names, and a file that is missing becomes the slide's status.
    """
    path = SAMPLES[wildcards.slide].roi
    return path and {
        "file": path,
        "content": content_hash(path),
        "settings": CONFIG.regions.model_dump(),
        "frame": CONFIG.geojson.frame,
    }


def slide_path(wildcards):
    return source(wildcards.slide).path


def slide_mpp(wildcards):
    return SAMPLES[wildcards.slide].mpp


def slide_fingerprint(wildcards):
    """A slide that was replaced runs again, one that was only touched or copied does not.

    A node of a cluster that does not see the slide is told that the run does: no status comes of that.
    """
    found = source(wildcards.slide).fingerprint
    if found is None and not workflow.is_main_process:
        found = gone.is_seen_by_run(wildcards.slide, ABSENT) or None
    return found


def guarded_reading(wildcards, attempt):
    """Whether a slide is read in a process of its own: where the job that read it itself has died."""
    return int(attempt > 1)


def gpus_of_run():
    return workflow.global_resources.get("gpu").value


def engine_mb(wildcards):
    """Building an engine for a GPU takes gigabytes, noting the CPU next to nothing."""
    return 500 if CONFIG.backend == "openvino" or gpus_of_run() == 0 else 8000
