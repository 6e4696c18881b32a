"""`run.json` and `timings.csv`: what made a row, where, and how long it took."""

from __future__ import annotations

import csv
import shutil
import subprocess

import numpy
import pytest

from ercohort import __version__
from ercohort.config import Config
from ercohort.provenance import describe_devices, describe_run, git_state, packages
from ercohort.timings import COLUMNS, write_timings

TIMES = {"started": "2026-01-02T03:04:05+00:00", "ended": "2026-01-02T03:04:07+00:00"}
SHARD = {"n_tiles": 10, "seconds": 2.0, **TIMES}
CPU = {**SHARD, "host": "=node1", "device": "Xeon", "backend": "openvino", "precision": "bf16"}
GPU = {**SHARD, "host": "node2", "device": "H100", "backend": "tensorrt", "precision": "f16", "n_tiles": 30}
LATER = {**GPU, "started": "2026-01-03T00:00:00+00:00", "ended": "2026-01-03T00:00:02+00:00"}
NOT_RUN = {"n_tiles": 0, "seconds": 0.0, "host": "node1", "started": "2026-01-01T00:00:00+00:00"}


def summary(slide_id, *shards, status="ok"):
    row = {"slide_id": slide_id, "status": status, "version": __version__, "model": "er@0123456789ab"}
    return {"row": row, "shards": list(shards)}


SUMMARIES = [summary("a", CPU, LATER), summary("b", GPU), summary("gone", NOT_RUN, status="missing")]


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (tmp_path / "Snakefile").write_text("one")
    for command in (["init", "-q"], ["add", "Snakefile"], ["commit", "-qm", "First"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def test_the_git_state_tells_a_changed_workflow_from_a_clean_one(repository):
    clean = git_state(repository)
    assert len(clean["revision"]) == 40
    assert (clean["dirty"], clean["changed"]) == (False, [])
    (repository / "results.csv").write_text("written by a run, not tracked")
    assert git_state(repository) == clean
    (repository / "Snakefile").write_text("two")
    assert git_state(repository) == {**clean, "dirty": True, "changed": ["Snakefile"]}


def test_no_repository_and_no_git_are_fine(repository, tmp_path_factory, monkeypatch):
    assert git_state(tmp_path_factory.mktemp("bare")) is None
    monkeypatch.setenv("PATH", "")
    assert git_state(repository) is None


def test_the_record_names_what_made_the_rows(tmp_path):
    (tmp_path / "cohort_er.csv").write_bytes(b"abc")
    config = Config(samples=str(tmp_path / "cohort_er.csv"), strict=True).model_dump(mode="json")
    made = describe_run(
        summaries=SUMMARIES,
        engine={"model": {"name": "er", "sha256": "0" * 64}},
        config=config,
        workflow=tmp_path,
    )
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert made["sheet"] == {"path": config["samples"], "sha256": abc}
    assert made["config"] == config
    assert made["model"]["sha256"] == "0" * 64
    assert made["started"] == NOT_RUN["started"] < made["ended"]
    assert made["slides"]["by_status"] == {"missing": 1, "ok": 2}
    assert made["slides"]["by_model"] == {"er@0123456789ab": 3}
    assert made["git"] is None
    assert made["ercohort"] == __version__
    assert made["packages"]["numpy"] == numpy.__version__


def test_packages_are_those_that_a_run_needs():
    found = dict(packages())
    assert {"snakemake", "openvino", "polars", "pyvips", "openslide-python", "isal"} <= set(found)
    assert "pytest" not in found


def test_devices_count_a_slide_once_for_each_device():
    two = [summary("a", CPU, CPU, LATER), summary("b", GPU)]
    counted = {device["device"]: device["slides"] for device in describe_devices(two)}
    assert counted == {"Xeon": 1, "H100": 2}


def test_timings_have_a_row_for_every_slide(tmp_path):
    write_timings(tmp_path / "timings.csv", SUMMARIES)
    a, b, gone = csv.DictReader((tmp_path / "timings.csv").read_text().splitlines())
    assert list(a) == list(COLUMNS)
    assert (a["n_tiles"], a["seconds"], a["tiles_per_second"], a["shards"]) == ("40", "4.0", "10.0", "2")
    assert (a["host"], a["device"]) == ("'=node1+node2", "H100+Xeon")
    assert (a["started"], a["ended"]) == (CPU["started"], LATER["ended"])
    assert (b["seconds"], b["tiles_per_second"]) == ("2.0", "15.0")
    assert set(gone.values()) == {"gone", "", "1"}
