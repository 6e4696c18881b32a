"""The workflow as a user runs it: one table whatever the slides are, and nothing done twice."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ercohort import schema
from ercohort.config import load_config
from ercohort.files import read_json
from ercohort.run import run_slide
from ercohort.steps.export import PICTURES
from ercohort.verify import verify_results
from tests.workflow.conftest import ROOT, Folder, ran

pytestmark = pytest.mark.slow

SAME_BYTES = (
    "cohort_er.csv",
    *(f"slides/one/{name}" for name in ("nuclei.parquet", "nuclei.geojson.zip", "overlay.jpg")),
)


@pytest.fixture(scope="module")
def cohort(slides, tmp_path_factory):
    """A finished run over good and bad slides: the folder, and what the run printed."""
    path = tmp_path_factory.mktemp("cohort")
    (path / "config").mkdir()
    folder = Folder(path)
    folder.write_config()
    nonsense = path / "nonsense.svs"
    nonsense.write_bytes(b"this is no slide" * 100)
    picture = path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    folder.write_sheet(
        ("one", str(slides / "one.tif"), "", "A1"),
        ("gone", str(path / "gone.svs"), "", "=HYPERLINK(1)"),
        ("glass", str(slides / "glass.tif"), "", ""),
        ("nonsense", str(nonsense), "", ""),
        ("picture", str(picture), "0.5", ""),
        ("far", str(slides / "two.tif"), "352.9", ""),
    )
    return folder, folder.snakemake()


def test_every_row_of_the_sheet_is_a_row_of_the_table(cohort):
    folder, result = cohort
    assert result.returncode == 0, result.stdout + result.stderr
    table = folder.table()
    assert dict(zip(table["slide_id"], table["status"], strict=True)) == {
        "one": "ok",
        "gone": "missing",
        "glass": "no_tissue",
        "nonsense": "unreadable",
        "picture": "unreadable",
        "far": "no_mpp",
    }
    assert table.columns == ["slide_id", "status", "message", "block", *schema.COHORT_COLUMNS]


def test_bad_slides_have_a_message_and_no_counts(cohort):
    bad = cohort[0].table().filter(pl.col("status").is_in(["missing", "unreadable", "no_mpp"]))
    assert bad["message"].str.len_chars().min() > 20
    assert "352.9" in bad.filter(slide_id="far")["message"].item()
    assert bad["n_nuclei"].null_count() == len(bad)
    assert bad["percent_positive"].null_count() == len(bad)


def test_the_counts_are_those_of_the_nuclei(cohort):
    folder, _ = cohort
    row = folder.table().row(0, named=True)
    nuclei = pl.read_parquet(folder.path / "results/slides/one/nuclei.parquet")
    assert dict(nuclei.schema) == schema.NUCLEI
    assert row["n_nuclei"] == len(nuclei) > 100
    assert row["n_positive"] == (nuclei["label"] == "Positive").sum()
    assert row["backend"] == "openvino"
    assert row["precision"] == "f32"


def test_formulas_in_the_sheet_are_inert_in_the_table(cohort):
    text = (cohort[0].path / "results/cohort_er.csv").read_text()
    assert "'=HYPERLINK(1)" in text
    assert ",=HYPERLINK" not in text


def test_the_last_screen_names_the_bad_slides_and_the_cpu(cohort):
    _, result = cohort
    screen = result.stdout
    assert "4 of 6 slides need attention" in screen
    for slide in ("gone", "nonsense", "picture", "far"):
        assert f"{slide} (" in screen
    assert "using the CPU" in screen
    assert "Research use only" in screen


def test_every_slide_has_its_files(cohort):
    folder, _ = cohort
    for slide in folder.table()["slide_id"]:
        made = folder.path / "results/slides" / slide
        assert (made / "overlay.jpg").stat().st_size > 1000
        assert zipfile.ZipFile(made / "nuclei.geojson.zip").testzip() is None
        assert not (made / "shards").exists()


def test_a_second_run_does_nothing(cohort):
    result = cohort[0].snakemake("--dry-run")
    assert "Nothing to be done" in result.stdout + result.stderr


def test_nothing_runs_again_for_a_touched_slide_or_script(cohort, slides):
    (slides / "one.tif").touch()
    (ROOT / "workflow/scripts/merge.py").touch()
    result = cohort[0].snakemake("--dry-run")
    assert "Nothing to be done" in result.stdout + result.stderr


def test_adding_a_row_runs_one_slide_and_the_table(cohort, slides):
    folder, _ = cohort
    sheet = folder.path / "config/samples.tsv"
    before = sheet.read_text()
    sheet.write_text(before + f"two\t{slides / 'two.tif'}\t\t\n")
    try:
        jobs = ran(folder.snakemake("--dry-run"))
    finally:
        sheet.write_text(before)
    assert jobs.pop("cohort") == 1
    assert jobs.pop("checksums") == jobs.pop("report") == 1
    jobs.pop("all")
    assert set(jobs) == {
        "tissue_tiles", "detect_shard", "merge", "geojson_overlay",
    }  # fmt: skip
    assert set(jobs.values()) == {1}


def test_the_report_holds_every_slide_and_how_the_table_was_made(cohort):
    folder, _ = cohort
    page = (folder.path / "results/report/index.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    slides = {slide["id"]: slide for slide in data["slides"]}
    assert list(slides) == ["gone", "nonsense", "picture", "far", "one", "glass"]
    assert "no such file" in slides["gone"]["row"]["message"]
    assert slides["one"]["simulated"]
    assert slides["one"]["row"]["percent_positive"] == folder.table()["percent_positive"][0]
    assert slides["one"]["regions"][0]["region"] == "tissue"
    assert {picture["file"] for picture in slides["one"]["pictures"]} == set(PICTURES)
    assert data["run"]["config"]["samples"] == "config/samples.tsv"


def test_removing_a_row_runs_the_table_alone(cohort):
    folder, _ = cohort
    sheet = folder.path / "config/samples.tsv"
    before = sheet.read_text()
    sheet.write_text("".join(line for line in before.splitlines(True) if not line.startswith("glass")))
    try:
        jobs = ran(folder.snakemake("--dry-run"))
    finally:
        sheet.write_text(before)
    assert jobs == {"cohort": 1, "checksums": 1, "report": 1, "all": 1}


def test_a_slide_that_was_replaced_runs_again(cohort):
    folder, _ = cohort
    slide = folder.path / "nonsense.svs"
    before = slide.read_bytes()
    slide.write_bytes(before[::-1])
    try:
        jobs = ran(folder.snakemake("--dry-run"))
    finally:
        slide.write_bytes(before)
    assert jobs["tissue_tiles"] == 1


def test_a_second_config_changes_only_what_it_names(cohort):
    folder, _ = cohort
    (folder.path / "other.yaml").write_text("geojson:\n  frame: slide\ndetect:\n")
    jobs = ran(folder.snakemake("--dry-run", "--configfile", "config/config.yaml", "other.yaml"))
    assert jobs == {"geojson_overlay": 6, "cohort": 1, "checksums": 1, "report": 1, "all": 1}


def test_a_slide_that_appears_runs_alone(cohort, slides):
    folder, _ = cohort
    shutil.copy(slides / "two.tif", folder.path / "gone.svs")
    try:
        jobs = ran(folder.snakemake("--dry-run"))
    finally:
        (folder.path / "gone.svs").unlink()
    assert jobs["tissue_tiles"] == 1
    assert jobs["cohort"] == 1


def test_the_record_holds_all_settings_and_the_whole_hash_of_the_model(cohort):
    folder, _ = cohort
    record = read_json(folder.path / "results/run.json")
    config = load_config(folder.path / "config/config.yaml")
    assert record["config"] == config.model_dump(mode="json")
    model = hashlib.sha256(Path(config.model).read_bytes()).hexdigest()
    assert record["model"]["sha256"] == model
    assert folder.table()["model"].to_list() == [f"er-yolov8n@{model[:12]}"] * 6
    assert record["devices"][0]["backend"] == "openvino"


def test_a_file_edited_by_hand_is_found_and_made_again_the_same_to_the_byte(cohort):
    folder, _ = cohort
    results = folder.path / "results"
    assert verify_results(results).problems == []
    before = {name: (results / name).read_bytes() for name in SAME_BYTES}
    nuclei = results / "slides/one/nuclei.parquet"
    pl.read_parquet(nuclei)[:-1].write_parquet(nuclei)
    problems = verify_results(results).problems
    assert [problem.partition(": ")[0] for problem in problems] == [str(nuclei)]
    assert f"add `--forcerun {nuclei}` to your snakemake command" in problems[0]
    done = folder.snakemake("--forcerun", "results/slides/one/nuclei.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify_results(results).problems == []
    assert {name: (results / name).read_bytes() for name in SAME_BYTES} == before


def test_shards_change_no_byte(cohort, slides, folder):
    done, _ = cohort
    folder.write_sheet(("one", str(slides / "one.tif"), "", ""))
    made = [f"results/slides/one/{name}" for name in ("nuclei.parquet", "tiles.parquet")]
    result = folder.snakemake("--set-scatter", "shard=3", "--", *made)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in made:
        assert (folder.path / name).read_bytes() == (done.path / name).read_bytes()


def test_strict_writes_the_table_and_fails(folder):
    folder.write_config(strict=True)
    folder.write_sheet(("gone", "nowhere.svs", "", ""))
    result = folder.snakemake()
    assert result.returncode != 0
    assert folder.table()["status"].to_list() == ["missing"]
    assert "gone (missing)" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("sheet", "config", "words"),
    [
        ("slide_id\tpath\na/b\tx\n", {}, "config/samples.tsv, line 2: slide_id 'a/b'"),
        ("slide_id\tpath\na\tx\n", {"detect": {"scor": 1}}, "config/config.yaml: `detect.scor`"),
        ("slide_id\tpath\na\tx\n", {"model": "config/config.yaml"}, "ercohort: config/config.yaml: "),
        ("slide_id\tpath\na\tx\n", {"model": "nowhere.onnx"}, "ercohort: nowhere.onnx: "),
        ("slide_id\tpath\na\tx\n", {"backend": "tensorrt"}, "ercohort: backend `tensorrt`"),
    ],
)
def test_mistakes_are_one_readable_line_before_any_job(folder, sheet, config, words):
    folder.write_config(**config)
    (folder.path / "config/samples.tsv").write_text(sheet)
    result = folder.snakemake()
    printed = result.stdout + result.stderr
    assert result.returncode != 0
    assert words in printed
    assert "Traceback" not in printed
    assert not (folder.path / "results").exists()


def test_one_slide_by_hand_gives_the_same_nuclei(cohort, slides, tmp_path):
    done, _ = cohort
    config = load_config(done.path / "config/config.yaml")
    told = []
    made = run_slide(
        str(slides / "one.tif"), tmp_path, config, mpp=None, gpu=0, report=lambda *step: told.append(step)
    )
    for name in ("tiles.parquet", "nuclei.parquet", "nuclei.geojson.zip", *PICTURES):
        by_workflow = done.path / "results/slides/one" / name
        assert (tmp_path / name).read_bytes() == by_workflow.read_bytes()
    assert made.row["n_nuclei"] == pl.read_parquet(tmp_path / "nuclei.parquet").height
    assert told[-1][0] == "pictures"
    n_tiles = made.row["n_tiles"]
    assert ("nuclei", n_tiles, n_tiles) in told


def test_snakemake_looks_for_work_when_a_job_ends_and_not_each_second_for_every_job_before(cohort):
    """Its default limit of jobs a second (9.27) does that."""
    folder, _ = cohort
    draw = ("--verbose", "--forcerun", "geojson_overlay", "--cores", "1")
    done = folder.snakemake(*draw)
    assert done.returncode == 0
    looked, ended = done.stderr.count("Ready jobs:"), done.stderr.count("Finished jobid:")
    assert 6 <= ended <= 12
    assert looked <= ended + 2


def test_snakemake_s_own_report_holds_the_table_and_the_plots(cohort, tmp_path):
    done, _ = cohort
    result = done.snakemake("--report", str(tmp_path / "report.zip"))
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = [Path(name).name for name in archive.namelist()]
        assert {"cohort_er.csv", "percent_positive.svg", "examples.jpg", "report.html"} <= set(names)
        table = next(name for name in archive.namelist() if name.endswith("cohort_er.csv"))
        assert archive.read(table) == (done.path / "results/cohort_er.csv").read_bytes()


def test_paths_from_hostile_hands_become_statuses_and_nothing_is_executed(slides, tmp_path):
    (tmp_path / "config").mkdir()
    folder = Folder(tmp_path)
    folder.write_config()
    shown = tmp_path / "executed"
    paths = {
        "shell": f"$(touch {shown}).svs", "chain": f"a.svs; touch {shown}", "wildcard": "{slide}<input>.svs",
        "format": "{0.__class__}*.tif", "store": "s3://bucket/a.svs", "up": "../../../../etc/passwd",
        "escape": "\x1b[31mit's\u202e.svs", "device": "/dev/zero",
    }  # fmt: skip
    folder.write_sheet(("good", str(slides / "one.tif"), "", ""), *((k, v, "", "") for k, v in paths.items()))
    result = folder.snakemake("--", "results/cohort_er.csv")
    assert result.returncode == 0, result.stdout + result.stderr
    table = folder.table()
    found = dict(zip(table["slide_id"], table["status"], strict=True))
    assert found.pop("good") == "ok"
    assert set(found) == set(paths)
    assert set(found.values()) <= {"missing", "unreadable"}
    assert not shown.exists()
    assert "\x1b[31m" not in result.stdout + result.stderr
