# What happens before the first job and after the last one: the lock of the folder, retries, the last screen.


def backend_line():
    """What will run the detector; before any job starts, an error where that cannot be on this machine."""
    gpus = gpus_of_run()
    try:
        return preflight.backend_line(
            CONFIG, MODEL, gpu=gpus, local=workflow.local_exec
        )
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None


def begin():
    """Keep other runs out of this folder, before the first job; say what will run the detector."""
    if TROUBLE:
        raise SystemExit("ercohort: nothing can be written")
    try:
        warning = RUN_LOCK.take()
    except ErcohortError as error:
        raise SystemExit(f"ercohort: {error}") from None
    set_retries()
    drop_default_job_limit()
    gone.note_absent(absent_files(), ABSENT)
    print(*filter(None, [warning, backend_line()]), sep="\n", flush=True)


def set_retries():
    """Try jobs again as often as `--retries` says, if that is more than a rule's own number.

    On a cluster each job is a Snakemake of its own, in another one. They try nothing again: the run does.
    """
    for each in workflow.rules:
        each.restart_times = (
            max(each.restart_times, workflow.execution_settings.retries)
            if workflow.is_main_process
            else 0
        )


def drop_default_job_limit():
    """Take away Snakemake's default limit of jobs a second (100 in 1 s); any other that was given is kept.

    Snakemake 9.27 keeps the limit by timers that start themselves again, one more for each job: after some
    hundred jobs it looks for work without a pause, on a core that the slides could use.
    """
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def last_screen():
    """The table as a person reads it; nothing where only other files were asked for."""
    table = Path("results/cohort_er.csv")
    shown = cohort.table_text(cohort.read_cohort(table)) if table.exists() else ""
    return shown + gone.kept_line(kept_slides())


def finish():
    """End a run that went well; what to show of it."""
    RUN_LOCK.end()
    unfinished.remove_unfinished(Path("results"))
    return last_screen()


def error_screen():
    """What is known when a run ends with an error: the table, or the rows that it would have by now."""
    table = Path("results/cohort_er.csv")
    full = preflight.full_disk(Path("."))
    if table.exists() and table.stat().st_mtime > STARTED:
        shown = last_screen()
    else:
        shown = "" if full else unfinished_screen()
    return f"{shown}{full}ercohort: some steps failed; what is finished is kept, the same command goes on from there"


def unfinished_screen():
    """The rows of the slides that are finished, where this run made any."""
    made = (Path("results/slides", slide, "summary.json") for slide in SAMPLES)
    if not any(path.exists() and path.stat().st_mtime > STARTED for path in made):
        return ""
    shown = unfinished.write_unfinished(
        Path("results"), preflight.sheet_columns(SAMPLES)
    )
    return f"{shown}ercohort: these rows are in results/{unfinished.UNFINISHED}\n"
