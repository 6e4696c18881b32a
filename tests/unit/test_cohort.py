"""The cohort table: rows, columns, rounding, and text that cannot act in a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort.cohort import (
    RESEARCH_USE,
    format_table,
    make_table,
    one_line,
    read_cohort,
    round_percent,
    safe_text,
    table_text,
    write_cohort,
    write_groups,
    write_regions,
)
from ercohort.schema import COHORT_COLUMNS, GROUP_COLUMNS, REGION_COLUMNS

SCORED = {
    "slide_id": "b-2",
    "status": "ok",
    "message": "",
    "block": "A1",
    "n_nuclei": 3,
    "n_positive": 1,
    "n_negative": 2,
    "percent_positive": 100 / 3,
    "ci_low": 6.149,
    "ci_high": 79.234567,
    "er_category": "Positive",
    "borderline": True,
    "tissue_mm2": 1.23456,
    "nuclei_per_mm2": 2.43,
    "mpp": 0.2465123,
    "qc_flags": "few_nuclei",
}
GONE = {
    "slide_id": "a-1",
    "status": "missing",
    "message": "x.svs: no such file;\ncorrect `path`",
    "block": "=",
}


def read(path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_one_row_per_slide_in_sheet_order_with_the_columns_of_the_contract(tmp_path):
    write_cohort(tmp_path / "cohort_er.csv", [SCORED, GONE])
    header, first, second = read(tmp_path / "cohort_er.csv")
    assert header == ["slide_id", "status", "message", "block", *COHORT_COLUMNS]
    assert [first[0], second[0]] == ["b-2", "a-1"]
    cells = dict(zip(header, first, strict=True))
    assert cells["percent_positive"] == "33.33"
    assert (cells["ci_low"], cells["ci_high"]) == ("6.15", "79.23")
    assert (cells["tissue_mm2"], cells["nuclei_per_mm2"]) == ("1.235", "2.4")
    assert cells["mpp"] == "0.2465"
    assert cells["borderline"] == "true"
    assert cells["message"] == ""


def test_the_parquet_file_has_the_same_rows_as_numbers_and_text_as_it_was_given(tmp_path):
    table = write_cohort(tmp_path / "cohort_er.csv", [SCORED, GONE])
    typed = pl.read_parquet(tmp_path / "cohort_er.parquet")
    assert typed.equals(table, null_equal=True)
    assert typed.columns == read(tmp_path / "cohort_er.csv")[0]
    assert typed["percent_positive"].to_list() == [33.33, None]
    assert typed["n_nuclei"].to_list() == [3, None]
    assert typed["borderline"].to_list() == [True, None]
    assert typed["block"].to_list() == ["A1", "="]


def test_a_slide_without_values_has_empty_cells_never_zero(tmp_path):
    write_cohort(tmp_path / "cohort_er.csv", [GONE, {**SCORED, "percent_positive": float("nan")}])
    header, gone, scored = read(tmp_path / "cohort_er.csv")
    assert set(gone[4:]) == {""}
    assert scored[header.index("percent_positive")] == ""


def test_columns_keep_their_types_even_when_all_slides_are_bad():
    table = make_table([GONE])
    assert table["n_nuclei"].dtype == pl.Int64
    assert table["percent_positive"].dtype == pl.Float64
    assert table["er_category"].dtype == pl.String
    assert make_table([]).columns == ["slide_id", "status", "message", *COHORT_COLUMNS]


def test_counts_of_classes_come_last_as_whole_numbers(tmp_path):
    three = {**SCORED, "n_class_Positive": 1, "n_class_Weak": 0, "n_class_Negative": 2}
    table = write_cohort(tmp_path / "t.csv", [GONE, three])
    counted = ["n_class_Positive", "n_class_Weak", "n_class_Negative"]
    assert table.columns == ["slide_id", "status", "message", "block", *COHORT_COLUMNS, *counted]
    assert table.schema["n_class_Weak"] == pl.Int64
    header, gone, scored = read(tmp_path / "t.csv")
    assert (gone[-3:], scored[-3:]) == (["", "", ""], ["1", "0", "2"])
    assert header[-3:] == counted
    assert "b-2" in table_text(read_cohort(tmp_path / "t.csv"))


def test_a_column_of_the_sheet_that_looks_like_a_count_stays_text():
    rows = [{**SCORED, "n_class_Weak": "many"}, {**GONE, "n_class_Weak": 3}]
    assert make_table(rows)["n_class_Weak"].to_list() == ["many", "3"]


def test_numbers_stay_numbers(tmp_path):
    row = {**SCORED, "shift": "-5", "ratio": "+1.5e-3", "day": "-2-3", "block": "007"}
    write_cohort(tmp_path / "t.csv", [row])
    cells = dict(zip(*read(tmp_path / "t.csv"), strict=True))
    assert (cells["shift"], cells["ratio"], cells["block"]) == ("-5", "+1.5e-3", "007")
    assert cells["day"] == "'-2-3"
    assert pl.read_csv(tmp_path / "t.csv")["percent_positive"].dtype == pl.Float64


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("\n=1", "'=1"),
        ("  =1", "'=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ('"=1"', '\'"=1"'),
        ("fine;=1", "fine;'=1"),
        ("two\r\nlines", "two lines"),
        ("esc\x1b[31mred", "esc [31mred"),
        ("er-1; 0.5 = half", "er-1; 0.5 = half"),
        ("'=1", "'=1"),
        ("Brustkrebs µm, ÄÖ", "Brustkrebs µm, ÄÖ"),
        ("", ""),
    ],
)
def test_text_cannot_act_in_a_spreadsheet(text, safe):
    assert safe_text(text) == safe


@given(st.text(max_size=30))
def test_no_text_begins_as_a_formula_or_breaks_its_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_cohort(path, [{**GONE, "message": text, "block": text}])
    rows = read(path)
    assert len(rows) == 2
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    for cell in rows[1]:
        assert cell[:1] not in ("@", "=", "\t", "\r")
        if cell[:1] in ("+", "-"):  # a number, or signs alone
            assert re.fullmatch(r"[+/-]+|[+-][\d.,]+([eE][+-]?\d+)?\s*%?", cell), cell


def test_a_column_name_is_neutralised_too(tmp_path):
    write_cohort(tmp_path / "t.csv", [{**GONE, "=cmd": "x"}])
    assert read(tmp_path / "t.csv")[0][4] == "'=cmd"


def test_quotes_and_commas_survive_reading(tmp_path):
    write_cohort(tmp_path / "t.csv", [{**GONE, "message": 'say "no", then stop'}])
    assert read(tmp_path / "t.csv")[1][2] == 'say "no", then stop'


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(OSError, match="no space left"):
        write_cohort(path, [GONE])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        (33.33333, 33.33),
        (0.999, 0.99),  # below 1 %: the row says Negative
        (0.9951, 0.99),
        (1.0, 1.0),
        (1.001, 1.01),
        (9.9999, 9.99),
        (10.0, 10.0),
        (10.0001, 10.01),
        (100.0, 100.0),
        (0.0, 0.0),
    ],
)
def test_a_rounded_percentage_stays_on_its_side_of_the_cut_offs(exact, rounded):
    assert round_percent(exact) == rounded


@pytest.mark.parametrize(("exact", "rounded"), [(9.96, 9.9), (0.96, 0.9), (10.04, 10.1), (10.0, 10.0)])
def test_one_decimal_stays_on_its_side_too(exact, rounded):
    assert f"{round_percent(exact, 1):.1f}" == f"{rounded:.1f}"


@given(st.floats(0, 100))
def test_rounding_never_contradicts_the_category(percent):
    rounded = round_percent(percent)
    assert abs(rounded - percent) <= 0.0100001
    for cut in (1, 10):
        assert (rounded > cut, rounded < cut) == (percent > cut, percent < cut)


def test_the_last_screen_names_what_needs_attention():
    odd = {"slide_id": "glass", "status": "no_tissue", "message": "no tissue [bold]found[/bold]"}
    screen = table_text([SCORED, GONE, odd], width=100)
    assert max(map(len, screen.splitlines())) <= 100
    assert "1 of 3 slides need attention:" in screen
    assert "a-1 (missing): x.svs: no such file; correct `path`" in screen
    assert "glass (no_tissue): no tissue [bold]found[/bold]" in screen
    row = next(line for line in screen.splitlines() if line.startswith("b-2"))
    assert " ".join(row.split()) == "b-2 ok 3 33.33 6.15 - 79.23 Positive borderline, few nuclei"
    assert screen.rstrip().endswith(RESEARCH_USE)


def test_the_last_screen_of_a_good_run():
    screen = table_text([SCORED])
    assert "No slide failed; look at the 1 with a note." in screen
    assert "No slide failed.\n" in table_text([{**SCORED, "borderline": False, "qc_flags": None}])
    assert "see below" not in screen


def test_long_ids_do_not_widen_the_screen():
    screen = table_text([{**SCORED, "slide_id": "x" * 100}], width=100)
    assert max(map(len, screen.splitlines())) <= 100
    assert screen.count("x") == 100
    assert format_table([SCORED]) is not None


def test_one_line_keeps_inner_spaces():
    assert one_line("a  b\n\nc\u2028d") == "a  b c d"


def test_every_region_has_a_row_and_so_has_a_slide_that_has_none(tmp_path):
    score = {"n_nuclei": 10, "n_positive": 4, "percent_positive": 40.0, "message": "", "n_tiles": 3}
    regions = [
        {**score, "region": "tumour", "counted": True},
        {**score, "region": "=Control", "counted": False},
    ]
    summaries = [
        {"row": {"slide_id": "a", "status": "ok"}, "regions": regions},
        {"row": {"slide_id": "b", "status": "missing"}, "regions": []},
    ]
    sheet = [{"slide_id": "a", "block": "A1"}, {"slide_id": "b", "block": "A2"}]
    write_regions(tmp_path / "regions.csv", sheet, summaries)
    table = pl.read_csv(tmp_path / "regions.csv")
    assert table.columns == ["slide_id", "status", "block", *REGION_COLUMNS]
    shown = table.select("slide_id", "block", "status", "region", "counted", "n_nuclei").rows()
    assert shown == [
        ("a", "A1", "ok", "tumour", True, 10),
        ("a", "A1", "ok", "'=Control", False, 10),
        ("b", "A2", "missing", None, None, None),
    ]


def test_groups_are_written_in_the_columns_of_a_score(tmp_path):
    groups = [
        {"patient": "p", "n_slides": 2, "n_slides_counted": 1, "n_nuclei": 10, "percent_positive": 9.999}
    ]
    write_groups(tmp_path / "groups.csv", "patient", groups)
    table = pl.read_csv(tmp_path / "groups.csv")
    assert table.columns == ["patient", *GROUP_COLUMNS]
    assert table.row(0)[:4] == ("p", 2, 1, 10)
    assert table["percent_positive"][0] == 9.99  # below 10 %, and so on its side of it
