"""What `ercohort verify` finds in the cohort table and in `run.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ercohort.checksums import checksum
from ercohort.cohort import FIRST_COLUMNS, one_line, read_cohort, table_cells
from ercohort.errors import InputError
from ercohort.schema import CLASS_COUNT, COHORT_COLUMNS
from ercohort.verify_file import Seen, Slide, again, describe_change, read_json_or_none

Row = dict[str, Any]


def check_record(results: Path, seen: Seen, notes: list[str]) -> Iterator[str]:
    """Yield what is wrong with `run.json`, but for an edit; note whether the sheet is still the same."""
    record = read_json_or_none(seen.path)
    if seen.found is None and not seen.expected:
        yield (
            f"{seen.path}: is missing: the run did not finish, or an older ercohort made it; "
            "run the same snakemake command again"
        )
    elif not isinstance(record, dict):
        if not describe_change(seen):
            yield f"{seen.path}: cannot be read; {again(results / 'cohort_er.csv')}"
    elif isinstance(sheet := record.get("sheet"), dict):
        path = Path(str(sheet.get("path")))
        if path.is_file() and sheet.get("sha256") not in (None, checksum(path).sha256):
            notes.append(f"{path}: the sheet was changed after the table was written")


def check_table(
    results: Path,
    slides: Sequence[Slide],
    seen: Seen,
    problems: list[str],
    notes: list[str],
) -> dict[str, Row]:
    """Compare the table with the summaries of its slides.

    Returns
    -------
    The rows by slide id; empty where the table cannot be read.
    """
    table = results / "cohort_er.csv"
    change = describe_change(seen)
    try:
        rows = {str(row["slide_id"]): row for row in read_cohort(table)}
    except InputError as error:
        problems.append(f"{table}: {change}; {again(table)}" if change else f"{error}; {again(table)}")
        return {}
    folders = {slide.slide_id: slide.folder for slide in slides}
    differing = _first_difference(rows, slides)
    if change or differing:
        problems.append(f"{table}: {', '.join(filter(None, (change, differing)))}; {again(table)}")
    for name in rows:
        if name not in folders:
            problems.append(
                f"{results / 'slides' / one_line(name)}: is missing, and {table} has a row of it; "
                "run the same snakemake command again"
            )
    for name, folder in folders.items():
        if name not in rows:
            notes.append(f"{folder}: is of no slide in the table; left from another sheet?")
    return rows


def _first_difference(rows: Mapping[str, Row], slides: Sequence[Slide]) -> str:
    """Say where the table differs from the slides' summaries; empty if nowhere."""
    differing = []
    for cells in table_cells(_summary_rows(rows, slides)):
        row = rows[str(cells["slide_id"])]
        for column, value in cells.items():
            named = column in FIRST_COLUMNS or column in COHORT_COLUMNS or column.startswith(CLASS_COUNT)
            if named and _shown(row.get(column)) != _shown(value):
                differing.append(
                    f"{column} of {cells['slide_id']} is {_shown(row.get(column))}, "
                    f"where its summary.json has {_shown(value)}"
                )
    more = f" (and {len(differing) - 1:,} cells more)" if len(differing) > 1 else ""
    return f"{differing[0]}{more}" if differing else ""


def _summary_rows(rows: Mapping[str, Row], slides: Sequence[Slide]) -> list[Row]:
    """Return the rows of the summaries that are as they were written."""
    found = []
    for slide in slides:
        if slide.slide_id in rows and not describe_change(slide.files["summary.json"]):
            summary = read_json_or_none(slide.folder / "summary.json")
            row = summary.get("row") if isinstance(summary, dict) else None
            if isinstance(row, dict) and row.get("slide_id") == slide.slide_id:
                found.append(row)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value in (None, "") else one_line(str(value))[:80]
