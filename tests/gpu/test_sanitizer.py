"""compute-sanitizer finds no bad access and no race in the kernels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ercohort.gpu.probe import Gpu

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_kernels(gpu: Gpu, tool: str) -> None:
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not on PATH; it comes with CUDA's toolkit")
    tests = Path(__file__).with_name("sanitized.py")
    command = [program, "--tool", tool, "--error-exitcode", "99", sys.executable, str(tests), str(gpu.index)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1700)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "ERROR SUMMARY: 0 errors" in done.stdout or "0 hazards displayed" in done.stdout, done.stdout[
        -2000:
    ]
