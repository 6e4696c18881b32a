# The sheet, the config and what the rules ask about a slide.
import os
import sys
import time
from functools import cache
from pathlib import Path

try:
    from ercohort import cohort, gone, preflight, unfinished
    from ercohort.errors import ErcohortError
    from ercohort.model import int8_sha256
    from ercohort.run_lock import RunLock
    from ercohort.slide.child import MEMORY_MB
    from ercohort.slide.convert import needs_conversion
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
# Slides are pooled where the sheet has the column that tells what belongs together.
GROUP_TABLE = (
    {
        "groups": update("results/cohort_er_by_group.csv"),
        "groups_parquet": update("results/cohort_er_by_group.parquet"),
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

INT8_SHA256 = int8_sha256(MODEL)

# What the shards of a slide are made with. Shards are temporary: where a step before `merge` failed after a
# change, nothing but these settings tells the next run that the nuclei are those of before.
SHARD_SETTINGS = {
    **CONFIG.model_dump(
        mode="json", include={"tissue", "tiles", "backend", "precision"}
    ),
    "score": CONFIG.detect.score,
    "model_sha256": MODEL.sha256,
    "int8_sha256": INT8_SHA256,
    "versions": [STEP_VERSION[step] for step in ("tissue_tiles", "detect_shard")],
}


wildcard_constraints:
    slide=r"[A-Za-z0-9][A-Za-z0-9_.-]*",


@cache
def source(slide):
    """The slide's file, looked at once; no rule's input, since results outlive a file that went away."""
    return gone.find_source(SAMPLES[slide], Path("results/slides", slide))


@cache
def regions_source(slide):
    """The file of the slide's regions, looked at once; None where the sheet names none."""
    return gone.find_regions(SAMPLES[slide], Path("results/slides", slide))


def absent_files():
    """Slides, and slides whose regions, this machine does not see."""
    regions = {slide: regions_source(slide) for slide in SAMPLES}
    return {
        "slides": [slide for slide in SAMPLES if source(slide).fingerprint is None],
        "regions": [
            slide
            for slide, found in regions.items()
            if found and found.fingerprint is None
        ],
    }


def kept_slides():
    """Slides whose results are kept though their files are not there."""
    return [
        slide
        for slide in SAMPLES
        if any(
            found and found.is_kept for found in (source(slide), regions_source(slide))
        )
    ]


@cache
def is_flat(slide):
    """Whether a slide is a flat picture, which is not read by region; looked at once."""
    found, made = source(slide), f"results/slides/{slide}/converted.tif"
    if found.is_kept or not os.path.exists(found.path):
        return os.path.exists(made)
    return needs_conversion(found.path)


@known
def readable_slide(wildcards):
    """The pyramid made from a flat picture; nothing where the slide itself is read by region."""
    flat = is_flat(wildcards.slide)
    return f"results/slides/{wildcards.slide}/converted.tif" if flat else []


@known
def conversion_record(wildcards):
    """What became of the conversion, where one is needed."""
    flat = is_flat(wildcards.slide)
    return f"results/slides/{wildcards.slide}/converted.json" if flat else []


@known
def slide_regions(wildcards):
    """Which regions count, and what changes with their file; None where all tissue counts.

    No input: Snakemake acts on some names, and a file that is missing becomes the slide's status.
    """
    found = regions_source(wildcards.slide)
    return found and {
        "file": found.path,
        "content": as_run_sees(found.fingerprint, wildcards.slide, "regions"),
        "settings": CONFIG.regions.model_dump(),
        "frame": CONFIG.geojson.frame,
    }


@known
def slide_path(wildcards):
    return source(wildcards.slide).path


@known
def slide_mpp(wildcards):
    return SAMPLES[wildcards.slide].mpp


@known
def slide_fingerprint(wildcards):
    """A slide that was replaced runs again, one that was only touched or copied does not."""
    return as_run_sees(source(wildcards.slide).fingerprint, wildcards.slide, "slides")


def as_run_sees(fingerprint, slide, kind):
    """A node of a cluster that does not see a file is told that the run does: no status comes of that."""
    if fingerprint is None and not workflow.is_main_process:
        return gone.is_seen_by_run(slide, ABSENT, kind) or None
    return fingerprint


@known
def guarded_reading(wildcards, attempt):
    """Whether a slide is read in a process of its own: where the job that read it itself has died."""
    return int(attempt > 1)


def reader_mb(mb):
    """Memory of a job that reads a slide: what sound slides take, and where that was not enough, all that the
    process may take in which it is read then. A slide that needs more than that is `unreadable`.
    """

    def memory(wildcards, attempt):
        return mb if attempt == 1 else mb + MEMORY_MB

    return known(memory)


def gpus_of_run():
    return workflow.global_resources.get("gpu").value


def engine_mb(wildcards):
    """Building an engine for a GPU takes gigabytes, compiling the network for a CPU 270 MB."""
    return 500 if CONFIG.backend == "openvino" or gpus_of_run() == 0 else 8000
