"""A Slurm for the tests of this folder, and a cohort to run on it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import SYSTEM, Slurm, what_is_missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A real Slurm with two nodes and three fake GPUs; all of it is gone again after the tests."""
    missing = what_is_missing()
    if missing:
        # Where Slurm has to be there, as in CI, nothing is skipped in silence.
        (pytest.fail if "slurm" in os.environ.get("ERCOHORT_REQUIRE", "").split() else pytest.skip)(missing)
    with (SYSTEM / "ercohort-test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = Slurm(tmp_path_factory.mktemp("slurm"))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            Path(lock.name).unlink()
