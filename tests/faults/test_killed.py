"""A run that was killed: the same command goes on from there. `make chaos` does this many times."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time

import pytest

from tests.faults.folder import kill_group, make_cohort, make_inputs, results, run, start, wait_for
from tests.faults.killing import play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Slides, and the folder and duration of a run that nothing disturbed."""
    path = tmp_path_factory.mktemp("undisturbed")
    inputs = make_inputs(path / "inputs")
    begun = time.monotonic()
    folder = make_cohort(path / "folder", inputs)
    assert run(folder, path / "log") == 0, (path / "log").read_text()
    return inputs, folder, time.monotonic() - begun


@pytest.mark.parametrize(("target", "share"), [("snakemake", 0.6), ("job", 0.5)])
def test_the_same_command_finishes_and_nothing_is_done_twice(undisturbed, tmp_path, target, share):
    inputs, folder, lasted = undisturbed
    made = play(tmp_path / "folder", inputs, results(folder), target, share * lasted, random.Random(1))
    assert made.trouble == ()
    assert made.n_commands <= 2
    assert made.killed not in ("", "nothing"), "nothing ran any more at that moment"
    assert made.n_whole > 0


def test_a_second_run_leaves_and_the_first_is_not_disturbed(undisturbed, tmp_path):
    inputs, folder, _ = undisturbed
    made = make_cohort(tmp_path / "folder", inputs)
    first = start(made, tmp_path / "first.log")
    try:
        wait_for(lambda: (made / ".snakemake/ercohort/owner.json").exists())
        assert run(made, tmp_path / "second.log") == 1
        second = (tmp_path / "second.log").read_text()
        line = re.search(
            r"^ercohort: another run works in this folder: process (\d+) on", second, re.MULTILINE
        )
        assert line, second
        assert int(line[1]) == first.pid
        assert "Traceback" not in second
        assert run(made, tmp_path / "dry.log", "--dry-run") == 0  # looking is allowed
        assert first.wait(600) == 0
    finally:
        kill_group(first)
    assert results(made) == results(folder)


def test_results_that_are_removed_meanwhile_are_made_again(undisturbed, tmp_path):
    inputs, folder, _ = undisturbed
    made = make_cohort(tmp_path / "folder", inputs)
    first = start(made, tmp_path / "first.log")
    try:
        wait_for(lambda: (made / "results/slides/one/tiles.parquet").exists())
        (made / "results").rename(tmp_path / "removed")
        shutil.rmtree(tmp_path / "removed")
        assert first.wait(600) != 0
    finally:
        kill_group(first)
    assert run(made, tmp_path / "again.log") == 0, (tmp_path / "again.log").read_text()
    assert results(made) == results(folder)


def test_a_finished_slide_that_goes_away_keeps_its_results(undisturbed, tmp_path):
    inputs, done, _ = undisturbed
    made = tmp_path / "folder"
    shutil.copytree(done, made)
    away = inputs / "away.png"
    (inputs / "flat.png").rename(away)
    try:
        assert run(made, tmp_path / "nothing.log") == 0
        assert "Nothing to be done" in (tmp_path / "nothing.log").read_text()
        config = made / "config/config.yaml"
        config.write_text(config.read_text() + "tissue: {min_od: 0.05}\n")
        before = results(made)
        for _ in range(2):  # asked twice, it still does not become `missing`
            assert run(made, tmp_path / "refused.log") == 1
        assert "it was there before, and is gone or closed" in (tmp_path / "refused.log").read_text()
        assert results(made).items() <= before.items()
        assert results(made)["results/cohort_er.csv"] == before["results/cohort_er.csv"]
    finally:
        away.rename(inputs / "flat.png")


def test_results_outlive_a_share_of_linked_slides_and_of_regions(undisturbed, tmp_path):
    inputs, _, _ = undisturbed
    share, links = tmp_path / "share", tmp_path / "links"
    share.mkdir()
    links.mkdir()
    shutil.copy(inputs / "marked.tif", share)
    ring = [[0, 0], [0, 4000], [4000, 4000], [4000, 0], [0, 0]]
    area = {"type": "Polygon", "coordinates": [ring]}
    region = {"type": "Feature", "geometry": area, "properties": {"objectType": "annotation"}}
    (share / "roi.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [region]}))
    for name in ("marked.tif", "roi.geojson"):
        (links / name).symlink_to(share / name)
    made = make_cohort(tmp_path / "folder", inputs)
    sheet = f"slide_id\tpath\tmpp\troi\none\t{links}/marked.tif\t0.5\t{links}/roi.geojson\n"
    (made / "config/samples.tsv").write_text(sheet)
    assert run(made, tmp_path / "first.log") == 0, (tmp_path / "first.log").read_text()
    before = results(made)
    away = share.rename(tmp_path / "away")
    assert run(made, tmp_path / "nothing.log") == 0
    assert "Nothing to be done" in (tmp_path / "nothing.log").read_text()
    assert results(made) == before
    share.mkdir()
    shutil.copy(away / "marked.tif", share)  # the regions alone are gone
    config = made / "config/config.yaml"
    config.write_text(config.read_text() + "scores: {min_nuclei: 3}\n")
    assert run(made, tmp_path / "refused.log") == 1
    assert "roi.geojson: it was there before, and is gone" in (tmp_path / "refused.log").read_text()
    table = "results/cohort_er.csv"
    assert results(made)[table] == before[table]


def tables(folder):
    """Return the tables of the cohort, by path."""
    return {path: digest for path, digest in results(folder).items() if path.count("/") == 1}


def test_a_table_that_cannot_be_made_again_is_not_lost(undisturbed, tmp_path):
    _, done, _ = undisturbed
    made = tmp_path / "folder"
    shutil.copytree(done, made)
    before = tables(made)
    summary = made / "results/slides/one/summary.json"
    whole = summary.read_text()
    summary.write_text(whole[:-20])
    assert run(made, tmp_path / "failed.log", "--forcerun", "cohort") == 1
    assert tables(made) == before
    assert (made / "results/run.json").exists()
    summary.write_text(whole)
    assert run(made, tmp_path / "again.log") == 0, (tmp_path / "again.log").read_text()
    assert results(made) == results(done)


def test_a_clock_that_was_ahead_repeats_nothing_and_skips_nothing(undisturbed, tmp_path):
    _, done, _ = undisturbed
    made = tmp_path / "folder"
    shutil.copytree(done, made)
    ahead = 86_400.0
    for path in (made / "results/slides").rglob("*"):
        if path.is_file():
            found = path.stat().st_mtime + ahead
            os.utime(path, (found, found))
    assert run(made, tmp_path / "nothing.log") == 0
    log = (tmp_path / "nothing.log").read_text()
    assert "newer than this machine's clock" in log
    if (
        "Nothing to be done" not in log
    ):  # the table is older than what it is made of: that alone is made again
        assert "one: finding the tissue" not in log
        assert "detecting nuclei" not in log
    config = made / "config/config.yaml"
    config.write_text(config.read_text() + "geojson: {frame: slide}\n")
    assert run(made, tmp_path / "again.log") == 0
    assert "older modification time" not in (tmp_path / "again.log").read_text()
    assert run(made, tmp_path / "settled.log", "--dry-run") == 0
    assert "Nothing to be done" in (tmp_path / "settled.log").read_text()


def test_a_clock_that_was_set_back_between_two_steps_repeats_nothing(undisturbed, tmp_path):
    """What the first steps wrote is then newer than all that was made of it."""
    _, done, _ = undisturbed
    made = tmp_path / "folder"
    shutil.copytree(done, made)
    first = {"slide.json", "tissue.png", "thumbnail.jpg", "tiles.parquet"}
    for path in (made / "results").rglob("*"):
        if path.is_file():
            found = path.stat().st_mtime - (3600 if path.name in first else 7200)
            os.utime(path, (found, found))
    assert run(made, tmp_path / "log") == 0
    assert "Nothing to be done" in (tmp_path / "log").read_text()
    assert results(made) == results(done)


def test_a_step_that_fails_after_a_change_is_not_passed_over_by_the_next_run(undisturbed, tmp_path):
    """Snakemake forgets a job that failed: the files after it look finished, with the settings of before."""
    _, done, _ = undisturbed
    made = tmp_path / "folder"
    shutil.copytree(done, made)
    config = made / "config/config.yaml"
    config.write_text(config.read_text() + "detect: {score: 0.3}\n")
    for path in (made / ".snakemake/metadata").rglob("*"):
        if path.is_file() and json.loads(path.read_text())["rule"] == "detect_shard":
            path.unlink()
    assert run(made, tmp_path / "plan.log", "--dry-run") == 0
    plan = (tmp_path / "plan.log").read_text()
    assert plan.count("one: detecting nuclei, shard") == 3, plan
    shutil.copy(done / "config/config.yaml", config)
    (made / "results/slides/one/slide.json").unlink()
    assert run(made, tmp_path / "plan.log", "--dry-run") == 0
    assert "one: finding the tissue" in (tmp_path / "plan.log").read_text()
