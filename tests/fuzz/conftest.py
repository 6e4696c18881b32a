"""How long to look: some seconds in `make test`, minutes in `make fuzz` (ERCOHORT_FUZZ examples a test)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
EXAMPLES = int(os.environ.get("ERCOHORT_FUZZ", "0"))
MOST_GROWTH_MB = 600
"""What a reader may take for a file of some kilobytes: the libraries it loads, and no more."""

settings.register_profile(
    "few", max_examples=25, deadline=None, suppress_health_check=CHECKS, derandomize=True, database=None
)
settings.register_profile(
    "many", max_examples=max(EXAMPLES, 1), deadline=None, suppress_health_check=CHECKS,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    before = _peak_mb()
    yield
    assert _peak_mb() - before < MOST_GROWTH_MB


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
