"""From counted nuclei to a slide's score: percent positive, its interval and the ER category.

Research use only: the score aids a pathologist and decides nothing.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl

from ercohort.config import QualitySettings, ScoreSettings
from ercohort.errors import Status
from ercohort.grading import GradeCounts, allred, count_grades, grade, h_score, percent_disagreeing
from ercohort.quality_flags import count_numbers, judge, qc_flags
from ercohort.schema import CLASS_COUNT, LABELS, class_names, is_negative

LOW_PERCENT = 1
HIGH_PERCENT = 10
"""The two cut-offs of the ER categories, percent of tumour nuclei."""

INTENSITY_COLUMNS = (
    "n_weak", "n_moderate", "n_strong", "h_score", "allred_proportion", "allred_intensity", "allred_total",
    "percent_od_disagrees",
)  # fmt: skip

Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


class ERCategory(StrEnum):
    """ER status by ASCO/CAP 2020."""

    NEGATIVE = "Negative"
    LOW_POSITIVE = "Low Positive"
    POSITIVE = "Positive"


def er_category(n_positive: int, n_nuclei: int) -> ERCategory:
    """Categorise a slide: Negative below 1 %, Low Positive from 1 % to 10 %, Positive above 10 %.

    Exactly 1 % and exactly 10 % are Low Positive. Counts are compared, not rounded percentages: 0.999 % is
    Negative and 10.001 % is Positive.

    References
    ----------
    Allison et al., Estrogen and Progesterone Receptor Testing in Breast Cancer: ASCO/CAP Guideline Update,
    Arch Pathol Lab Med 144 (2020) 545-563.

    Raises
    ------
    ValueError
        There are no nuclei, or more positive ones than nuclei.
    """
    _check_counts(n_positive, n_nuclei)
    if 100 * n_positive < LOW_PERCENT * n_nuclei:
        return ERCategory.NEGATIVE
    if 100 * n_positive <= HIGH_PERCENT * n_nuclei:
        return ERCategory.LOW_POSITIVE
    return ERCategory.POSITIVE


def wilson_interval(n_positive: int, n_nuclei: int) -> tuple[float, float]:
    """95 % score interval of a proportion, in percent, without continuity correction.

    It tells the counting error alone, not the detector's systematic error: on a whole slide of 100,000
    nuclei it is narrow, and the detector's false positives decide.

    References
    ----------
    Wilson, J Am Stat Assoc 22 (1927) 209-212.

    Raises
    ------
    ValueError
        There are no nuclei, or more positive ones than nuclei.
    """
    _check_counts(n_positive, n_nuclei)
    n, share = n_nuclei, n_positive / n_nuclei
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and n positive the exact limits are 0 and 1; the formula leaves rounding dust there.
    low = 0.0 if n_positive == 0 else 100 * (centre - half)
    high = 100.0 if n_positive == n_nuclei else 100 * (centre + half)
    return low, high


def is_borderline(ci_low: float, ci_high: float, false_positive_percent: float = 0.0) -> bool:
    """Say whether the category could be the one beside it.

    Parameters
    ----------
    ci_low, ci_high
        Interval of the count, percent.
    false_positive_percent
        Negative nuclei that the detector calls positive, percent, as its metadata states it. The interval is
        widened by it on both sides: on a whole slide the counting error is small, and this decides.

    Returns
    -------
    Whether the widened interval contains or touches 1 % or 10 %.
    """
    low, high = ci_low - false_positive_percent, ci_high + false_positive_percent
    return any(low <= cut <= high for cut in (LOW_PERCENT, HIGH_PERCENT))


def summarise(
    nuclei: pl.DataFrame | pl.LazyFrame | str | Path,
    *,
    tissue_mm2: float | None,
    settings: ScoreSettings | None = None,
    quality: QualitySettings | None = None,
    false_positive_percent: float | None = None,
    mpp: float | None = None,
    detector_mpp: float | None = None,
    n_tiles: int | None = None,
    n_tiles_failed: int | None = None,
) -> dict[str, Any]:
    """Score one slide from its nuclei.

    Parameters
    ----------
    nuclei
        A table with the columns `label` and `dab_od`, or the path of `nuclei.parquet` (only those are read).
        Every class but the negative one (`schema.is_negative`) counts as positive. Without `dab_od` the
        intensity scores are None.
    tissue_mm2
        Area of tissue, mm²; None or 0 leaves the density empty.
    settings
        Thresholds and tables of the intensity scores; the defaults if not given.
    quality
        Thresholds of the flags; the defaults if not given.
    false_positive_percent
        What the detector states about itself (`is_borderline`); None if it states nothing.
    mpp, detector_mpp
        Scale of the slide and of the detector, µm per pixel; with both, a coarse slide is flagged.
    n_tiles, n_tiles_failed
        Tiles of the slide and how many of them could not be read.

    Returns
    -------
    `status`, `message` and columns of `schema.COHORT_COLUMNS`, at full precision; None where there is no
    value. `status` is `partial` if tiles failed (zero nuclei are then no finding), else `no_nuclei` at zero
    nuclei, else `ok`. `n_weak`, `n_moderate` and `n_strong` count the nuclei of grade 1+, 2+ and 3+
    (`grading.grade`); `percent_od_disagrees` tells how many nuclei the optical density would class otherwise.
    If the classes are not Positive and Negative, `n_class_<class>` counts each. `qc_flags` joins by `;` the
    flags that rest on the count (`quality_flags.count_numbers`); those of the slide itself are not among
    them.
    """
    settings = settings or ScoreSettings()
    table = _read(nuclei)
    counts = _count(table)
    n_nuclei = sum(counts.values())
    n_negative = sum(count for label, count in counts.items() if is_negative(label))
    n_positive = n_nuclei - n_negative
    density = n_nuclei / tissue_mm2 if tissue_mm2 else None
    status, message = _status(n_nuclei, n_tiles, n_tiles_failed)
    numbers = count_numbers(
        n_nuclei=n_nuclei, tissue_mm2=tissue_mm2, mpp=mpp, detector_mpp=detector_mpp, n_tiles=n_tiles,
        n_tiles_failed=n_tiles_failed,
    )  # fmt: skip
    judged = judge(numbers, quality or QualitySettings(), min_nuclei=settings.min_nuclei)
    return {
        "status": status.value,
        "message": message,
        "n_nuclei": n_nuclei,
        "n_positive": n_positive,
        "n_negative": n_negative,
        **score_counts(n_positive, n_nuclei, false_positive_percent or 0.0),
        **_intensity(table, settings),
        "tissue_mm2": tissue_mm2,
        "nuclei_per_mm2": density,
        "n_tiles": n_tiles,
        "n_tiles_failed": n_tiles_failed,
        "mpp": mpp,
        "qc_flags": qc_flags(judged),
        **_class_columns(counts),
    }


def _class_columns(counts: dict[str, int]) -> dict[str, int]:
    """Count each class where `n_positive` and `n_negative` do not say it already."""
    if set(counts) == set(LABELS):
        return {}
    return {f"{CLASS_COUNT}{label}": count for label, count in counts.items()}


def score_counts(n_positive: int, n_nuclei: int, false_positive_percent: float = 0.0) -> dict[str, Any]:
    """Score a count: percent positive, its interval, the category and whether it is borderline.

    Returns
    -------
    `percent_positive`, `ci_low`, `ci_high`, `er_category`, `borderline`; all None without nuclei.
    """
    if n_nuclei == 0:
        return dict.fromkeys(("percent_positive", "ci_low", "ci_high", "er_category", "borderline"))
    ci_low, ci_high = wilson_interval(n_positive, n_nuclei)
    return {
        "percent_positive": 100 * n_positive / n_nuclei,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "er_category": er_category(n_positive, n_nuclei).value,
        "borderline": is_borderline(ci_low, ci_high, false_positive_percent),
    }


def score_grades(grades: GradeCounts, settings: ScoreSettings) -> dict[str, Any]:
    """Score the intensities: nuclei of each grade, H-score, Allred; the scores are None without nuclei."""
    columns = dict.fromkeys(("h_score", "allred_proportion", "allred_intensity", "allred_total"))
    if grades.total:
        score = allred(grades, settings.allred)
        columns = {
            "h_score": h_score(grades),
            "allred_proportion": score.proportion,
            "allred_intensity": score.intensity,
            "allred_total": score.total,
        }
    return {"n_weak": grades.weak, "n_moderate": grades.moderate, "n_strong": grades.strong, **columns}


def _intensity(nuclei: pl.DataFrame, settings: ScoreSettings) -> dict[str, Any]:
    """Columns that rest on the optical density; None without it."""
    if "dab_od" not in nuclei.columns:
        return dict.fromkeys(INTENSITY_COLUMNS)
    return {
        **score_grades(count_grades(grade(nuclei, settings)), settings),
        "percent_od_disagrees": percent_disagreeing(nuclei, settings),
    }


def _status(n_nuclei: int, n_tiles: int | None, n_tiles_failed: int | None) -> tuple[Status, str]:
    if n_tiles_failed:
        of_all = f"{n_tiles_failed:,} of {n_tiles:,}" if n_tiles else f"{n_tiles_failed:,}"
        return Status.PARTIAL, (
            f"{of_all} tiles could not be read and are not counted; the file is damaged there: "
            "copy or scan it again"
        )
    if n_nuclei == 0:
        return Status.NO_NUCLEI, "the tissue holds no nuclei that the detector knows; look at overlay.jpg"
    return Status.OK, ""


def _read(nuclei: pl.DataFrame | pl.LazyFrame | str | Path) -> pl.DataFrame:
    """Take only the columns that a score needs."""
    table = pl.scan_parquet(nuclei) if isinstance(nuclei, str | Path) else nuclei.lazy()
    known = table.collect_schema()
    return table.select([name for name in ("label", "dab_od") if name in known]).collect()


def _count(nuclei: pl.DataFrame) -> dict[str, int]:
    """Count each class, in the detector's order."""
    labels = class_names(nuclei.schema["label"])
    found = nuclei.group_by("label").len()
    counts = dict(zip(found["label"].cast(pl.String), found["len"], strict=True))
    if unknown := sum(count for label, count in counts.items() if label not in labels):
        raise ValueError(f"{unknown} nuclei are neither {' nor '.join(labels)}")
    return {label: counts.get(label, 0) for label in labels}


def _check_counts(n_positive: int, n_nuclei: int) -> None:
    if not 0 <= n_positive <= n_nuclei or n_nuclei == 0:
        raise ValueError(f"{n_positive} positive of {n_nuclei} nuclei is no proportion")
