"""What the report says of each slide, gathered from the files of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ercohort.cohort import make_table
from ercohort.errors import InputError, Status
from ercohort.files import read_json
from ercohort.quality_flags import explain
from ercohort.schema import COHORT_COLUMNS, GROUP_COLUMNS

PICTURES = {
    "overlay.jpg": "What was counted: tissue, regions and nuclei",
    "fields.jpg": "Fields to look at first, at full resolution",
    "heatmap.png": "Where the positive nuclei are",
    "od_histogram.png": "How strongly the nuclei are stained",
}
"""Titles of the pictures, in the order in which they are shown; others follow under their file's name."""

NOT_SHOWN = frozenset({"tissue.png", "thumbnail.jpg"})

FILES = {
    "nuclei.geojson.zip": "every nucleus, for QuPath",
    "nuclei.parquet": "every nucleus, as a table",
    "summary.json": "scores, failed tiles and times",
    "slide.json": "the slide as it was opened",
}

COHORT_FILES = {
    "cohort_er.csv": "one row for each slide",
    "cohort_er.parquet": "the same for programs",
    "cohort_er_regions.csv": "one row for each region",
    "cohort_er_regions.parquet": "the same for programs",
    "cohort_er_by_group.csv": "slides of a patient or group pooled",
    "cohort_er_by_group.parquet": "the same for programs",
    "timings.csv": "how long each slide took",
    "run.json": "how the table was made",
}

PICTURE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(jpg|png)")


def collect_report(results: Path, sheet: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Gather what the report shows.

    Parameters
    ----------
    results
        The folder that a run wrote.
    sheet
        For every row of the sheet, `slide_id` and the sheet's own columns.

    Returns
    -------
    What JSON can hold: `columns` (the sheet's own), `slides` (those that need attention first, each group in
    the sheet's order), `groups` (rows of `cohort_er_by_group`, where slides are pooled), `files` of the
    cohort, and `run`: how the table was made, where `run.json` says so.

    Raises
    ------
    InputError
        A slide has no `summary.json`.
    """
    summaries = [_summary(results, columns["slide_id"]) for columns in sheet]
    rows = [{**columns, **summary["row"]} for columns, summary in zip(sheet, summaries, strict=True)]
    table = make_table(rows).rows(named=True)
    regions = _regions(summaries)
    slides = [
        _slide(results, row, summary, own)
        for row, summary, own in zip(table, summaries, regions, strict=True)
    ]
    own = dict.fromkeys(name for columns in sheet for name in columns if name != "slide_id")
    return {
        "columns": list(own),
        "slides": sorted(slides, key=_good),
        "groups": _groups(results, own),
        "files": _present(results, COHORT_FILES),
        "run": read_json(results / "run.json") if (results / "run.json").is_file() else None,
    }


def _good(slide: Mapping[str, Any]) -> bool:
    return not slide["bad"]


def _summary(results: Path, slide_id: str) -> dict[str, Any]:
    path = results / "slides" / slide_id / "summary.json"
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run snakemake to make it") from None


def _slide(
    results: Path, row: dict[str, Any], summary: Mapping[str, Any], regions: list[dict[str, Any]]
) -> dict[str, Any]:
    folder = results / "slides" / row["slide_id"]
    record = read_json(folder / "slide.json") if (folder / "slide.json").is_file() else {}
    return {
        "id": row["slide_id"],
        "bad": row["status"] is None or Status(row["status"]).is_bad,
        "row": _known(row),
        "regions": regions,
        "pictures": _pictures(folder),
        "files": _present(folder, FILES),
        "simulated": is_simulated(
            results, record.get("path") or "", stated=bool((record.get("info") or {}).get("simulated"))
        ),
        "slide": _opened(record),
        "shards": [_known(shard) for shard in summary.get("shards") or []],
        "flags": explain(summary.get("quality") or {}),
        "n_failed": len(summary.get("failed_tiles") or []),
    }


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what has no value: a thousand slides are to load at once."""
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def _regions(summaries: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """Scores of each slide's regions, rounded as in the table."""
    found = [summary.get("regions") or [] for summary in summaries]
    names = {*COHORT_COLUMNS, "status"}
    rows = [
        {name: value for name, value in region.items() if name in names} for own in found for region in own
    ]
    rounded = iter(make_table(rows).rows(named=True))
    return [
        [_known({**next(rounded), "counted": region.get("counted", True)}) for region in own] for own in found
    ]


def _groups(results: Path, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows of the pooled table; None where slides are not pooled, or no longer."""
    path = results / "cohort_er_by_group.parquet"
    if not path.is_file():
        return None
    table = pl.read_parquet(path)
    column = table.columns[0]
    if column not in own:
        return None
    names = [column, *(name for name in GROUP_COLUMNS if name in table.columns)]
    return {"column": column, "rows": [_known(row) for row in table.select(names).iter_rows(named=True)]}


def _opened(record: Mapping[str, Any]) -> dict[str, Any]:
    info = record.get("info") or {}
    names = ("vendor", "width", "height", "mpp", "mpp_source", "reader", "file_bytes")
    return _known({"path": record.get("path"), **{name: info.get(name) for name in names}})


def _pictures(folder: Path) -> list[dict[str, str]]:
    try:
        names = {path.name for path in folder.iterdir()} - NOT_SHOWN
    except OSError:
        return []
    first = [name for name in PICTURES if name in names]
    others = sorted(name for name in names - PICTURES.keys() if PICTURE_NAME.fullmatch(name))
    return [{"file": name, "title": PICTURES.get(name, name)} for name in (*first, *others)]


def _present(folder: Path, known: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"file": name, "title": title} for name, title in known.items() if (folder / name).is_file()]


def is_simulated(results: Path, path: str, *, stated: bool) -> bool:
    """Say whether a slide was made by the simulator.

    Its file says so (`stated`); of an earlier version's, the table of its planted nuclei beside it does.
    """
    truth = Path(path).with_suffix(".truth.parquet") if Path(path).name else None
    return stated or (truth is not None and (truth.is_file() or (results.parent / truth).is_file()))
