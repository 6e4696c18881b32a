"""One row for every row of the sheet, and how the rows were made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ercohort.checksums import note
from ercohort.files import read_json, write_json


def write_cohort_table(
    *,
    summaries: Sequence[str | Path],
    sheet: Sequence[dict[str, str]],
    engine: str | Path,
    config: dict[str, Any],
    workflow: str | Path,
    table: str | Path,
    timings: str | Path,
    record: str | Path,
) -> None:
    """Write the cohort table: one row for every row of the sheet, in its order.

    Parameters
    ----------
    summaries
        `summary.json` of every slide, in the order of the sheet.
    sheet
        What the table repeats of the sheet.
    engine, config, workflow
        `engine.json`, all settings and a folder of the workflow, for the record.
    table, timings, record
        Outputs: `cohort_er.csv`, `timings.csv` and `run.json`.
    """
    from ercohort.cohort import write_cohort
    from ercohort.provenance import describe_run
    from ercohort.timings import write_timings

    slides = [read_json(path) for path in summaries]
    write_cohort(table, [{**columns, **slide["row"]} for columns, slide in zip(sheet, slides, strict=True)])
    write_timings(timings, slides)
    made = describe_run(
        summaries=slides,
        engine=read_json(engine),
        config=config,
        workflow=Path(workflow),
    )
    write_json(record, made)
    note("cohort", table, timings, record)
