"""Slides of one patient as one: sums, not means of percentages."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import ScoreSettings
from ercohort.pooling import pool
from ercohort.scoring import summarise

OPTIONS = {"settings": ScoreSettings()}
NUCLEI = st.lists(st.tuples(st.sampled_from(schema.LABELS), st.floats(-0.125, 1.0, width=32)), max_size=30)


def frame(nuclei):
    columns = {"label": schema.NUCLEI["label"], "dab_od": schema.NUCLEI["dab_od"]}
    return pl.DataFrame(nuclei, columns, orient="row")


def slide(patient, nuclei, status="ok"):
    scored = summarise(frame(nuclei), tissue_mm2=2.0)
    return {"slide_id": "s", **scored, "status": status, "patient": patient}


@given(st.lists(NUCLEI, min_size=1, max_size=4))
def test_a_group_is_scored_as_if_its_slides_were_one(slides):
    (pooled,) = pool([slide("p", nuclei) for nuclei in slides], "patient", **OPTIONS)
    one = summarise(frame([nucleus for nuclei in slides for nucleus in nuclei]), tissue_mm2=2.0 * len(slides))
    shared = (set(pooled) & set(one)) - {"qc_flags"}  # of a group only the number of its nuclei is judged
    few = 0 < one["n_nuclei"] < ScoreSettings().min_nuclei
    assert pooled["qc_flags"] == ("few_nuclei" if few else None)
    assert shared >= {"n_nuclei", "percent_positive", "ci_low", "er_category", "h_score", "allred_total"}
    for name in shared:
        assert pooled[name] == (pytest.approx(one[name]) if isinstance(one[name], float) else one[name])


def test_a_mean_of_percentages_would_be_another():
    large = [("Positive", 0.5)] * 10 + [("Negative", 0.0)] * 990
    small = [("Positive", 0.5)] * 10
    (pooled,) = pool([slide("p", large), slide("p", small)], "patient", **OPTIONS)
    assert pooled["percent_positive"] == pytest.approx(100 * 20 / 1010)
    assert pooled["er_category"] == "Low Positive"


def test_bad_slides_are_told_and_not_counted():
    good, bad = slide("p", [("Positive", 0.5)] * 4), {"status": "unreadable", "patient": "p"}
    other, nobody = {"status": "missing", "patient": "q"}, slide("", [("Positive", 0.5)])
    rows = pool([good, bad, other, nobody], "patient", **OPTIONS)
    assert [(row["patient"], row["n_slides"], row["n_slides_counted"]) for row in rows] == [
        ("p", 2, 1),
        ("q", 1, 0),
    ]
    assert rows[0]["n_nuclei"] == 4
    assert "percent_positive" not in rows[1]
