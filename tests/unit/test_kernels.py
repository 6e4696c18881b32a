"""Compiled kernels start without what none of them uses."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
from ercohort.nms import greedy_nms
boxes, scores = np.array([[0, 0, 9, 9], [0, 0, 9, 8]], np.float32), np.array([0.9, 0.8], np.float32)
print(greedy_nms(boxes, scores, 0.5).tolist(), "scipy.linalg" in sys.modules)
"""


def test_a_kernel_does_not_wait_for_linear_algebra():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[0]", "False"]
