"""What is known of a cohort when a run ends before its table."""

from __future__ import annotations

import polars as pl

from ercohort.files import write_json
from ercohort.unfinished import NOT_DONE, UNFINISHED, remove_unfinished, write_unfinished

SHEET = [{"slide_id": "a", "block": "=A1"}, {"slide_id": "b", "block": "B"}, {"slide_id": "c", "block": "C"}]


def test_finished_slides_have_their_rows_and_the_others_say_so(tmp_path):
    row = {"slide_id": "a", "status": "ok", "message": "", "n_nuclei": 200, "n_positive": 100}
    write_json(tmp_path / "slides/a/summary.json", {"row": row | {"percent_positive": 50.0}})
    (tmp_path / "slides/b").mkdir()
    (tmp_path / "slides/b/summary.json").write_text('{"row": {"sta')
    screen = write_unfinished(tmp_path, SHEET)
    assert "2 of 3 slides need attention" in screen
    table = pl.read_csv(tmp_path / UNFINISHED, infer_schema=False)
    assert table["slide_id"].to_list() == ["a", "b", "c"]
    assert table["n_nuclei"].to_list() == ["200", None, None]
    assert table["message"].to_list()[1:] == [NOT_DONE, NOT_DONE]
    assert table["block"].to_list() == ["'=A1", "B", "C"]  # inert, as in the cohort's table
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path)
    assert not (tmp_path / UNFINISHED).exists()


def test_where_nothing_is_finished_there_is_no_table(tmp_path):
    assert write_unfinished(tmp_path, SHEET) == ""
    assert not list(tmp_path.iterdir())
