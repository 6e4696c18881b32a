"""The sample sheet: which slides make the cohort.

A tab-separated file with a header. `slide_id` and `path` are required; `mpp` overrides what the file says;
`roi` names a QuPath file of the regions that count; every other column is carried into the cohort table as it
stands. Lines that start with `#` are comments.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ercohort.errors import InputError
from ercohort.files import read_text
from ercohort.inert import first_few, one_line, safe_text, shown
from ercohort.schema import CLASS_COUNT, COHORT_COLUMNS

SLIDE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""A slide id names folders and files, so it holds nothing that a shell, a path or a spreadsheet acts on."""

REQUIRED = ("slide_id", "path")
KNOWN = (*REQUIRED, "mpp", "roi")
RESERVED = frozenset({"status", "message", *COHORT_COLUMNS}) - {"mpp"}
MAX_ID_LENGTH = 100
MAX_PATH_LENGTH = 4000
MAX_COLUMNS = 1000
MAX_BYTES = 100_000_000
"""Of a sheet: some 500,000 slides."""

# Windows opens a device of these names, whatever their ending and in upper or lower case.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """One row of the sheet.

    Parameters
    ----------
    slide_id
        Unique name of the slide; names its folder under `results/slides/`.
    path
        The slide file (or DICOM folder), as the workflow opens it.
    mpp
        µm per pixel given by the sheet; None if the file is to be believed.
    extra
        The row's other columns, as text.
    roi
        GeoJSON file of the regions that count; None if all tissue does.
    """

    slide_id: str
    path: str
    mpp: float | None = None
    extra: dict[str, str] = field(default_factory=dict)
    roi: str | None = None


def read_sheet(path: str | Path) -> dict[str, Sample]:
    """Read and check a sample sheet.

    Relative paths are relative to the working directory, or, where no such file is, to the sheet's
    own folder, so that a sheet can travel with its slides.

    Returns
    -------
    The rows by slide id, in the order of the sheet.

    Raises
    ------
    InputError
        One line per mistake: the file, the row as a text editor numbers it, what is wrong and the cure.
    """
    sheet = Path(path)
    try:
        text = read_text(sheet, MAX_BYTES)
    except FileNotFoundError:
        raise InputError(
            f"{sheet}: no such file; make it with the columns slide_id and path, or name yours as `samples:` "
            "in config/config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{sheet}: cannot be read as UTF-8 text: {error}; save it as UTF-8 TSV") from None
    lines = [
        (number, line)
        for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise InputError(
            f"{sheet}: is empty; the first line names the columns: slide_id, path, mpp (optional)"
        )
    first, head = lines[0]
    header = [one_line(name) for name in _split(head)]
    _check_header(f"{sheet}, line {first}", header)
    if len(lines) == 1:
        raise InputError(f"{sheet}: has a header but no slides; add one row per slide")
    samples: dict[str, Sample] = {}
    seen: set[str] = set()
    mistakes: list[str] = []
    for number, line in lines[1:]:
        sample, found = _check_row(header, line, sheet)
        if sample.slide_id.casefold() in seen and not found:
            found = [
                f"slide_id {sample.slide_id!r} is there twice (upper and lower case count as one); rename it"
            ]
        mistakes += [f"{sheet}, line {number}: {mistake}" for mistake in found]
        seen.add(sample.slide_id.casefold())
        samples[sample.slide_id] = sample
    if mistakes:
        raise InputError(*first_few(mistakes))
    return samples


def _split(line: str) -> list[str]:
    csv.field_size_limit(max(csv.field_size_limit(), len(line)))
    return [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]


def _check_header(where: str, header: list[str]) -> None:
    for column in REQUIRED:
        if column not in header:
            close = difflib.get_close_matches(column, header, n=1)
            hint = f"; rename column `{close[0]}`" if close else ""
            if len(header) == 1 and ("," in header[0] or ";" in header[0]):
                hint = "; separate the columns by tabs, not commas"
            raise InputError(f"{where}: column `{column}` is missing{hint}")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{where}: has {len(header):,} columns, {MAX_COLUMNS} at most; remove some")
    # In the table a column is named without what would act there; it has to stay the only one of its name.
    seen = Counter(safe_text(column) for column in header)
    for column in header:
        if not column:
            raise InputError(f"{where}: a column has no name; name it or remove the extra tab")
        if seen[safe_text(column)] > 1:
            raise InputError(f"{where}: column `{column[:80]}` is there twice; rename one")
        if column in RESERVED or column.startswith(CLASS_COUNT):
            raise InputError(f"{where}: column `{column[:80]}` is one that ercohort writes; rename yours")


def _check_row(header: list[str], line: str, sheet: Path) -> tuple[Sample, list[str]]:
    if line.count('"') % 2:
        return Sample("", ""), ['has a quote (") without its partner, which would swallow tabs; remove it']
    cells = _split(line)
    if len(cells) > len(header):
        return Sample(cells[0], ""), [f"has {len(cells)} cells for {len(header)} columns; remove a tab"]
    row = dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))
    slide_id, path = row["slide_id"], row["path"]
    mistakes = list(_mistakes(slide_id, path, row.get("mpp", "")))
    mpp = None if mistakes or not row.get("mpp") else float(row["mpp"])
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    roi = _resolve(row["roi"], sheet) if row.get("roi") else None
    return Sample(slide_id, _resolve(path, sheet), mpp, extra, roi), mistakes


def _mistakes(slide_id: str, path: str, mpp: str) -> Iterator[str]:
    if not slide_id:
        yield "slide_id is empty; give the slide a name"
    elif not SLIDE_ID.fullmatch(slide_id) or ".." in slide_id or slide_id.endswith("."):
        yield (
            f"slide_id {shown(slide_id)} may hold only letters, digits, `_`, `-` and single `.`, "
            "and must begin with a letter or digit; rename it"
        )
    elif len(slide_id) > MAX_ID_LENGTH:
        yield f"slide_id has {len(slide_id)} characters, {MAX_ID_LENGTH} at most; shorten it"
    elif _DEVICES.fullmatch(slide_id):
        yield f"slide_id {slide_id!r} is a name that Windows keeps for a device; rename it"
    if not path:
        yield "path is empty; name the slide file"
    elif len(path) > MAX_PATH_LENGTH:
        yield f"path has {len(path)} characters, more than a file system takes; correct it"
    if mpp:
        try:
            value = float(mpp)
        except ValueError:
            yield f"mpp {shown(mpp)} is no number; write µm per pixel as 0.25, or leave it empty"
            return
        if not (math.isfinite(value) and value > 0):
            yield f"mpp {shown(mpp)} must be above 0; write µm per pixel as 0.25, or leave it empty"


def _resolve(path: str, sheet: Path) -> str:
    beside = sheet.parent / path
    if not os.path.exists(path) and os.path.exists(beside):
        return str(beside)
    return path
