"""The cohort table: one row for every row of the sheet, whatever became of the slide."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ercohort.errors import InputError, Status
from ercohort.files import atomic_path, write_table
from ercohort.inert import one_line, safe_text
from ercohort.schema import CLASS_COUNT, COHORT_COLUMNS, GROUP_COLUMNS, REGION_COLUMNS
from ercohort.scoring import HIGH_PERCENT, LOW_PERCENT

if TYPE_CHECKING:
    from rich.console import RenderableType

RESEARCH_USE = "Research use only: an aid for a pathologist, not a diagnosis."

FIRST_COLUMNS = ("slide_id", "status", "message")

DECIMALS = {
    "percent_positive": 2, "ci_low": 2, "ci_high": 2, "h_score": 1, "percent_od_disagrees": 2,
    "tissue_mm2": 3, "nuclei_per_mm2": 1, "mpp": 4,
}  # fmt: skip
"""Decimals of the columns that are not whole; percentages never round onto or across a cut-off."""

PERCENTAGES = ("percent_positive", "ci_low", "ci_high")
WHOLE = (
    "n_nuclei", "n_positive", "n_negative", "n_weak", "n_moderate", "n_strong",
    "allred_proportion", "allred_intensity", "allred_total", "n_tiles", "n_tiles_failed",
    "n_slides", "n_slides_counted",
)  # fmt: skip


def make_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Arrange the slides' results as the cohort table.

    Parameters
    ----------
    rows
        One mapping for every row of the sheet, in its order: `slide_id`, `status`, `message`, the sheet's
        own columns (any name that is no column of the table) and what is known of
        `schema.COHORT_COLUMNS`.

    Returns
    -------
    The columns `slide_id, status, message`, the sheet's own columns as text in the order in which they
    first appear, then `schema.COHORT_COLUMNS` and the counts of each class (`n_class_<class>`) where a row
    has them; null where there is no value. Numbers are rounded:
    percentages to 2 decimals (a percentage beside 1 % or 10 % stays on its side: 0.999 becomes 0.99, so that
    no row contradicts its category), mm² to 3, densities to 1, mpp to 4.
    """
    return _arrange(rows, FIRST_COLUMNS, COHORT_COLUMNS)


def _arrange(rows: Sequence[Mapping[str, Any]], first: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """Arrange rows as a table: `first`, whatever else the rows hold, as text, then `columns`."""
    known = {*first, *columns}
    extra = list(dict.fromkeys(name for row in rows for name in row if name not in known))
    classes = [name for name in extra if _counts_a_class(name, rows)]
    extra = [name for name in extra if name not in classes]
    dtypes = {name: _dtype(name) for name in (*first, *extra, *columns)}
    dtypes |= dict.fromkeys(classes, pl.Int64)
    return pl.DataFrame(
        [
            pl.Series(name, [_value(name, row.get(name), dtype) for row in rows], dtype=dtype)
            for name, dtype in dtypes.items()
        ]
    )


def write_regions(
    path: str | PathLike[str], sheet: Sequence[Mapping[str, str]], summaries: Sequence[Mapping[str, Any]]
) -> None:
    """Write `cohort_er_regions.csv` and `.parquet`: one row for every slide and region.

    Parameters
    ----------
    sheet
        What the table repeats of the sheet, one mapping a slide.
    summaries
        `summary.json` of each. A slide that could not be counted has one row without a region.
    """
    rows = [
        {**columns, "status": slide["row"]["status"], **{key: region.get(key) for key in REGION_COLUMNS}}
        for columns, slide in zip(sheet, summaries, strict=True)
        for region in slide.get("regions") or [{}]
    ]
    _write(path, _arrange(rows, ("slide_id", "status"), REGION_COLUMNS))


def write_groups(path: str | PathLike[str], column: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Write `cohort_er_by_group.csv` and `.parquet`: what `pooling.pool` found for each value of `column`."""
    _write(path, _arrange(groups, (column,), GROUP_COLUMNS))


def write_cohort(path: str | PathLike[str], rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Write the cohort table as CSV (UTF-8, comma, one line per slide) and as Parquet, and return it.

    Text of the CSV cannot act in a spreadsheet: see `inert.safe_text`.
    """
    table = make_table(rows)
    _write(path, table)
    return table


def parquet_beside(path: str | PathLike[str]) -> Path:
    """Return the name of the Parquet file that holds the same rows as a CSV file."""
    return Path(path).with_suffix(".parquet")


def _write(path: str | PathLike[str], table: pl.DataFrame) -> None:
    """Write a table for people and, beside it, the same for programs: typed, with text as it was given."""
    with atomic_path(path) as temporary:
        safe_csv(table).write_csv(temporary)
    write_table(parquet_beside(path), table, dict(table.schema))


def table_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str | None]]:
    """Return the cells that `write_cohort` writes, as `read_cohort` reads them but for `borderline`."""
    written = io.BytesIO()
    safe_csv(make_table(rows)).write_csv(written)
    return pl.read_csv(written.getvalue(), infer_schema=False).rows(named=True)


def safe_csv(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose text cannot act in a spreadsheet (`inert.safe_text`), to be written as CSV."""
    text = [name for name, dtype in table.schema.items() if dtype == pl.String]
    safe = table.with_columns(pl.col(text).map_elements(safe_text, return_dtype=pl.String))
    return safe.rename({name: safe_text(name) for name in table.columns})


def read_cohort(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """Read a cohort table back, one mapping for every slide; text stays as it was written.

    Raises
    ------
    InputError
        There is no such file, or it is no cohort table.
    """
    try:
        table = pl.read_csv(Path(path), infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no cohort table ({reason}); run snakemake first") from None
    if not {*FIRST_COLUMNS, *COHORT_COLUMNS} <= set(table.columns):
        raise InputError(f"{path}: no cohort table: columns are missing; run snakemake to make one")
    booleans = {"true": True, "false": False}
    return [
        {**row, "borderline": booleans.get(row["borderline"] or "")} for row in table.iter_rows(named=True)
    ]


def require_good_slides(path: str | PathLike[str]) -> None:
    """Check that no slide of a cohort table has a bad status (`strict: true`).

    Raises
    ------
    InputError
        Names the slides that need attention.
    """
    bad = [f"{row['slide_id']} ({row['status']})" for row in read_cohort(path) if _is_bad(row)]
    if bad:
        raise InputError(
            f"strict is true and {len(bad)} slides need attention: {', '.join(bad)}; {path} is complete, "
            "its messages name the cures"
        )


def round_percent(percent: float, decimals: int = 2) -> float:
    """Round without touching or crossing a cut-off that the exact value does not touch."""
    rounded, least = round(percent, decimals), 10.0**-decimals
    for cut in (LOW_PERCENT, HIGH_PERCENT):
        if percent < cut <= rounded:
            return cut - least
        if percent > cut >= rounded:
            return cut + least
    return rounded


def _counts_a_class(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column counts a class; a column of that name in the sheet holds text and is left as it is."""
    return name.startswith(CLASS_COUNT) and all(isinstance(row.get(name), int | None) for row in rows)


def _dtype(name: str) -> Any:
    if name in WHOLE:
        return pl.Int64
    if name in DECIMALS:
        return pl.Float64
    return pl.Boolean if name in ("borderline", "counted") else pl.String


def _value(name: str, value: Any, dtype: Any) -> Any:
    """Bring one cell to its column's type; None for every way of having no value."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if name in PERCENTAGES:
        return round_percent(float(value))
    if name in DECIMALS:
        return round(float(value), DECIMALS[name])
    if dtype == pl.Int64:
        return int(value)
    return bool(value) if dtype == pl.Boolean else str(value)


def format_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Lay out the last screen of a run: a short table, and below it every slide that needs attention.

    Parameters
    ----------
    rows
        As for `make_table`.

    Returns
    -------
    Something for `rich` to print; it fits 100 columns.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in ("Slide", "Status", "Nuclei", "Positive %", "95 % interval", "ER category", "Note"):
        right = heading in ("Nuclei", "Positive %", "95 % interval")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    shown = make_table(rows).rows(named=True)
    for row in shown:
        style = "red" if _is_bad(row) else ""
        table.add_row(*(Text(one_line(cell), style=style) for cell in _screen_cells(row)))
    return Group(table, Text(), *_remarks(shown), Text(RESEARCH_USE, style="italic"))


def format_regions(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Lay out the scores of one slide's regions for a screen.

    Parameters
    ----------
    rows
        As `slide_score.score_slide` gives them.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    for heading in (
        "Region",
        "Counts",
        "Tissue mm²",
        "Nuclei",
        "Positive %",
        "95 % interval",
        "ER category",
        "Note",
    ):
        right = heading in ("Tissue mm²", "Nuclei", "Positive %", "95 % interval")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in _arrange(rows, ("region",), REGION_COLUMNS).rows(named=True):
        name, area = one_line(row["region"]), row["tissue_mm2"]
        cells = _screen_cells({**row, "slide_id": name, "message": ""})
        counts = "yes" if row["counted"] else "no"
        table.add_row(*map(Text, (name, counts, "" if area is None else f"{area:.2f}", *cells[2:])))
    return table


def _remarks(shown: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Name the slides that a person has to look at, then those whose status only needs an explanation."""
    from rich.padding import Padding
    from rich.text import Text

    bad = [row for row in shown if _is_bad(row)]
    explained = [row for row in shown if row["message"] and not _is_bad(row)]
    n_noted = sum(bool(row["borderline"] or row["qc_flags"]) for row in shown if not _is_bad(row))
    good = f"No slide failed; look at the {n_noted} with a note." if n_noted else "No slide failed."
    headline = f"{len(bad)} of {len(shown)} slides need attention:" if bad else good
    lines: list[RenderableType] = [Text(headline, style="bold red" if bad else "bold")]
    for row in [*bad, *explained]:
        status, message = (row["status"] or "no status"), row["message"] or "no message"
        remark = Text.assemble((one_line(row["slide_id"] or ""), "bold"), f" ({status}): ", one_line(message))
        lines.append(Padding(remark, (0, 0, 0, 2)))
    return lines


def table_text(rows: Sequence[Mapping[str, Any]], width: int = 110) -> str:
    """Return the last screen as plain text of `width` columns, for logs."""
    from rich.console import Console

    console = Console(width=width, color_system=None, record=False)
    with console.capture() as captured:
        console.print(format_table(rows))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _is_bad(row: Mapping[str, Any]) -> bool:
    return row["status"] is None or Status(row["status"]).is_bad


def _screen_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    percent, low, high = (row[name] for name in PERCENTAGES)
    notes = ["borderline"] if row["borderline"] else []
    notes += (row["qc_flags"] or "").replace("_", " ").split(";")
    if row["message"]:
        notes.append("see below")
    return (
        row["slide_id"] or "",
        (row["status"] or "").replace("_", " "),
        "" if row["n_nuclei"] is None else f"{row['n_nuclei']:,}",
        "" if percent is None else f"{percent:.2f}",
        "" if low is None else f"{low:.2f} - {high:.2f}",
        row["er_category"] or "",
        ", ".join(filter(None, notes)),
    )
