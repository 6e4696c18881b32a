"""What `ercohort verify` finds in the folder of one slide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ercohort.errors import GeoJSONError
from ercohort.schema import class_names, positive_mask
from ercohort.slide.fingerprint import fingerprint
from ercohort.verify_file import Slide, again, describe_change, read_json_or_none

SCORED = ("ok", "partial", "no_nuclei")
_OWN_FOLDERS = ("checksums", "shards")


def check_slide(
    slide: Slide, row: Mapping[str, Any] | None, results: Path, notes: list[str]
) -> Iterator[str]:
    """Yield what is wrong with one slide's files.

    Parameters
    ----------
    row
        Of the table; taken only where `summary.json` has no row that can be trusted.
    results
        The results folder: a relative path of a slide file begins beside it.
    """
    if not slide.folder.is_dir():
        yield f"{slide.folder}: is missing; run the same snakemake command again"
        return
    summary = read_json_or_none(slide.folder / "summary.json")
    trusted = isinstance(summary, dict) and (row is None or not describe_change(slide.files["summary.json"]))
    if trusted:
        row = _with_regions_apart(summary)
    # The table's row of a slide with regions lacks the nuclei of those that stand apart.
    complete = trusted or (row or {}).get("region") == "tissue"
    wrong = _wrong_counts(slide, row, with_nuclei=complete) if row else {}
    for name, seen in slide.files.items():
        said = ", ".join(filter(None, (describe_change(seen), wrong.get(name))))
        if said:
            yield f"{seen.path}: {said}; {again(seen.path)}"
    yield from _wrong_slide_file(read_json_or_none(slide.folder / "slide.json"), results)
    strays = sorted(
        path.name
        for path in slide.folder.iterdir()
        if path.name not in slide.files and path.name not in _OWN_FOLDERS
    )
    if strays:
        more = f" and {len(strays) - 1:,} more" if len(strays) > 1 else ""
        notes.append(f"{slide.folder / strays[0]}{more}: written by no step, not checked")


def _with_regions_apart(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the slide's row with the nuclei of regions that do not count in it, as the files hold both."""
    row, regions = summary.get("row"), summary.get("regions")
    if not isinstance(row, dict) or not isinstance(regions, list):
        return row
    apart = [region for region in regions if isinstance(region, dict) and region.get("counted") is False]
    names = ("n_nuclei", "n_positive") if apart else ()
    sums = {name: sum(_number(part, name) or 0 for part in (row, *apart)) for name in names}
    return {**row, **sums}


def _wrong_counts(slide: Slide, row: Mapping[str, Any], *, with_nuclei: bool) -> dict[str, str]:
    """Compare what files hold with the slide's row; what differs, by file name."""
    wrong: dict[str, str] = {}

    def look(name: str, check: Callable[[], str]) -> None:
        if slide.files[name].found is not None:
            said = check()
            if said:
                wrong[name] = said

    if with_nuclei:
        n_nuclei = _number(row, "n_nuclei") or 0
        look("nuclei.parquet", lambda: _nuclei(slide.folder / "nuclei.parquet", row, n_nuclei))
        look("nuclei.geojson.zip", lambda: _features(slide, n_nuclei))
    if row.get("status") in SCORED:
        look("tiles.parquet", lambda: _tiles(slide.folder / "tiles.parquet", _number(row, "n_tiles")))
    return wrong


def _number(row: Mapping[str, Any], column: str) -> int | None:
    """Return a count of a row; None where there is none, -1 where the cell holds something else."""
    value = row.get(column)
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def _nuclei(path: Path, row: Mapping[str, Any], n_nuclei: int) -> str:
    try:
        counted = pl.scan_parquet(path).group_by("label").len().collect()
    except (OSError, pl.exceptions.PolarsError):
        return "cannot be read"
    labels = class_names(counted.schema["label"])
    positive = dict(zip(labels, positive_mask(labels), strict=True))
    by_label = dict(counted.iter_rows())
    total = sum(by_label.values())
    n_positive = sum(n for label, n in by_label.items() if positive.get(label))
    if total != n_nuclei:
        return f"holds {total:,} nuclei, the slide's row says {n_nuclei:,}"
    if n_positive != (_number(row, "n_positive") or 0):
        return (
            f"holds {n_positive:,} positive nuclei, the slide's row says {_number(row, 'n_positive') or 0:,}"
        )
    return ""


def _tiles(path: Path, n_tiles: int | None) -> str:
    try:
        n = pl.scan_parquet(path).select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError):
        return "cannot be read"
    return "" if n == (n_tiles or 0) else f"holds {n:,} tiles, the slide's row says {n_tiles or 0:,}"


def _features(slide: Slide, n_nuclei: int) -> str:
    """Count the nuclei of the QuPath file: as noted when it was read back, if it is that file still."""
    from ercohort.geojson_validate import validate_geojson

    seen = slide.files["nuclei.geojson.zip"]
    if seen.noted and seen.noted.n_features is not None and seen.as_noted:
        n = seen.noted.n_features
    else:
        try:
            n = validate_geojson(seen.path).n_features
        except (OSError, GeoJSONError):
            return "QuPath would not open it"
    return "" if n == n_nuclei else f"holds {n:,} nuclei, the slide's row says {n_nuclei:,}"


def _wrong_slide_file(record: Any, results: Path) -> Iterator[str]:
    """Compare the slide file with its fingerprint, where it can still be found."""
    if not isinstance(record, dict) or "fingerprint" not in record:
        return
    given = Path(str(record["path"]))
    now = fingerprint(str(given)) or fingerprint(str(results.absolute().parent / given))
    if now is not None and now != record["fingerprint"]:
        change = "was changed after" if record["fingerprint"] else "was not there when"
        yield (
            f"{given}: {change} slide {record['slide_id']} was counted; the same snakemake command counts it "
            "anew"
        )
