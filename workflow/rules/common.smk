# The sheet, the config and what the rules ask about a slide.
import os

try:
    from ercohort import cohort, preflight
    from ercohort.errors import ErcohortError
    from ercohort.slide.convert import needs_conversion
    from ercohort.versions import STEP_VERSION
except ImportError as error:
    raise SystemExit(
        f"ercohort: {error}: this Python lacks the package; run `make setup` once, then `. .venv/bin/activate`"
    ) from None

try:
    CONFIG, SAMPLES, MODEL = preflight.check_run(config)
except ErcohortError as error:
    raise SystemExit(f"ercohort: {error}") from None

N_SHARDS = len(gather.shard("{scatteritem}"))


wildcard_constraints:
    slide=r"[A-Za-z0-9][A-Za-z0-9_.-]*",


def raw_slide(wildcards):
    """The slide file, or nothing where it is missing: a missing file is a row, not the end of the run."""
    path = SAMPLES[wildcards.slide].path
    return ancient(path) if os.path.exists(path) else []


def readable_slide(wildcards):
    """The file that is read by region: the slide itself, or the pyramid made from a flat picture."""
    path = SAMPLES[wildcards.slide].path
    if os.path.exists(path) and needs_conversion(path):
        return f"results/slides/{wildcards.slide}/converted.tif"
    return raw_slide(wildcards)


def slide_path(wildcards):
    return SAMPLES[wildcards.slide].path


def slide_mpp(wildcards):
    return SAMPLES[wildcards.slide].mpp


def slide_bytes(wildcards):
    """Size of the slide: a slide that was replaced runs again, one that was only touched does not."""
    return preflight.size_of(SAMPLES[wildcards.slide].path)


def backend_line():
    gpus = workflow.global_resources.get("gpu").value
    return preflight.backend_line(CONFIG, gpu=1 if gpus is None else gpus)


def last_screen():
    """The table as a person reads it; nothing where only other files were asked for."""
    table = "results/cohort_er.csv"
    return cohort.table_text(cohort.read_cohort(table)) if os.path.exists(table) else ""
