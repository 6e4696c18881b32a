"""What needs a GPU is skipped, saying why, where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.probe import Gpu, gpu_or_reason


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first GPU, not leased: backends that the tests open lease one themselves."""
    found = gpu_or_reason()
    if isinstance(found, str):
        pytest.skip(f"no GPU: {found}")
    return found


@pytest.fixture
def device(gpu: Gpu) -> Iterator[CudaDevice]:
    """The device, closed after the test."""
    opened = CudaDevice(gpu)
    yield opened
    opened.close()
