"""The pages as text: templates, the scripts and styles in them, and data that cannot act.

Whatever a sheet, a path or an error message holds is shown as text. Templates escape it; data go in as JSON
in which no character means anything to HTML; scripts set it as text, never as HTML; and the page's content
security policy runs no script but the page's own, and fetches nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ercohort import __version__
from ercohort.cohort import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

HERE = Path(__file__).parent

_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$|/\*# sourceMappingURL=.*?\*/", re.MULTILINE)


def render_report(data: Mapping[str, Any], plot: str) -> str:
    """Return the cohort's report as one page that needs nothing else but its pictures.

    Parameters
    ----------
    data
        What `collect.collect_report` returns.
    plot
        The `<svg>` element of `plots.draw_percent_positive` for the same slides.
    """
    scripts = [asset("vendor/tabulator.min.js"), asset("static/table.js"), asset("static/slide.js"),
               asset("static/pooled.js"), asset("static/report.js")]  # fmt: skip
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src 'unsafe-inline'; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )
    return _templates().get_template("report.html.j2").render(
        policy=policy,
        styles=[asset("vendor/tabulator.min.css"), asset("static/report.css")],
        scripts=scripts,
        data=data,
        plot=plot,
        notice=RESEARCH_USE,
        version=__version__,
        n_slides=len(data["slides"]),
        n_simulated=sum(slide["simulated"] for slide in data["slides"]),
    )  # fmt: skip


def render_viewer(data: Mapping[str, Any]) -> str:
    """Return the page of one slide with its nuclei; its libraries are served beside it."""
    return _templates().get_template("viewer.html.j2").render(data=data, notice=RESEARCH_USE)


def asset(name: str) -> str:
    """Return a script or style of this package, by its path in it."""
    return _SOURCE_MAP.sub("", (HERE / name).read_text(encoding="utf-8")).strip()


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}  # stages stay in their order
    return made


def _hash(script: str) -> str:
    """Name an inline script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
