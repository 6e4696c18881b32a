"""A slide's score: exact boundaries, the interval, the flags."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ercohort import schema
from ercohort.config import QualitySettings, ScoreSettings
from ercohort.scoring import er_category, is_borderline, summarise, wilson_interval


def nuclei(n_positive: int, n_negative: int) -> pl.DataFrame:
    labels = [schema.POSITIVE] * n_positive + [schema.NEGATIVE] * n_negative
    return pl.DataFrame({"label": labels}, schema={"label": schema.NUCLEI["label"]})


@pytest.mark.parametrize(
    ("n_positive", "n_nuclei", "category"),
    [
        (0, 1, "Negative"),
        (99, 10_000, "Negative"),  # 0.99 %
        (9_999, 1_000_000, "Negative"),  # 0.9999 % is not rounded up
        (1, 100, "Low Positive"),  # exactly 1 %
        (3, 300, "Low Positive"),
        (10, 100, "Low Positive"),  # exactly 10 %
        (29, 290, "Low Positive"),  # 10 %, though 100 * (29 / 290) is not exact in floating point
        (100_001, 1_000_000, "Positive"),  # 10.0001 %
        (1, 1, "Positive"),
    ],
)
def test_category_boundaries_are_exact(n_positive, n_nuclei, category):
    assert er_category(n_positive, n_nuclei) == category


@pytest.mark.parametrize(("n_positive", "n_nuclei"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(n_positive, n_nuclei):
    with pytest.raises(ValueError, match="no proportion"):
        er_category(n_positive, n_nuclei)
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(n_positive, n_nuclei)


@settings(deadline=None)  # the first example imports SciPy
@given(st.integers(1, 3_000_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counts):
    n_positive, n_nuclei = counts
    expected = binomtest(n_positive, n_nuclei).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(n_positive, n_nuclei)
    assert low == pytest.approx(100 * expected.low, abs=1e-9)
    assert high == pytest.approx(100 * expected.high, abs=1e-9)
    assert 0 <= low <= 100 * n_positive / n_nuclei + 1e-9
    assert 100 * n_positive / n_nuclei - 1e-9 <= high <= 100


def test_wilson_interval_of_known_counts():
    assert wilson_interval(10, 1_000) == pytest.approx((0.5441, 1.8309), abs=1e-4)
    assert wilson_interval(0, 50)[0] == 0.0
    assert wilson_interval(50, 50)[1] == 100.0


def test_borderline_contains_or_touches_a_cut_off():
    assert is_borderline(0.5, 1.8)
    assert is_borderline(1.0, 1.8)
    assert is_borderline(0.2, 1.0)
    assert is_borderline(8.0, 12.0)
    assert is_borderline(10.0, 12.0)
    assert not is_borderline(1.01, 9.99)
    assert not is_borderline(0.0, 0.99)
    assert not is_borderline(10.01, 20.0)


@pytest.mark.parametrize(
    ("interval", "rate", "borderline"),
    [((2.0, 3.0), 0.9, False), ((2.0, 3.0), 1.0, True), ((7.0, 8.0), 1.9, False), ((7.0, 8.0), 2.0, True)],
)
def test_the_detectors_false_positives_widen_the_interval(interval, rate, borderline):
    assert is_borderline(*interval, rate) is borderline


def test_a_summary_holds_the_intensity_scores():
    table = nuclei(50, 950).with_columns(dab_od=pl.Series([0.3] * 20 + [0.5] * 20 + [0.7] * 10 + [0.1] * 950))
    summary = summarise(table, tissue_mm2=1.0, false_positive_percent=4.0)
    assert (summary["n_weak"], summary["n_moderate"], summary["n_strong"]) == (20, 20, 10)
    assert summary["h_score"] == 9.0
    assert summary["percent_od_disagrees"] == 0.0
    allred = [summary[f"allred_{part}"] for part in ("proportion", "intensity", "total")]
    assert allred == [2, 2, 4]
    assert summary["borderline"] is True  # 5 % less 4 % could be 1 %
    assert set(summary) - {"status", "message"} <= set(schema.COHORT_COLUMNS)
    weaker = summarise(table, tissue_mm2=1.0, settings=ScoreSettings(dab_od=[0.4, 0.6, 0.8]))
    assert (weaker["n_weak"], weaker["n_moderate"], weaker["n_strong"]) == (40, 10, 0)
    assert weaker["percent_od_disagrees"] == 2.0


def test_no_positive_nucleus_excludes_1_percent_only_from_381_nuclei_on():
    assert summarise(nuclei(0, 380), tissue_mm2=1.0)["borderline"] is True
    assert summarise(nuclei(0, 381), tissue_mm2=1.0)["borderline"] is False


def test_summary_of_a_slide():
    summary = summarise(
        nuclei(50, 950), tissue_mm2=2.5, mpp=0.25, detector_mpp=0.5, n_tiles=40, n_tiles_failed=0
    )
    assert summary["status"] == "ok"
    assert summary["message"] == ""
    assert (summary["n_nuclei"], summary["n_positive"], summary["n_negative"]) == (1000, 50, 950)
    assert summary["percent_positive"] == 5.0
    assert (summary["ci_low"], summary["ci_high"]) == pytest.approx((3.8133, 6.5309), abs=1e-3)
    assert summary["er_category"] == "Low Positive"
    assert summary["borderline"] is False
    assert (summary["tissue_mm2"], summary["nuclei_per_mm2"]) == (2.5, 400.0)
    assert (summary["n_tiles"], summary["n_tiles_failed"], summary["mpp"]) == (40, 0, 0.25)
    assert summary["qc_flags"] == "density_low"
    for column in ("n_weak", "n_moderate", "n_strong", "h_score", "allred_total"):
        assert summary[column] is None  # a table without optical densities
    assert set(summary) - {"status", "message"} <= set(schema.COHORT_COLUMNS)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_other_classes_are_counted_one_by_one_and_all_but_the_negative_are_positive():
    labels = ["1+"] * 2 + ["2+"] * 3 + ["Tumor: negative"] * 5
    classes = pl.Enum(["1+", "Tumor: negative", "2+", "3+"])
    summary = summarise(pl.DataFrame({"label": labels}, schema={"label": classes}), tissue_mm2=1.0)
    assert (summary["n_nuclei"], summary["n_positive"], summary["n_negative"]) == (10, 5, 5)
    assert summary["percent_positive"] == 50.0
    counts = {name: value for name, value in summary.items() if name.startswith("n_class_")}
    assert list(counts.items()) == [
        ("n_class_1+", 2), ("n_class_Tumor: negative", 5), ("n_class_2+", 3), ("n_class_3+", 0)
    ]  # fmt: skip


def test_the_order_of_the_default_classes_adds_no_column():
    swapped = pl.DataFrame({"label": ["Positive"]}, schema={"label": pl.Enum(["Negative", "Positive"])})
    assert set(summarise(swapped, tissue_mm2=1.0)) == set(summarise(nuclei(1, 0), tissue_mm2=1.0))
    assert summarise(swapped, tissue_mm2=1.0)["n_positive"] == 1


def test_a_file_and_a_frame_score_the_same(tmp_path):
    table = nuclei(3, 4)
    table.write_parquet(tmp_path / "nuclei.parquet")
    expected = summarise(table, tissue_mm2=0.1)
    assert summarise(tmp_path / "nuclei.parquet", tissue_mm2=0.1) == expected
    assert summarise(str(tmp_path / "nuclei.parquet"), tissue_mm2=0.1) == expected
    assert summarise(table.lazy(), tissue_mm2=0.1) == expected


def test_no_nuclei_is_a_status_without_a_percentage():
    summary = summarise(nuclei(0, 0), tissue_mm2=3.0)
    assert summary["status"] == "no_nuclei"
    assert summary["message"]
    assert (summary["n_nuclei"], summary["nuclei_per_mm2"]) == (0, 0.0)
    for column in (
        "percent_positive",
        "ci_low",
        "ci_high",
        "er_category",
        "borderline",
        "qc_flags",
        "h_score",
    ):
        assert summary[column] is None


def test_failed_tiles_are_partial_even_where_no_nucleus_was_found():
    summary = summarise(nuclei(300, 700), tissue_mm2=1.0, n_tiles=1_200, n_tiles_failed=3)
    assert summary["status"] == "partial"
    assert summary["message"].startswith("3 of 1,200 tiles could not be read")
    assert summarise(nuclei(0, 0), tissue_mm2=1.0, n_tiles=9, n_tiles_failed=1)["status"] == "partial"


@pytest.mark.parametrize(
    ("counts", "options", "flags"),
    [
        ((10, 89), {}, "few_nuclei"),
        ((10, 90), {}, None),
        ((10, 189), {"settings": ScoreSettings(min_nuclei=200)}, "few_nuclei"),
        ((10_000, 10_000), {"tissue_mm2": 1.0}, None),  # exactly 20,000 per mm2 is not above it
        ((10_000, 10_001), {"tissue_mm2": 1.0}, "density_high"),
        ((250, 250), {"tissue_mm2": 1.0}, None),
        ((250, 249), {"tissue_mm2": 1.0}, "density_low"),
        ((250, 249), {"tissue_mm2": 1.0, "quality": QualitySettings(density_low=None)}, None),
        ((0, 0), {"tissue_mm2": 1.0}, None),  # a status, and no flag
        ((500, 500), {"mpp": 0.75, "detector_mpp": 0.5}, None),
        ((500, 500), {"mpp": 0.76, "detector_mpp": 0.5}, "low_resolution"),
        ((500, 500), {"n_tiles": 200, "n_tiles_failed": 2}, None),
        ((500, 500), {"n_tiles": 200, "n_tiles_failed": 3}, "tiles_failed"),
        (
            (50, 49),
            {"tissue_mm2": 0.001, "mpp": 1.0, "detector_mpp": 0.5, "n_tiles": 9, "n_tiles_failed": 1},
            "density_high;low_resolution;few_nuclei;tiles_failed",
        ),
    ],
)
def test_quality_flags(counts, options, flags):
    assert summarise(nuclei(*counts), **{"tissue_mm2": 0.1, **options})["qc_flags"] == flags


@pytest.mark.parametrize("area", [None, 0.0])
def test_density_is_empty_without_an_area(area):
    assert summarise(nuclei(1, 1), tissue_mm2=area)["nuclei_per_mm2"] is None


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match="1 nuclei are neither"):
        summarise(pl.DataFrame({"label": ["Positive", "Stroma"]}), tissue_mm2=1.0)
