"""One row for every row of the sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ercohort.files import read_json


def write_cohort_table(
    *, summaries: Sequence[str | Path], sheet: Sequence[dict[str, str]], output: str | Path
) -> None:
    """Write the cohort table: one row for every row of the sheet, in its order."""
    from ercohort.cohort import write_cohort

    rows = [{**columns, **read_json(path)["row"]} for columns, path in zip(sheet, summaries, strict=True)]
    write_cohort(output, rows)
