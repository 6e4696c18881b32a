"""The report of the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ercohort.checksums import note


def write_report(
    *,
    results: Path,
    sheet: Sequence[Mapping[str, str]],
    page: str | Path,
    plot: str | Path,
    examples: str | Path | None = None,
) -> None:
    """Write the report's page, its plot, and a sheet with a few slides' pictures.

    Parameters
    ----------
    results
        The folder that the run wrote; the page links to the pictures in it.
    sheet
        What the table repeats of the sheet, one mapping for each row.
    page, plot, examples
        Outputs: `index.html`, `percent_positive.svg` and `examples.jpg`.
    """
    from ercohort.files import atomic_path
    from ercohort.report.collect import collect_report
    from ercohort.report.examples import draw_examples
    from ercohort.report.page import render_report
    from ercohort.report.plots import draw_percent_positive

    data = collect_report(results, sheet)
    rows = [slide["row"] for slide in data["slides"]]
    picture = draw_percent_positive(rows)
    if examples is not None:
        draw_examples(examples, results, rows)
    for path, text in ((plot, picture), (page, render_report(data, picture))):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    note("report", page, plot, *([] if examples is None else [examples]))
