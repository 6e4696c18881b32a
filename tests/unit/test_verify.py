"""`ercohort verify`: every way in which results can stop being what the run wrote is named, with its cure."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ercohort import schema
from ercohort.checksums import COHORT_FILES, SLIDE_FILES, collect, note, read_collected
from ercohort.config import Config
from ercohort.errors import InputError
from ercohort.files import read_json, write_json, write_table
from ercohort.run import run_slide
from ercohort.steps.cohort import write_cohort_table
from ercohort.steps.engine import prepare_engine
from ercohort.verify import verify_results
from tests.tiny_onnx import write_detector, write_marked_slide

SLIDES = ("S1", "gone")
N_NUCLEI = 30


def silent(*_):
    """Take the progress of a run."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The working directory of a finished run over a slide with nuclei and one that is missing."""
    folder = tmp_path_factory.mktemp("finished")
    model = write_detector(folder / "tiny.onnx")
    write_marked_slide(folder / "S1.tif", [(7, 3, 20)] + [(0, 0, 0)] * 3)
    config = Config(model=str(model), precision="f32", samples=str(folder / "samples.tsv"))
    (folder / "samples.tsv").write_text("slide_id\tpath\n")
    results = folder / "results"
    for name in SLIDES:
        path = str(folder / f"{name}.tif")
        made = run_slide(path, results / "slides" / name, config, mpp=None, gpu=0, report=silent)
        (made.folder / "engine.json").unlink()
        (made.folder / "checksums/engine.json").unlink()
    prepare_engine(
        model=str(model), backend="auto", precision="f32", output=results / "engine/engine.json", gpu=0
    )
    write_table_of(results, config)
    collect(results, SLIDES)
    return folder


def write_table_of(results: Path, config: Config) -> None:
    write_cohort_table(
        summaries=[results / "slides" / name / "summary.json" for name in SLIDES],
        sheet=[{"slide_id": name, "block": "=A1"} for name in SLIDES],
        engine=results / "engine/engine.json",
        config=config.model_dump(mode="json"),
        workflow=results,
        table=results / "cohort_er.csv",
        timings=results / "timings.csv",
        record=results / "run.json",
        regions=results / "cohort_er_regions.csv",
    )


@pytest.fixture
def results(finished, tmp_path) -> Path:
    """A copy that may be spoiled; its slides are where they were."""
    shutil.copytree(finished / "results", tmp_path / "results")
    return tmp_path / "results"


def only_problem(results: Path) -> str:
    problems = verify_results(results).problems
    assert len(problems) == 1, problems
    return problems[0]


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_finished_run_is_as_it_was_written(results):
    told = []
    found = verify_results(results, lambda done, total: told.append((done, total)))
    assert (found.problems, found.notes) == ([], [])
    assert (found.n_slides, found.n_files) == (2, 2 * len(SLIDE_FILES) + len(COHORT_FILES) + 1)
    listed = read_collected(results / "checksums.sha256")
    assert told[-1] == (sum((results / name).stat().st_size for name in listed),) * 2


def test_sha256sum_agrees(results):
    command = ["sha256sum", "--check", "--strict", "--quiet", "checksums.sha256"]
    done = subprocess.run(command, cwd=results, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rewrite(results / "timings.csv", "S1", "S2")
    done = subprocess.run(command, cwd=results, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "timings.csv: FAILED" in done.stdout


@pytest.mark.parametrize(
    ("name", "forced"),
    [
        ("run.json", "cohort_er.csv"),
        ("cohort_er.csv", "cohort_er.csv"),
        ("timings.csv", "cohort_er.csv"),
        ("engine/engine.json", "engine/engine.json"),
        *((f"slides/S1/{name}", f"slides/S1/{name}") for name in SLIDE_FILES),
    ],
)
def test_a_file_that_is_missing_cut_off_or_edited_is_named(finished, results, name, forced):
    path = results / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])
    edited = only_problem(results)
    assert edited.startswith(f"{path}: ")
    assert "not what the run wrote" in edited or "cannot be read" in edited
    assert f"--forcerun {results / forced}" in edited
    path.write_bytes(whole[:-1])
    cut = only_problem(results)
    assert cut.startswith(f"{path}: ")
    assert "bytes that were written" in cut or name in ("run.json", "engine/engine.json")
    path.unlink()
    lost = only_problem(results)
    assert lost.startswith(f"{path}: is missing")
    shutil.copy(finished / "results" / name, path)
    assert verify_results(results).problems == []


def test_a_cell_of_the_table_that_was_edited_is_named(results):
    rewrite(results / "cohort_er.csv", ",30,", ",31,")
    said = only_problem(results)
    assert said.startswith(f"{results}/cohort_er.csv: is not what the run wrote")
    assert "n_nuclei of S1 is 31, where its summary.json has 30;" in said


def test_a_table_whose_counts_are_not_those_of_the_nuclei_is_found_though_all_hashes_agree(results):
    """A slide's files from another run, put there with their notes, and all collected again."""
    folder = results / "slides/S1"
    nuclei = pl.read_parquet(folder / "nuclei.parquet")
    write_table(folder / "nuclei.parquet", nuclei[:-2], schema.NUCLEI)
    note("merge", folder / "nuclei.parquet", folder / "summary.json")
    collect(results, SLIDES)
    assert "nuclei.parquet: holds 28 nuclei, the slide's row says 30;" in only_problem(results)
    other = pl.when(pl.col("label") == "Negative").then(pl.lit("Positive")).otherwise(pl.col("label"))
    write_table(folder / "nuclei.parquet", nuclei.with_columns(other.alias("label")), schema.NUCLEI)
    note("merge", folder / "nuclei.parquet", folder / "summary.json")
    collect(results, SLIDES)
    assert "holds 30 positive nuclei, the slide's row says 10;" in only_problem(results)


def test_a_manifest_with_other_tiles_is_found_though_all_hashes_agree(results):
    tiles = results / "slides/S1/tiles.parquet"
    write_table(tiles, pl.read_parquet(tiles)[:-1], schema.TILES)
    note("tiles", tiles)
    collect(results, SLIDES)
    assert "tiles.parquet: holds 3 tiles, the slide's row says 4;" in only_problem(results)


def test_a_qupath_file_with_other_nuclei_is_found(results):
    """One feature less, hash noted by nobody: the file is read as QuPath would read it."""
    path = results / "slides/S1/nuclei.geojson.zip"
    with zipfile.ZipFile(path) as archive:
        name, text = archive.namelist()[0], archive.read(archive.namelist()[0]).decode()
    lines = text.splitlines(keepends=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "".join([lines[0], *lines[2:]]))
    said = only_problem(results)
    assert "not what the run wrote" in said or "bytes that were written" in said
    assert "holds 29 nuclei, the slide's row says 30;" in said
    (results / "slides/S1/checksums/geojson.json").unlink()
    collect(results, SLIDES)
    assert "nuclei.geojson.zip: holds 29 nuclei, the slide's row says 30;" in only_problem(results)


def test_a_slide_that_changed_or_appeared_since_is_named(finished, results):
    slide, gone = finished / "S1.tif", finished / "gone.tif"
    whole = slide.read_bytes()
    try:
        slide.touch()
        assert verify_results(results).problems == []
        slide.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert only_problem(results).startswith(f"{slide}: was changed after slide S1 was counted")
        slide.unlink()
        assert verify_results(results).problems == []
        shutil.copy(finished / "tiny.onnx", gone)
        assert only_problem(results).startswith(f"{gone}: was not there when slide gone was counted")
    finally:
        slide.write_bytes(whole)
        gone.unlink(missing_ok=True)


def test_a_slide_s_folder_that_is_lost_is_one_line(results):
    shutil.rmtree(results / "slides/S1")
    assert only_problem(results).startswith(f"{results}/slides/S1: is missing")


def test_results_without_record_and_checksums_are_checked_by_their_counts(results):
    """As an ercohort made them that noted nothing."""
    for path in (results / "run.json", results / "checksums.sha256"):
        path.unlink()
    for folder in (results, results / "engine"):
        shutil.rmtree(folder / "checksums")
    for name in SLIDES:
        shutil.rmtree(results / "slides" / name / "checksums")
        record = read_json(results / "slides" / name / "slide.json")
        del record["fingerprint"]
        write_json(results / "slides" / name / "slide.json", record)
    problems = verify_results(results).problems
    assert [problem.split(": ")[0] for problem in problems] == [
        f"{results}/checksums.sha256", f"{results}/run.json",
    ]  # fmt: skip
    assert all("an older ercohort made it; run the same snakemake command again" in p for p in problems)
    rewrite(results / "cohort_er.csv", ",30,", ",31,")
    problems = verify_results(results).problems
    assert len(problems) == 3
    said = f"{results}/cohort_er.csv: n_nuclei of S1 is 31, where its summary.json has 30; "
    assert problems[-1].startswith(said)
    assert collect(results, SLIDES) == 2 * len(SLIDE_FILES) + len(COHORT_FILES)


def test_a_run_that_was_not_finished_is_not_called_an_edit(finished, results):
    config = Config(**read_json(results / "run.json")["config"])
    rewrite(results / "slides/S1/summary.json", '"failed_tiles": []', '"failed_tiles":  []')
    note("merge", results / "slides/S1/nuclei.parquet", results / "slides/S1/summary.json")
    write_table_of(results, config.model_copy(update={"strict": True}))
    said = only_problem(results)
    assert said.startswith(f"{results}/checksums.sha256: is older than ")
    assert "run the same snakemake command again" in said


@pytest.mark.parametrize("line", ["no checksum", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd"])
def test_a_damaged_checksum_file_is_named_with_its_line(results, line):
    with (results / "checksums.sha256").open("a") as file:
        file.write(line + "\n")
    n = 2 * len(SLIDE_FILES) + len(COHORT_FILES) + 1 + 1
    assert only_problem(results).startswith(f"{results}/checksums.sha256, line {n}: is no checksum")


def test_damaged_notes_cost_nothing_but_themselves(results):
    (results / "slides/S1/checksums/merge.json").write_text('{"nuclei.parquet": {"sha256": 1}, "x": []}')
    (results / "slides/S1/checksums/tiles.json").write_text("{")
    assert verify_results(results).problems == []


def test_what_does_not_belong_is_noted_and_is_no_problem(finished, results):
    (results / "slides/S1/nuclei (copy).parquet").write_bytes(b"")
    shutil.copytree(results / "slides/gone", results / "slides/old")
    rewrite(finished / "samples.tsv", "slide_id", "# more\nslide_id")
    try:
        found = verify_results(results)
    finally:
        rewrite(finished / "samples.tsv", "# more\n", "")
    assert found.problems == []
    assert any("nuclei (copy).parquet: written by no step" in said for said in found.notes)
    assert any("slides/old: is of no slide in the table" in said for said in found.notes)
    assert any("samples.tsv: the sheet was changed" in said for said in found.notes)


def test_one_slide_by_hand_can_be_verified_too(finished, tmp_path):
    shutil.copytree(finished / "results/slides/S1", tmp_path / "S1")
    found = verify_results(tmp_path / "S1")
    assert (found.problems, found.n_slides, found.n_files) == ([], 1, len(SLIDE_FILES))
    (tmp_path / "S1/overlay.jpg").unlink()
    assert only_problem(tmp_path / "S1").startswith(f"{tmp_path}/S1/overlay.jpg: is missing")


def test_a_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        verify_results(tmp_path)


def test_no_file_is_read_again_to_collect_its_checksum(results, monkeypatch):
    """The step that wrote a file hashed it: of hundreds of gigabytes nothing is read for the collection."""
    from ercohort import checksums

    read = []

    def counted(path, n_features=None, *, real=checksums.checksum):
        read.append(Path(path).name)
        return real(path, n_features)

    monkeypatch.setattr(checksums, "checksum", counted)
    collect(results, SLIDES)
    assert read == []
    for name, digest in read_collected(results / "checksums.sha256").items():
        assert hashlib.sha256((results / name).read_bytes()).hexdigest() == digest


def test_nuclei_of_regions_that_do_not_count_are_no_problem(finished, results, tmp_path):
    ring = [[0, 0], [0, 4000], [150, 4000], [150, 0], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "Control", "color": [0, 0, 0]}},
    }
    other = [[x + 150, y] for x, y in ring]
    counted = {
        **feature,
        "geometry": {"type": "Polygon", "coordinates": [other]},
        "properties": {"objectType": "annotation"},
    }
    write_json(tmp_path / "roi.geojson", {"type": "FeatureCollection", "features": [feature, counted]})
    config = Config(model=str(finished / "tiny.onnx"), precision="f32")
    made = run_slide(
        str(finished / "S1.tif"), results / "slides/S1", config, mpp=None, gpu=0, report=silent,
        roi=str(tmp_path / "roi.geojson"),
    )  # fmt: skip
    (made.folder / "engine.json").unlink()
    (made.folder / "checksums/engine.json").unlink()
    apart = {region["region"]: region for region in read_json(made.folder / "summary.json")["regions"]}
    assert apart["Control"]["n_nuclei"] > 0
    assert made.row["n_nuclei"] > 0
    write_table_of(results, config)
    collect(results, SLIDES)
    assert verify_results(results).problems == []

    # An edited summary is named, and not the nuclei that its row cannot be compared with any more.
    summary = made.folder / "summary.json"
    summary.write_text(summary.read_text().replace('"n_tiles_failed": 0', '"n_tiles_failed": 1'))
    accused = "\n".join(verify_results(results).problems)
    assert str(summary) in accused
    assert "nuclei.parquet" not in accused
    assert "nuclei.geojson.zip" not in accused
