"""numba for the compiled kernels, without the linear algebra that none of them uses.

When its first kernel runs, numba looks for SciPy's BLAS, which costs a job 0.2 s: with four jobs for each of
1,000 slides that is minutes. Told that there is none, it refuses `a @ b` in a kernel and nothing else.
"""

from __future__ import annotations

from typing import NoReturn

from numba import njit, vectorize
from numba.np import linalg

__all__ = ["njit", "vectorize"]


def _no_blas() -> NoReturn:
    raise ImportError("the kernels use no linear algebra")


linalg.ensure_blas = _no_blas
