# The sheet, the config and what the rules ask about a slide.
import os
import time
from pathlib import Path

try:
    from ercohort import cohort, preflight
    from ercohort.errors import ErcohortError
    from ercohort.run_lock import RunLock
    from ercohort.slide.convert import needs_conversion
    from ercohort.slide.fingerprint import fingerprint
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
RUN_LOCK = RunLock()


wildcard_constraints:
    slide=r"[A-Za-z0-9][A-Za-z0-9_.-]*",


def raw_slide(wildcards):
    """The slide file, or nothing where it is missing: a missing file is a row, not the end of the run.

    Nothing either where Snakemake would act on the name: a step takes the path from its params.
    """
    path = SAMPLES[wildcards.slide].path
    listed = os.path.exists(path) and preflight.can_be_input(path)
    return ancient(path) if listed else []


def readable_slide(wildcards):
    """The file that is read by region: the slide itself, or the pyramid made from a flat picture."""
    path = SAMPLES[wildcards.slide].path
    if os.path.exists(path) and needs_conversion(path):
        return f"results/slides/{wildcards.slide}/converted.tif"
    return raw_slide(wildcards)


def conversion_record(wildcards):
    """What became of the conversion, where one is needed."""
    slide = readable_slide(wildcards)
    return (
        f"results/slides/{wildcards.slide}/converted.json"
        if slide and slide.endswith("converted.tif")
        else []
    )


def slide_path(wildcards):
    return SAMPLES[wildcards.slide].path


def slide_mpp(wildcards):
    return SAMPLES[wildcards.slide].mpp


def slide_fingerprint(wildcards):
    """A slide that was replaced runs again, one that was only touched or copied does not."""
    return fingerprint(SAMPLES[wildcards.slide].path)


def backend_line():
    """What will run the detector; before any job starts, an error where that cannot be on this machine."""
    gpus = workflow.global_resources.get("gpu").value
    try:
        return preflight.backend_line(
            CONFIG, MODEL, gpu=1 if gpus is None else gpus, local=workflow.local_exec
        )
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None


def begin():
    """Keep other runs out of this folder, before the first job; say what will run the detector."""
    try:
        warning = RUN_LOCK.take()
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None
    print(*filter(None, [warning, backend_line()]), sep="\n", flush=True)


def last_screen():
    """The table as a person reads it; nothing where only other files were asked for."""
    table = Path("results/cohort_er.csv")
    return cohort.table_text(cohort.read_cohort(table)) if table.exists() else ""


def error_screen():
    """What is known when a run ends with an error: the table, if this run came as far as to write it."""
    table = Path("results/cohort_er.csv")
    shown = last_screen() if table.exists() and table.stat().st_mtime > STARTED else ""
    return f"{shown}ercohort: some steps failed; what is finished is kept, the same command goes on from there"
