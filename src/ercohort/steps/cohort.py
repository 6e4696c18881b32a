"""One row for every row of the sheet, and how the rows were made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ercohort.checksums import note
from ercohort.config import ScoreSettings
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
    regions: str | Path,
    groups: str | Path | None = None,
    group_by: str | None = None,
    scores: ScoreSettings | None = None,
    false_positive_percent: float | None = None,
) -> None:
    """Write the cohort's tables: one row for every row of the sheet, in its order; one for every region.

    Parameters
    ----------
    summaries
        `summary.json` of every slide, in the order of the sheet.
    sheet
        What the table repeats of the sheet.
    engine, config, workflow
        `engine.json`, all settings and a folder of the workflow, for the record.
    table, timings, record, regions
        Outputs: `cohort_er.csv`, `timings.csv`, `run.json` and `cohort_er_regions.csv`. Beside each table
        of scores comes the same as Parquet.
    groups, group_by
        Output `cohort_er_by_group.csv`, where slides are pooled by the sheet's column `group_by`.
    scores, false_positive_percent
        As for a slide's own score.
    """
    from ercohort.cohort import parquet_beside, write_cohort, write_groups, write_regions
    from ercohort.pooling import pool
    from ercohort.provenance import describe_run
    from ercohort.timings import write_timings

    slides = [read_json(path) for path in summaries]
    rows = [{**columns, **slide["row"]} for columns, slide in zip(sheet, slides, strict=True)]
    write_cohort(table, rows)
    write_regions(regions, sheet, slides)
    written = [table, regions]
    if groups is not None and group_by is not None:
        pooled = pool(
            rows, group_by, settings=scores or ScoreSettings(), false_positive_percent=false_positive_percent
        )
        write_groups(groups, group_by, pooled)
        written.append(groups)
    write_timings(timings, slides)
    made = describe_run(
        summaries=slides,
        engine=read_json(engine),
        config=config,
        workflow=Path(workflow),
    )
    write_json(record, made)
    note("cohort", *written, *map(parquet_beside, written), timings, record)
