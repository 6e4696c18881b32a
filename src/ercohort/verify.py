"""`ercohort verify`: whether results are as the run wrote them, and belong together.

Finds accidents: a file that was edited, cut off, lost, or put there from another run. It is no proof against
intent: whoever can change a file can change its checksum. A copy of `checksums.sha256` kept elsewhere is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ercohort.checksums import (
    COHORT_FILES,
    COLLECTED,
    ENGINE_FILES,
    SLIDE_FILES,
    Checksum,
    checksum,
    read_collected,
    read_notes,
)
from ercohort.errors import InputError
from ercohort.turns import in_turn
from ercohort.unfinished import UNFINISHED
from ercohort.verify_file import Seen, Slide, again, describe_change
from ercohort.verify_slide import check_slide
from ercohort.verify_table import check_record, check_table

REPORT = "report"
"""Folder of the report, whose step notes its files there: they are made of what was collected."""

NOT_CHECKED = ("README.md", ".gitignore", ".gitkeep", "strict.ok", UNFINISHED)
"""What may lie in the results folder beside them."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(frozen=True)
class Verification:
    """What was found: one line for every problem, and for what is merely worth knowing."""

    problems: list[str]
    notes: list[str]
    n_slides: int
    n_files: int


def verify_results(results: Path, progress: Progress | None = None) -> Verification:
    """Check a results folder, or the folder of one slide that `ercohort run` made.

    Parameters
    ----------
    results
        The folder; nothing in it is changed.
    progress
        Told how many bytes were read.

    Raises
    ------
    InputError
        The folder holds no results.
    """
    by_hand = (results / "slide.json").exists()
    if not (by_hand or (results / "cohort_er.csv").exists() or (results / "slides").is_dir()):
        raise InputError(f"{results}: holds no results; name the results folder of a run")
    problems: list[str] = []
    notes: list[str] = []
    collected = {} if by_hand else _collected(results, problems)
    slides = _find_slides(results, collected, by_hand)
    cohort = {} if by_hand else _cohort_files(results, collected)
    files = [*cohort.values(), *(seen for slide in slides for seen in slide.files.values())]
    _read(files, progress or _no_progress)
    if not by_hand:
        problems += check_record(results, cohort["run.json"], notes)
        problems += _changed_cohort_files(results, cohort)
    rows = {} if by_hand else check_table(results, slides, cohort["cohort_er.csv"], problems, notes)
    for slide in slides:
        problems += check_slide(slide, rows.get(slide.slide_id), results, notes)
    if collected:
        mine = [seen for slide in slides if slide.slide_id in rows for seen in slide.files.values()]
        # The report is made last, of what was collected.
        tables = [seen for name, seen in cohort.items() if not name.startswith(f"{REPORT}/")]
        problems += _unfinished(results, [*tables, *mine])
    if not by_hand:
        notes += _strays(results, cohort, slides)
    return Verification(problems, notes, len(slides), sum(seen.found is not None for seen in files))


def _no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def _collected(results: Path, problems: list[str]) -> dict[str, str]:
    path = results / COLLECTED
    try:
        return read_collected(path)
    except InputError as error:
        problems.append(f"{error}; {again(path)}")
    except OSError:
        problems.append(
            f"{path}: is missing: the run did not finish, or an older ercohort made it; "
            "run the same snakemake command again"
        )
    return {}


def _find_slides(results: Path, collected: Mapping[str, str], by_hand: bool) -> list[Slide]:
    """Find every slide whose files were collected or lie there; the table may name more."""
    if by_hand:
        return [_slide(results.absolute().name, results, {})]
    names = dict.fromkeys(name.split("/")[1] for name in collected if name.startswith("slides/"))
    folder = results / "slides"
    names |= dict.fromkeys(sorted(path.name for path in folder.glob("*") if (path / "slide.json").exists()))
    return [_slide(name, folder / name, collected) for name in names]


def _slide(slide_id: str, folder: Path, collected: Mapping[str, str]) -> Slide:
    notes = read_notes(folder)
    start = f"slides/{slide_id}/"
    listed = [name.removeprefix(start) for name in collected if name.startswith(start)]
    names = dict.fromkeys([*SLIDE_FILES, *notes, *listed])
    files = {name: Seen(folder / name, notes.get(name), collected.get(start + name)) for name in names}
    return Slide(slide_id, folder, files)


def _cohort_files(results: Path, collected: Mapping[str, str]) -> dict[str, Seen]:
    notes = read_notes(results)
    for folder in ("engine", REPORT):
        notes |= {f"{folder}/{name}": noted for name, noted in read_notes(results / folder).items()}
    names = [*COHORT_FILES, *(f"engine/{name}" for name in ENGINE_FILES), *notes]
    names += [name for name in collected if not name.startswith("slides/")]
    return {name: Seen(results / name, notes.get(name), collected.get(name)) for name in dict.fromkeys(names)}


def _read(files: list[Seen], progress: Progress) -> None:
    """Hash every file that is there, several at a time."""
    there = [seen for seen in files if seen.path.is_file()]
    total = sum(seen.path.stat().st_size for seen in there)
    done = 0
    for seen, found in zip(there, in_turn(_try_checksum, there), strict=True):
        if isinstance(found, Checksum):
            seen.found = found
            done += found.bytes
        else:
            seen.unreadable = found
        progress(done, total)


def _try_checksum(seen: Seen) -> Checksum | str:
    try:
        return checksum(seen.path)
    except OSError as error:
        return error.strerror or str(error)


def _changed_cohort_files(results: Path, cohort: Mapping[str, Seen]) -> Iterator[str]:
    for name, seen in cohort.items():
        change = describe_change(seen)
        never_made = seen.found is None and not seen.expected  # by an older ercohort: `check_record` says so
        if change and not never_made and name != "cohort_er.csv":  # of which `check_table` speaks
            made_by = results / "cohort_er.csv" if "/" not in name else seen.path
            if name.startswith(f"{REPORT}/"):
                made_by = results / REPORT / "index.html"
            yield f"{seen.path}: {change}; {again(made_by)}"


def _strays(results: Path, cohort: Mapping[str, Seen], slides: list[Slide]) -> Iterator[str]:
    """Name what lies among the results and was written by no step."""
    known = {*cohort, COLLECTED, *NOT_CHECKED}
    strays = [path for path in results.glob("*") if path.is_file() and path.name not in known]
    names = {slide.slide_id for slide in slides}
    strays += [path for path in (results / "slides").glob("*") if path.name not in names]
    if strays:
        more = f" and {len(strays) - 1:,} more" if len(strays) > 1 else ""
        yield f"{min(strays)}{more}: written by no step, not checked"


def _unfinished(results: Path, files: list[Seen]) -> Iterator[str]:
    """Find files that are as their step wrote them, but were not collected: a run that goes on from there."""
    late = [seen for seen in files if seen.known and seen.found and seen.collected != seen.found.sha256]
    if late:
        more = f" and {len(late) - 1:,} more" if len(late) > 1 else ""
        yield (
            f"{results / COLLECTED}: is older than {late[0].path}{more}: a later run did not finish, or it "
            "was edited; run the same snakemake command again, "
            f"if need be with `--forcerun {results / COLLECTED}`"
        )
    for seen in (seen for seen in files if seen.known and seen.noted and not seen.as_noted):
        yield (
            f"{seen.path}: is what {COLLECTED} says, but not what the step that wrote it noted; "
            f"{again(seen.path)}"
        )
