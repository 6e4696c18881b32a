"""What the benchmark's tables rely on: who counted what, what a target means, names that say all."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ercohort import files

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Import the benchmark's modules by the names that they have for each other, and forget them again."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in set(sys.modules) - known:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def boxes_at(*centres):
    centre = np.array(centres, float).reshape(-1, 2)
    return np.hstack([centre - 5, centre + 5])


def test_nuclei_are_counted_one_to_one():
    from peers import count

    planted = boxes_at((50, 50), (65, 50), (200, 200), (400, 400))
    found = boxes_at((51, 50), (49, 51), (66, 50), (300, 300), (201, 203))
    assert count(found, planted, 6.0) == {"matched": 3, "lost": 1, "doubled": 1, "elsewhere": 1}
    assert count(planted, planted, 6.0) == {"matched": 4, "lost": 0, "doubled": 0, "elsewhere": 0}
    assert count(boxes_at(), planted, 6.0) == {"matched": 0, "lost": 4, "doubled": 0, "elsewhere": 0}
    assert count(found, boxes_at(), 6.0)["elsewhere"] == 5


def test_a_target_is_reached_from_its_own_side():
    from figures import Figure

    assert Figure("time", 3.9, "s", at_most=4.0).reached is True
    assert Figure("time", 4.1, "s", at_most=4.0).reached is False
    assert Figure("speed", 5.0, "x", at_least=5.0).reached is True
    assert Figure("speed", 4.9, "x", at_least=5.0).reached is False
    assert Figure("size", 1.0, "MB").reached is None
    assert Figure("time", float("nan"), "s", at_most=4.0).reached is False


def test_results_name_every_figure_in_full(tmp_path):
    from figures import Figure, Part, write_results

    figures = [
        Figure("total", 2.0, "s", 4.0), Figure("  merge", 1.0, "s"),
        Figure("SVS: all", 3.0, "s"), Figure("  network", 4.0, "s"),
    ]  # fmt: skip
    part = Part("Part", figures)
    write_results(tmp_path / "results.json", [part], {"machine": "m", "revision": "r"})
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["machine"], results["revision"]) == ("m", "r")
    assert [figure["name"] for figure in results["figures"]] == [
        "total",
        "total: merge",
        "SVS: all",
        "SVS: network",
    ]
    assert results["figures"][0] == {
        "part": "Part", "name": "total", "value": 2.0, "unit": "s", "target": "≤ 4", "reached": True,
    }  # fmt: skip


def test_growth_is_told_by_its_exponent():
    from children import exponent

    assert exponent([10, 100, 1000], [1, 10, 100]) == pytest.approx(1.0)
    assert exponent([10, 100, 1000], [1, 100, 10_000]) == pytest.approx(2.0)


def test_a_slide_that_is_not_counted_is_no_measurement(tmp_path):
    from children import ChildError, do

    with pytest.raises(ChildError, match="missing"):
        do("run_slide", slide=str(tmp_path / "none.tiff"), out=str(tmp_path / "out"))


def test_a_task_reports_its_own_time_and_memory():
    from children import do

    done = do("merge", n=1000)
    assert 0.0 < done["seconds"] < done["wall"]
    assert 50.0 < done["peak_mb"] < 2000.0
    assert files.__file__  # the package under test is the one beside the benchmark


def test_a_row_that_is_not_what_was_put_on_disk_is_named(tmp_path):
    from thousand import Planned, wrong_rows

    (tmp_path / "slides").mkdir()
    for name, n_nuclei in (("a", 3), ("d", 0)):
        pl.DataFrame({"x0": [0.0] * n_nuclei}).write_parquet(tmp_path / f"slides/{name}.truth.parquet")
    kinds = {"a": "good", "b": "glass", "c": "cut off", "d": "good"}
    planned = [Planned(name, kind) for name, kind in kinds.items()]
    told = {"slide_id": list(kinds), "status": ["ok", "no_tissue", "unreadable", "no_nuclei"]}

    def wrong(table):
        return wrong_rows(tmp_path, table, planned)

    assert wrong(pl.DataFrame(told)) == []
    assert wrong(pl.DataFrame({**told, "status": ["ok", "ok", "unreadable", "ok"]})) == [
        "b (glass): ok", "d (good): ok",
    ]  # fmt: skip
    assert wrong(pl.DataFrame(told)[:3])[0] == "d (good): no row"
    assert wrong(pl.DataFrame(told)[::-1]) == ["the rows are not those of the sheet, in its order"]


def test_the_demo_is_run_without_this_environment(monkeypatch):
    from first_run import base_python, clean_environment

    own = str(Path(sys.prefix) / "bin")
    monkeypatch.setenv("PATH", f"{own}:/usr/bin")
    monkeypatch.setenv("PYTHONPATH", "src")
    environment = clean_environment()
    assert environment["PATH"] == "/usr/bin"
    assert "PYTHONPATH" not in environment
    assert Path(base_python()).is_file()


def test_the_precisions_are_compared_on_the_planted_nuclei(tmp_path, monkeypatch):
    import slides
    from children import do

    monkeypatch.setattr(slides, "CACHE", tmp_path)
    slide = slides.planted(1 / 1024, tissue_share=0.9)
    found = do("compare_precisions", slide=str(slide), repeat=1)
    assert found["order"][0] == "f32"
    assert found["auto"] in found["order"]
    for name in found["order"]:
        assert found[name]["network"] > 0.0
        assert found[name]["stage"] > 0.0
        assert found[name]["agreement"] > 0.98
        assert found[name]["f1"] > 0.9
        assert found[name]["class_mean_f1"] > 0.9
    assert found["f32"]["agreement"] == 1.0


def test_int8_is_shown_beside_the_precision_that_it_would_replace():
    from precisions import _figures

    one = {
        "stage": 0.02,
        "network": 0.01,
        "f1": 0.99,
        "class_mean_f1": 0.98,
        "agreement": 0.985,
        "least": 0.99,
    }
    found = {"order": ["f32", "bf16", "int8"], "f32": one, "bf16": one, "int8": one | {"network": 0.005}}
    figures = {figure.name.strip(): figure for figure in _figures("int8", found)}
    assert figures["int8: whole stage"].value == 20.0
    assert figures["network's time / bf16's"].value == 0.5
    assert figures["F1 against float32's nuclei"].reached is False
    assert "F1 against float32's nuclei" not in [figure.name.strip() for figure in _figures("f32", found)]


def test_annotated_fields_that_are_not_there_are_said_to_be_missing(tmp_path, monkeypatch):
    import precisions

    monkeypatch.setattr(precisions, "FIELDS", tmp_path / "none")
    figures, remark = precisions._on_fields(["f32", "int8"], tmp_path)
    assert figures == []
    assert "not measured" in remark


def test_shares_close_to_one_keep_what_tells_them_apart():
    from figures import number

    assert [number(value) for value in (0.99617, 1.0, 0.5, 12.34, 1234.5)] == [
        "0.9962",
        "1",
        "0.5",
        "12.3",
        "1,234",
    ]


def test_memory_is_held_against_a_slide_of_as_many_nuclei(monkeypatch):
    import scaling
    import slides

    drawn = []

    def planted(area, nuclei_per_mm2=slides.NUCLEI_PER_MM2):
        drawn.append((area, nuclei_per_mm2))
        return area

    def run(area, cores=None):
        peak = 500.0 if area == 0.5 else 400.0
        return {"peak_mb": dict.fromkeys(scaling.STAGES, peak), "row": {"n_nuclei": 1000}}

    monkeypatch.setattr(scaling.slides, "planted", planted)
    monkeypatch.setattr(scaling, "_run", run)
    figures = {figure.name.strip(): figure for figure in scaling._wider(0.5)}
    nuclei = [area * density for area, density in drawn]
    assert len(nuclei) == 2
    assert nuclei[0] == pytest.approx(nuclei[1])
    ratio = figures["peak memory / that of the smaller slide"]
    assert (ratio.value, ratio.reached) == (1.25, False)
