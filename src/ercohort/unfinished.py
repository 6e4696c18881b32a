"""What is known of a cohort when its run ends before the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ercohort.cohort import make_table, safe_csv, table_text
from ercohort.errors import Status
from ercohort.files import atomic_path, read_json

UNFINISHED = "cohort_er_unfinished.csv"

NOT_DONE = "not finished: a step of it failed, or was not reached; the same command goes on from there"


def write_unfinished(results: Path, sheet: Sequence[Mapping[str, str]]) -> str:
    """Write the rows of the slides that are finished, and say of the others that they are not.

    `cohort_er.csv` stays as it is: that is the table of a run that came to its end.

    Parameters
    ----------
    results
        The results folder; gets `cohort_er_unfinished.csv`, with the columns of `cohort_er.csv`.
    sheet
        For every row of the sheet `slide_id` and the sheet's own columns.

    Returns
    -------
    The table as a person reads it; empty, and no file, where no slide is finished.
    """
    rows = [{**columns, **_row(results, columns["slide_id"])} for columns in sheet]
    if all(row["message"] == NOT_DONE for row in rows):
        return ""
    with atomic_path(results / UNFINISHED) as temporary:
        safe_csv(make_table(rows)).write_csv(temporary)
    return table_text(rows)


def _row(results: Path, slide_id: str) -> dict[str, Any]:
    try:
        row = read_json(results / "slides" / slide_id / "summary.json")["row"]
        return {"message": None, **row, "slide_id": slide_id}
    except (OSError, ValueError, KeyError, TypeError):
        return {"slide_id": slide_id, "status": Status.FAILED.value, "message": NOT_DONE}


def remove_unfinished(results: Path) -> None:
    """Take the unfinished table away: a run has come to its end."""
    (results / UNFINISHED).unlink(missing_ok=True)
