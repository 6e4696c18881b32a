"""A job that stands still ends, and one that goes on does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ercohort.watch import Watch

STILL = """
import time
from ercohort.watch import Watch
with Watch("slide a", 0.3):
    time.sleep(60)
"""


def test_a_job_that_stands_still_ends_with_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", STILL], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.endswith("ercohort: slide a: no progress for 0.3 s; the job is ended\n")


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_job_that_goes_on_is_left_alone() -> None:
    begun = time.monotonic()
    with Watch("slide a", 0.4) as watch:
        for _ in range(12):
            time.sleep(0.1)
            watch.beat()
    assert time.monotonic() - begun > 2 * 0.4  # and this process is still there
