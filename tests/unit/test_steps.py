"""The bodies of the rules, where the workflow tests do not reach."""

import polars as pl
import pytest

from ercohort import schema, slide_score
from ercohort.config import DetectSettings
from ercohort.errors import Status
from ercohort.files import read_json, write_json, write_table
from ercohort.record import SlideRecord, TissueRecord
from ercohort.steps.merge import merge_slide
from tests.unit.test_record import INFO

FAILED_TILE = [3, 64, 128, "cannot be decoded"]


@pytest.fixture
def merge(tmp_path):
    """Merge a slide of ten tiles and one nucleus; returns its row and its nuclei."""

    def run(n_failed=0, dropped=0, **settings):
        tissue = TissueRecord(16.0, 16.0, (245.0, 245.0, 245.0), 2.0)
        SlideRecord("a", "a.svs", Status.OK, "", INFO, tissue).write(tmp_path / "slide.json")
        nucleus = {"x0": [1.0], "y0": [1.0], "x1": [9.0], "y1": [9.0], "score": [0.9], "label": ["Positive"]}
        nucleus |= {"dab_od": [0.5], "hematoxylin_od": [0.2], "tile_id": [0], "cut": [False], "open": [False]}
        write_table(tmp_path / "1.parquet", pl.DataFrame(nucleus), schema.DETECTIONS)
        record = {
            "status": "ok",
            "message": "",
            "n_tiles": 10,
            "failed": [FAILED_TILE] * n_failed,
            "seconds": 1.5,
            "dropped_boxes": dropped,
        }
        write_json(tmp_path / "1.json", record | {"model": "m", "backend": "openvino", "precision": "f32"})
        merge_slide(
            detections=[tmp_path / "1.parquet"],
            records=[tmp_path / "1.json"],
            settings=DetectSettings(**settings),
            detector_mpp=0.5,
            folder=tmp_path,
        )
        return read_json(tmp_path / "summary.json")["row"], pl.read_parquet(tmp_path / "nuclei.parquet")

    return run


@pytest.mark.parametrize(
    ("n_failed", "share", "status", "n_nuclei"),
    [(0, 0.5, "ok", 1), (5, 0.5, "partial", 1), (6, 0.5, "unreadable", None), (10, 1.0, "unreadable", None)],
)
def test_failed_tiles_make_a_slide_partial_and_then_unreadable(merge, n_failed, share, status, n_nuclei):
    row, nuclei = merge(n_failed, max_failed_share=share)
    assert row["status"] == status
    assert row.get("n_nuclei") == n_nuclei
    assert len(nuclei) == (n_nuclei or 0)
    assert row["n_tiles_failed"] == n_failed
    assert (row["backend"], row["precision"], row["model"]) == ("openvino", "f32", "m")


def test_the_tiles_that_failed_are_listed_for_a_spreadsheet(merge, tmp_path):
    merge(0)
    assert (tmp_path / "failed_tiles.csv").read_text() == "tile_id,x,y,message\n"
    merge(2)
    lines = ["3,64,128,cannot be decoded", "3,64,128,cannot be decoded"]
    assert (tmp_path / "failed_tiles.csv").read_text().splitlines()[1:] == lines


@pytest.mark.parametrize(
    ("dropped", "flags"), [(0, "density_low;few_nuclei"), (7, "density_low;few_nuclei;boxes_dropped")]
)
def test_boxes_that_are_no_numbers_are_flagged(merge, dropped, flags):
    row, _ = merge(dropped=dropped)
    assert row["qc_flags"] == flags


@pytest.mark.parametrize(("min_dab_od", "n_positive"), [(None, 1), (0.5, 1), (0.51, 0)])
def test_a_nucleus_paler_than_the_cut_is_counted_as_negative(merge, min_dab_od, n_positive):
    row, nuclei = merge(min_dab_od=min_dab_od)
    assert (row["n_nuclei"], row["n_positive"], row["n_negative"]) == (1, n_positive, 1 - n_positive)
    assert nuclei["label"].to_list() == (["Positive"] if n_positive else ["Negative"])


def test_an_error_nobody_foresaw_is_a_row_and_not_the_end_of_the_table(merge, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(slide_score, "score_slide", broken)
    row, nuclei = merge()
    assert row["status"] == "failed"
    assert "ZeroDivisionError" in row["message"]
    assert len(nuclei) == 0
    assert dict(nuclei.schema) == schema.NUCLEI


def test_the_summary_holds_the_number_behind_every_flag(merge, tmp_path):
    merge(dropped=7)
    judged = read_json(tmp_path / "summary.json")["quality"]
    assert judged["density_low"] == {"value": 0.5, "threshold": 500.0, "raised": True}
    assert judged["boxes_dropped"] == {"value": 7, "threshold": 0, "raised": True}
    assert judged["low_resolution"]["raised"] is False
    assert judged["pen"] == {"value": None, "threshold": 0.005, "raised": False}
