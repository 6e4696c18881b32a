"""Intensity scores: exact borders, and QuPath's formulas restated as an oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import ScoreSettings, check_config
from ercohort.errors import InputError
from ercohort.grading import Allred, GradeCounts, allred, count_grades, grade, h_score, percent_disagreeing

COUNTS = st.tuples(*[st.integers(0, 3_000)] * 4).filter(any).map(lambda counts: GradeCounts(*counts))


def nuclei(*rows: tuple[str, float], labels=schema.LABELS) -> pl.DataFrame:
    columns = {"label": pl.Enum(labels), "dab_od": schema.NUCLEI["dab_od"]}
    return pl.DataFrame(rows, schema=columns, orient="row")


def share(part: int, whole: int) -> GradeCounts:
    """`part` weak nuclei of `whole`."""
    return GradeCounts(whole - part, part, 0, 0)


def qupath(counts: GradeCounts) -> tuple[float, int, int]:
    """H-score and Allred as QuPath's DetectionPathClassCounts computes them, in exact fractions."""
    n0, n1, n2, n3 = counts.none, counts.weak, counts.moderate, counts.strong
    n, positive = n0 + n1 + n2 + n3, n1 + n2 + n3
    h = 100 * Fraction(n1 + 2 * n2 + 3 * n3, n)
    p = Fraction(positive, n)
    borders = ((Fraction(2, 3), 5), (Fraction(1, 3), 4), (Fraction(1, 10), 3), (Fraction(1, 100), 2))
    proportion = next((score for border, score in borders if p >= border), 1 if p > 0 else 0)
    intensity = 0
    if positive:
        mean = Fraction(n1 + 2 * n2 + 3 * n3, positive)
        intensity = 3 if mean > Fraction(7, 3) else 2 if mean > Fraction(5, 3) else 1
    return float(h), proportion, intensity


@given(COUNTS)
def test_qupaths_rule_gives_qupaths_numbers(counts):
    h, proportion, intensity = qupath(counts)
    assert h_score(counts) == pytest.approx(h, abs=1e-9)
    assert allred(counts, "qupath") == Allred(proportion, intensity)


@pytest.mark.parametrize(
    ("part", "whole", "cap", "qupath"),
    [
        (0, 1_000, 0, 0),
        (9, 1_000, 1, 1),  # just under 1 %
        (10, 1_000, 2, 2),
        (99, 1_000, 2, 2),
        (100, 1_000, 2, 3),  # exactly 10 %: QuPath's next step begins here, the CAP's above it
        (101, 1_000, 3, 3),
        (330, 1_000, 3, 3),
        (331, 1_000, 4, 3),
        (1, 3, 4, 4),  # 33.3 % is above 33 %
        (660, 1_000, 4, 4),
        (661, 1_000, 5, 4),
        (2, 3, 5, 5),
        (1_000, 1_000, 5, 5),
    ],
)
def test_allreds_proportion_at_its_borders(part, whole, cap, qupath):
    assert allred(share(part, whole)).proportion == cap
    assert allred(share(part, whole), "qupath").proportion == qupath


@pytest.mark.parametrize(
    ("grades", "cap", "qupath"),
    [
        ((5, 0, 0, 0), 0, 0),
        ((0, 5, 0, 0), 1, 1),
        ((0, 1, 1, 0), 2, 1),  # a mean of 1.5
        ((0, 3, 2, 0), 1, 1),
        ((0, 1, 2, 0), 2, 1),  # 5/3: QuPath's step is above it
        ((0, 1, 3, 0), 2, 2),
        ((0, 0, 1, 1), 3, 3),  # 2.5
        ((0, 0, 2, 1), 2, 2),  # 7/3
        ((0, 0, 3, 2), 2, 3),
        ((0, 0, 0, 5), 3, 3),
    ],
)
def test_allreds_intensity_at_its_borders(grades, cap, qupath):
    assert allred(GradeCounts(*grades)).intensity == cap
    assert allred(GradeCounts(*grades), "qupath").intensity == qupath


@given(COUNTS)
def test_scores_stay_in_their_ranges(counts):
    score = allred(counts)
    assert score.total in {0, 2, 3, 4, 5, 6, 7, 8}
    assert (score.total == 0) == (counts.positive == 0)
    percent = 100 * counts.positive / counts.total
    assert percent - 1e-9 <= h_score(counts) <= 3 * percent + 1e-9


def test_h_score_of_known_counts():
    assert h_score(GradeCounts(10, 20, 30, 40)) == 200.0
    assert h_score(GradeCounts(0, 0, 0, 7)) == 300.0
    assert h_score(GradeCounts(7, 0, 0, 0)) == 0.0


@pytest.mark.parametrize("counts", [GradeCounts(0, 0, 0, 0), GradeCounts(-1, 2, 0, 0)])
def test_no_nuclei_have_no_score(counts):
    for score in (h_score, allred):
        with pytest.raises(ValueError, match="no nuclei"):
            score(counts)


def test_the_detector_says_whether_and_the_density_how_strongly():
    table = nuclei(
        ("Positive", 0.05), ("Positive", 0.2), ("Positive", 0.39), ("Positive", 0.4), ("Positive", 0.6),
        ("Negative", 0.05), ("Negative", 0.7), ("Positive", -0.1),
    )  # fmt: skip
    assert grade(table, ScoreSettings()).to_list() == [1, 1, 1, 2, 3, 0, 0, 1]
    assert percent_disagreeing(table, ScoreSettings()) == 100 * 3 / 8


def test_the_density_alone_is_qupaths_positive_cell_detection():
    table = nuclei(("Positive", 0.19), ("Negative", 0.2), ("Negative", 0.4), ("Positive", 0.6))
    settings = ScoreSettings(grade_by="dab_od")
    assert grade(table, settings).to_list() == [0, 1, 2, 3]
    assert count_grades(grade(table, settings)) == GradeCounts(1, 1, 1, 1)


@given(st.lists(st.floats(-0.5, 3.0, width=32), max_size=50))
def test_a_threshold_belongs_to_the_grade_above_it(densities):
    table = nuclei(*(("Positive", value) for value in densities))
    settings = ScoreSettings(grade_by="dab_od")
    expected = [sum(value >= np.float32(cut) for cut in settings.dab_od) for value in densities]
    assert grade(table, settings).to_list() == expected


def test_every_class_but_the_negative_one_is_graded():
    table = nuclei(("2+", 0.5), ("Tumor: negative", 0.5), ("1+", 0.1), labels=("1+", "Tumor: negative", "2+"))
    assert grade(table, ScoreSettings()).to_list() == [2, 0, 1]


def test_a_slide_without_nuclei_disagrees_about_nothing():
    empty = nuclei()
    assert grade(empty, ScoreSettings()).to_list() == []
    assert count_grades(grade(empty, ScoreSettings())) == GradeCounts(0, 0, 0, 0)
    assert percent_disagreeing(empty, ScoreSettings()) is None


@pytest.mark.parametrize("cuts", [[0.2, 0.2, 0.6], [0.0, 0.4, 0.6], [0.6, 0.4, 0.2], [0.2, 0.4], [1, 2, 4]])
def test_thresholds_that_do_not_rise_are_refused(cuts):
    with pytest.raises(InputError, match="dab_od"):
        check_config({"scores": {"dab_od": cuts}})
