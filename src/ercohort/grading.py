"""From stained nuclei to intensity scores: grades 0 to 3+, H-score, Allred.

Two measurements are kept apart: the detector says which nuclei are positive, the optical density of DAB says
how strongly. Counts are compared as whole numbers, so a slide exactly on a border falls on the same side on
every machine.

Research use only: the score aids a pathologist and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.config import ScoreSettings
from ercohort.schema import NUCLEI, class_index, class_names, positive_mask


@dataclass(frozen=True)
class GradeCounts:
    """Nuclei of a slide by intensity: none (0), weak (1+), moderate (2+), strong (3+)."""

    none: int
    weak: int
    moderate: int
    strong: int

    @property
    def positive(self) -> int:
        """Nuclei of grade 1+ and above."""
        return self.weak + self.moderate + self.strong

    @property
    def total(self) -> int:
        """All nuclei."""
        return self.none + self.positive

    @property
    def grade_sum(self) -> int:
        """Sum of the grades."""
        return self.weak + 2 * self.moderate + 3 * self.strong


@dataclass(frozen=True)
class Allred:
    """Allred's scores: proportion 0 to 5, intensity 0 to 3, and their sum (0, or 2 to 8)."""

    proportion: int
    intensity: int

    @property
    def total(self) -> int:
        """Proportion and intensity together."""
        return self.proportion + self.intensity


def grade(nuclei: pl.DataFrame, settings: ScoreSettings) -> pl.Series:
    """Grade every nucleus by the mean optical density of DAB in it.

    Parameters
    ----------
    nuclei
        Columns `label` and `dab_od`.
    settings
        `dab_od` holds the least optical density of 1+, 2+ and 3+ (inclusive, as in QuPath). By `grade_by:
        detector`, a nucleus that the detector calls negative is 0 and one that it calls positive is 1+ at
        least; by `dab_od` the optical density alone decides, as in QuPath's positive cell detection.

    Returns
    -------
    UInt8, 0 to 3, in the order of the rows.
    """
    by_density = _by_density(nuclei, settings)
    if settings.grade_by == "detector":
        by_density = np.where(_is_positive(nuclei), np.maximum(by_density, 1), 0)
    return pl.Series("grade", by_density.astype(np.uint8), NUCLEI["grade"])


def count_grades(grades: pl.Series) -> GradeCounts:
    """Count the nuclei of each grade."""
    counts = np.bincount(grades.to_numpy(), minlength=4)
    return GradeCounts(*map(int, counts))


def percent_disagreeing(nuclei: pl.DataFrame, settings: ScoreSettings) -> float | None:
    """Share of nuclei that the detector calls otherwise than their optical density would, percent.

    A positive nucleus below the threshold of 1+, or a negative one at or above it; None without nuclei.
    """
    if not len(nuclei):
        return None
    differs = _is_positive(nuclei) != (_by_density(nuclei, settings) > 0)
    return 100.0 * int(differs.sum()) / len(nuclei)


def h_score(counts: GradeCounts) -> float:
    """H-score: 1 x percent weak + 2 x percent moderate + 3 x percent strong, 0 to 300.

    References
    ----------
    McCarty et al., Arch Pathol Lab Med 109 (1985) 716-721; QuPath computes the same from its four classes
    (`DetectionPathClassCounts`).

    Raises
    ------
    ValueError
        There are no nuclei.
    """
    _check(counts)
    return 100.0 * counts.grade_sum / counts.total


def allred(counts: GradeCounts, rule: Literal["cap", "qupath"] = "cap") -> Allred:
    """Allred's proportion and intensity scores.

    Parameters
    ----------
    counts
        Nuclei by grade.
    rule
        `cap`: the table of the CAP's breast biomarker protocol. Proportion 0 none, 1 below 1 %, 2 up to 10 %,
        3 up to 33 %, 4 up to 66 %, 5 above; intensity is the mean grade of the positive nuclei, to the
        nearest grade, halves up. `qupath`: as QuPath does it (`DetectionPathClassCounts`). Proportion 2
        from 1 %, 3 from 10 %, 4 from 1/3, 5 from 2/3; intensity 2 above a mean of 5/3, 3 above 7/3.

    References
    ----------
    Allred et al., Mod Pathol 11 (1998) 155-168.

    Raises
    ------
    ValueError
        There are no nuclei.
    """
    _check(counts)
    part, whole, grades = counts.positive, counts.total, counts.grade_sum
    if part == 0:
        return Allred(0, 0)
    if rule == "qupath":
        steps = [100 * part >= whole, 10 * part >= whole, 3 * part >= whole, 3 * part >= 2 * whole]
        intensity = 1 + (3 * grades > 5 * part) + (3 * grades > 7 * part)
    else:
        steps = [100 * part >= whole, *(100 * part > cut * whole for cut in (10, 33, 66))]
        intensity = 1 + (2 * grades >= 3 * part) + (2 * grades >= 5 * part)
    return Allred(1 + sum(steps), intensity)


def _by_density(nuclei: pl.DataFrame, settings: ScoreSettings) -> NDArray[np.int64]:
    # In the column's own precision: a density that reads 0.4 in the table is not below 0.4.
    density = nuclei["dab_od"].to_numpy()
    return np.digitize(density, np.array(settings.dab_od, density.dtype))


def _is_positive(nuclei: pl.DataFrame) -> NDArray[np.bool_]:
    label = nuclei["label"]
    return positive_mask(class_names(label.dtype))[class_index(label)]


def _check(counts: GradeCounts) -> None:
    if min(counts.none, counts.weak, counts.moderate, counts.strong) < 0 or counts.total == 0:
        raise ValueError(f"{counts} has no nuclei to score")
