"""The cohort on a real Slurm, while a node is drained and a job is cancelled: the table is the local one.

More faults, which take minutes: `make slurm-test`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

from tests.cluster.cohort import HERE, SLURM, Run, kill, write_slides
from tests.cluster.slurm import NODES, Job, Slurm, Task, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Done:
    """What is known after the run: both folders, the screen, and Slurm's own record."""

    run: Run
    here: Run
    code: int
    screen: str
    jobs: list[Job]
    tasks: list[Task]
    drained: str
    drained_at: float
    cancelled: int


@pytest.fixture(scope="module")
def done(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run: the job of slide `one` is cancelled while it detects, then its node is drained.

    The pictures of slide `two` cannot be written: a folder is in their way.
    """
    folder = tmp_path_factory.mktemp("cohort")
    write_slides(folder / "slides")
    run, here = Run(folder / "slurm", folder / "slides"), Run(folder / "here", folder / "slides")
    (run.path / "results/slides/two/heatmap.png/in the way").mkdir(parents=True)
    started = [run.start(*SLURM, "--retries", "1")]
    process = started[0]
    try:
        wait_until(lambda: run.detecting("one") or process.poll() is not None, 1200, "slide one's detection")
        assert process.poll() is None, run.screen.read_text()
        job = next(job for job in slurm.jobs() if job.rule == "rule_detect_shard_wildcards_one_1-of-1")
        slurm.cancel(job.number)
        drained_at = slurm.drain(job.node)
        started.append(here.start(*HERE))
        code, screen = run.finish(process)
        assert here.finish(started[1])[0] == 0
    finally:
        for process in started:
            kill(process)
    jobs, tasks = slurm.jobs(), slurm.tasks()
    slurm.resume(job.node)
    return Done(run, here, code, screen, jobs, tasks, job.node, drained_at, job.number)


def on_gpus(done: Done) -> list[Task]:
    """The processes of jobs that ask for a GPU."""
    asking = {job.number for job in done.jobs if re.match("rule_(engine|detect_shard)", job.rule)}
    return [task for task in done.tasks if task.job in asking]


def overlap(a: Task, b: Task) -> bool:
    return a.start < b.end and b.start < a.end


def test_the_table_is_the_local_one(done):
    assert done.run.table() == done.here.table()
    assert Counter(re.findall(r"^\w+,(\w+),", done.run.table(), re.MULTILINE)) == {
        "status": 1, "ok": 2, "no_tissue": 1, "missing": 1
    }  # fmt: skip
    for name in ("one", "two"):
        nuclei = f"results/slides/{name}/nuclei.parquet"
        assert (done.run.path / nuclei).read_bytes() == (done.here.path / nuclei).read_bytes()


def test_a_job_has_one_gpu_and_shares_it_with_no_other(done):
    tasks = on_gpus(done)
    assert len(tasks) >= 6  # an engine, four slides, and the one that was cancelled
    assert all(len(task.gpus) == 1 for task in tasks)
    for a, b in combinations(tasks, 2):
        assert (a.node, a.gpus) != (b.node, b.gpus) or not overlap(a, b)


def test_jobs_that_need_no_gpu_get_none_and_run_beside_those_that_have_one(done):
    with_gpu = on_gpus(done)
    without = [task for task in done.tasks if task not in with_gpu]
    assert without
    assert not any(task.gpus for task in without)
    assert any(overlap(a, b) for a in with_gpu for b in without)


def test_a_cancelled_job_runs_again(done):
    jobs = [job for job in done.jobs if job.rule == "rule_detect_shard_wildcards_one_1-of-1"]
    assert [job.state for job in jobs] == ["CANCELLED", "COMPLETED"]
    assert jobs[0].number == done.cancelled
    assert re.search(f"'{done.cancelled}' failed, SLURM status is: 'CANCELLED'", done.screen)


def test_a_drained_node_gets_no_more_jobs(done):
    later = [job for job in done.jobs if job.start > done.drained_at + 1]  # Slurm tells whole seconds
    assert {job.node for job in later} == set(NODES) - {done.drained}


def test_the_screen_names_the_log_of_a_job_that_failed(done):
    """The workflow's log and Slurm's; the error is in both, and the screen shows it."""
    assert done.code == 1
    error = done.screen[done.screen.index("Error in rule geojson_overlay:") :]
    logs = [Path(name) for name in re.search(r"log: (.+) \(check log file", error)[1].split(", ")]
    assert any(log.name == "geojson_overlay.log" for log in logs)
    assert any("slurm_logs" in log.parts for log in logs)
    for log in logs:
        assert "heatmap.png" in (done.run.path / log).read_text()
    assert "Is a directory" in done.screen


def test_a_job_that_fails_is_tried_again_by_the_run_and_not_by_itself(done):
    jobs = [job for job in done.jobs if job.rule == "rule_geojson_overlay_wildcards_two"]
    assert [job.state for job in jobs] == ["FAILED", "FAILED"]
    for job in jobs:
        assert len([task for task in done.tasks if task.job == job.number]) == 1


def test_nothing_is_left_half_written(done):
    assert not list((done.run.path / "results").rglob("*.tmp*"))
