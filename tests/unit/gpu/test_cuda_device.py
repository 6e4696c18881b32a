"""What of the CUDA device can be seen without one: every call that CUDA refuses is one line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ercohort.errors import BackendError
from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.device import GpuMemoryError
from ercohort.gpu.launches import Launch
from ercohort.gpu.probe import Gpu, gpu_or_reason

runtime = pytest.importorskip("cuda.bindings.runtime")
GPU = Gpu(0, "a GPU", (9, 0), 13000, 1 << 30, "GPU-0")
no_gpu = pytest.mark.skipif(not isinstance(gpu_or_reason(), str), reason="there is a GPU here")


@no_gpu
def test_without_a_driver_it_does_not_open() -> None:
    with pytest.raises(BackendError, match=r"^a GPU: cuda\w+ failed with cudaError\w+; run nvidia-smi"):
        CudaDevice(GPU)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    """An object that believes it has opened a device."""
    with monkeypatch.context() as patch:
        patch.setattr(CudaDevice, "_call", lambda *arguments: (1, 1))
        opened = CudaDevice(GPU)
    opened._kernels["own"] = 0
    return opened


LAUNCH = Launch("own", (1, 2, 1), (256, 1, 1), (np.uint64(4096), np.float32(0.5), np.int32(3)))


@no_gpu
@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("allocate", (16,)), ("allocate_host", (16,)), ("stream", ()), ("event", ()), ("load", (b"cubin",)),
        ("copy", (4096, np.zeros(4, np.uint8), 7)), ("launch", (LAUNCH, 7)), ("record", (0, 7)),
        ("wait", (0,)), ("milliseconds", (0, 0)), ("peak_bytes", ()),
    ],
)  # fmt: skip
def test_calls_reach_cuda_and_its_refusal_is_one_line(
    device: CudaDevice, call: str, arguments: tuple[object, ...]
) -> None:
    """The arguments are of types that cuda-python takes: the answer is CUDA's, not a TypeError."""
    with pytest.raises(BackendError, match=r"^a GPU: cu\w+") as caught:
        getattr(device, call)(*arguments)
    assert "\n" not in str(caught.value)
    device.close()
    device.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [("cudaErrorMemoryAllocation", GpuMemoryError), ("cudaErrorIllegalAddress", BackendError)],
)
def test_full_memory_is_told_from_other_errors(device: CudaDevice, status: str, kind: type) -> None:
    with pytest.raises(BackendError) as caught:
        device._call(lambda: (getattr(runtime.cudaError_t, status),))
    assert type(caught.value) is kind


def test_memory_of_this_machine_outlives_the_device(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is late writes into memory that is still there."""
    monkeypatch.setattr(CudaDevice, "_call", lambda *arguments: 1)
    image = device.allocate_host(1 << 20).array.reshape(512, -1)
    device.close()
    image[:] = 7
    assert image.sum() == 7 << 20


def test_importing_the_package_needs_neither_cuda_nor_tensorrt() -> None:
    script = (
        "import sys\n"
        "for name in ('cuda', 'tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "import ercohort.backends.tensorrt, ercohort.gpu.pipeline, ercohort.gpu.cuda_device\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
