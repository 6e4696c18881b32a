"""Slides of one patient or group as one: nuclei are added up, percentages are never averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ercohort.config import QualitySettings, ScoreSettings
from ercohort.errors import Status
from ercohort.grading import GradeCounts
from ercohort.quality_flags import judge, qc_flags
from ercohort.scoring import score_counts, score_grades

SUMMED = ("n_nuclei", "n_positive", "n_negative", "n_weak", "n_moderate", "n_strong", "tissue_mm2")
COUNTED_STATUS = frozenset({Status.OK.value, Status.PARTIAL.value, Status.NO_NUCLEI.value})


def pool(
    rows: Sequence[Mapping[str, Any]],
    column: str,
    *,
    settings: ScoreSettings,
    false_positive_percent: float | None = None,
) -> list[dict[str, Any]]:
    """Add up the slides of each group and score the sums.

    Parameters
    ----------
    rows
        One mapping for every row of the sheet, in its order: the sheet's columns and the slide's own.
    column
        The sheet's column that names the group. Slides without a value there are in no group.
    settings, false_positive_percent
        As for a slide's own score.

    Returns
    -------
    One mapping for every group in the order in which they first appear: the value of `column`, `n_slides`,
    `n_slides_counted` (those with a score) and the columns of a score. A group of which no slide could be
    counted has no score.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get(column):
            groups.setdefault(row[column], []).append(row)
    return [
        {column: name, **_pool_one(members, settings, false_positive_percent)}
        for name, members in groups.items()
    ]


def _pool_one(
    rows: Sequence[Mapping[str, Any]], settings: ScoreSettings, false_positive_percent: float | None
) -> dict[str, Any]:
    counted = [row for row in rows if row.get("status") in COUNTED_STATUS]
    pooled: dict[str, Any] = {"n_slides": len(rows), "n_slides_counted": len(counted)}
    if not counted:
        return pooled
    # A slide without nuclei has a score, and none of them.
    pooled |= {name: sum(row.get(name) or 0 for row in counted) for name in SUMMED}
    n_nuclei, n_positive = pooled["n_nuclei"], pooled["n_positive"]
    stained = [pooled[name] for name in ("n_weak", "n_moderate", "n_strong")]
    pooled |= score_counts(n_positive, n_nuclei, false_positive_percent or 0.0)
    pooled |= score_grades(GradeCounts(n_nuclei - sum(stained), *stained), settings)
    area = pooled["tissue_mm2"]
    pooled["nuclei_per_mm2"] = n_nuclei / area if area else None
    few = judge({"few_nuclei": n_nuclei or None}, QualitySettings(), min_nuclei=settings.min_nuclei)
    pooled["qc_flags"] = qc_flags(few)
    return pooled
