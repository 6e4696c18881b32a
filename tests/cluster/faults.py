"""What goes wrong on a cluster, done for real: some minutes each, and so not part of `make test`.

`make slurm-test` runs this and the tests beside it.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time

import pytest

from tests.cluster.cohort import HERE, SLURM, Run, kill, write_slides
from tests.cluster.slurm import NODES, Job, Slurm, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides") / "slides"
    write_slides(folder)
    return folder


@pytest.fixture(scope="module")
def local_table(slides, tmp_path_factory):
    """The table of a run on this machine, undisturbed."""
    here = Run(tmp_path_factory.mktemp("here") / "run", slides, ("one", "gone"))
    assert here.finish(here.start(*HERE))[0] == 0
    return here.table()


@pytest.fixture
def cohort(slurm, slides, tmp_path):
    """One slide and a row without a file, and a Slurm that is well before and after."""
    yield Run(tmp_path / "run", slides, ("one", "gone"))
    subprocess.run(["scancel", "--user=root"], check=True)
    for node, state in slurm.node_states().items():
        if state not in ("IDLE", "COMPLETING"):
            slurm.kill_node(node)
            slurm.start_node(node)
            slurm.resume(node)
    wait_until(lambda: set(slurm.node_states().values()) == {"IDLE"}, 300, "the nodes to be idle")


def detection(slurm: Slurm) -> list[Job]:
    return [job for job in slurm.jobs() if job.rule.startswith("rule_detect_shard_wildcards_one")]


def until_it_detects(run: Run, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: run.detecting("one") or process.poll() is not None, 1200, "slide one's detection")
    assert process.poll() is None, run.screen.read_text()


@pytest.mark.parametrize("arguments", [(), ("--slurm-no-requeue",)], ids=["requeued", "not requeued"])
def test_a_node_loses_power(slurm, cohort, local_table, arguments):
    """Slurm gives the job to another node where it may, and else Snakemake does; the table is the same."""
    process = cohort.start(*SLURM, *arguments)
    until_it_detects(cohort, process)
    job = detection(slurm)[-1]
    slurm.kill_node(job.node)
    code, screen = cohort.finish(process)
    assert code == 0, screen
    assert cohort.table() == local_table
    if arguments:
        assert re.search(f"'{job.number}' failed due to a node failure", screen)


def test_the_controller_is_gone_for_a_minute(slurm, cohort, local_table):
    """Jobs run on. No accounting here: the plugin waits for `sacct` in vain; ended, the run goes on anew."""
    process = cohort.start(*SLURM)
    until_it_detects(cohort, process)
    slurm.kill_controller()
    time.sleep(60)
    slurm.start_controller()
    shard = cohort.path / "results/slides/one/shards/1-of-1.parquet"
    wait_until(lambda: shard.exists() or process.poll() is not None, 300, "the detection that ran on")
    kill(process)
    code, screen = cohort.finish(cohort.start(*SLURM))
    assert code == 0, screen
    assert cohort.table() == local_table


def test_jobs_are_cancelled_at_random(slurm, cohort, local_table):
    """Four of them, one every twenty seconds at most; Snakemake tries each again."""
    chance = random.Random(SEED)
    process = cohort.start(*SLURM, "--retries", "6")
    cancelled = 0
    while cancelled < 4 and process.poll() is None:
        time.sleep(chance.uniform(2, 20))
        running = [job for job in slurm.jobs() if job.state == "RUNNING" and "detect_shard" not in job.rule]
        if running:
            slurm.cancel(chance.choice(running).number)
            cancelled += 1
    code, screen = cohort.finish(process)
    assert code == 0, screen
    assert cancelled > 0
    assert cohort.table() == local_table


def test_slides_that_a_node_does_not_see_are_not_missing(slurm, cohort, local_table):
    """A share that is not mounted on one node fails its jobs, and says so; no row says `missing`."""
    node, other = NODES
    slurm.drain(other)
    slurm.kill_node(node)
    hide = 'mount -t tmpfs none "$0" && exec "$@"'
    slurm.start_node(node, "unshare", "--mount", "sh", "-c", hide, str(cohort.slides))
    slurm.resume(node)
    code, screen = cohort.finish(cohort.start(*SLURM, "--retries", "0"))
    assert code == 1
    assert re.search(r"one\.tif", screen[screen.index("rror in") :])
    assert not (cohort.path / "results/cohort_er.csv").exists()
    assert not (cohort.path / "results/slides/one/slide.json").exists()
    slurm.resume(other)
    slurm.drain(node)
    code, screen = cohort.finish(cohort.start(*SLURM))
    assert code == 0, screen
    assert cohort.table() == local_table


def test_a_job_that_needs_more_memory_than_it_asked_for(slurm, cohort, local_table):
    """Slurm ends it and the screen says why; with more memory the same command goes on from there."""
    code, screen = cohort.finish(
        cohort.start(*SLURM, "--set-resources", "detect_shard:mem_mb=300", "--retries", "0")
    )
    assert code == 1
    assert re.search(r"(?i)out.of.memory|memory limit", screen)
    done = (cohort.path / "results/slides/one/slide.json").stat().st_mtime_ns
    code, screen = cohort.finish(cohort.start(*SLURM))
    assert code == 0, screen
    assert cohort.table() == local_table
    assert (cohort.path / "results/slides/one/slide.json").stat().st_mtime_ns == done
