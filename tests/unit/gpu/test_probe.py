"""Which GPUs are seen, what is said where there are none, and that two jobs never share one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ercohort.errors import BackendError
from ercohort.gpu import probe
from ercohort.gpu.lease import lease_gpu
from ercohort.gpu.probe import Gpu, find_devices, gpu_or_reason
from tests.unit.gpu.engines import needs_no_gpu

ERRORS = {
    "cudaSuccess": 0,
    "cudaErrorInsufficientDriver": 35,
    "cudaErrorNoDevice": 100,
    "cudaErrorUnknown": 999,
}
STATUS = SimpleNamespace(**{name: SimpleNamespace(name=name, value=value) for name, value in ERRORS.items()})


def fake_cuda(
    patch: pytest.MonkeyPatch, status: str = "cudaSuccess", count: int = 0, driver: int = 13000
) -> None:
    """A driver that is there, and a cuda-python that answers so."""

    def properties(index: int) -> Any:
        uuid = SimpleNamespace(bytes=bytes([index] * 16))
        return STATUS.cudaSuccess, SimpleNamespace(
            name=b"NVIDIA  H100", major=9, minor=0, totalGlobalMem=85 * 10**9, uuid=uuid
        )

    runtime = SimpleNamespace(
        cudaError_t=STATUS,
        cudaGetDeviceCount=lambda: (getattr(STATUS, status), count if status == "cudaSuccess" else None),
        cudaDriverGetVersion=lambda: (STATUS.cudaSuccess, driver),
        cudaRuntimeGetVersion=lambda: (STATUS.cudaSuccess, 13050),
        cudaGetDeviceProperties=properties,
    )
    patch.setattr(probe.ctypes, "CDLL", lambda name: None)
    patch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=runtime))


def reason() -> str:
    found = gpu_or_reason()
    assert isinstance(found, str)
    assert "\n" not in found
    assert find_devices() == []
    return found


@needs_no_gpu
def test_this_machine() -> None:
    assert "driver" in reason()


def test_no_driver_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(probe.ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert reason() == "there is no NVIDIA driver here; a GPU needs version 580 or newer"


def test_cuda_python_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert reason().endswith("install it: pip install cuda-python")


@pytest.mark.parametrize(
    ("status", "driver", "words"),
    [
        (
            "cudaErrorInsufficientDriver",
            12040,
            "too old: it serves CUDA 12.4, cuda-python needs 13.0; update it",
        ),
        ("cudaErrorInsufficientDriver", 0, "is not loaded"),
        ("cudaErrorNoDevice", 13000, "sees no GPU (CUDA_VISIBLE_DEVICES is '7')"),
        ("cudaErrorUnknown", 13000, "CUDA does not work here (cudaErrorUnknown); run nvidia-smi"),
    ],
)
def test_each_trouble_has_one_line_and_a_cure(
    monkeypatch: pytest.MonkeyPatch, status: str, driver: int, words: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    fake_cuda(monkeypatch, status, driver=driver)
    assert words in reason()


def test_what_is_seen_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, count=2, driver=13010)
    first, second = find_devices()
    assert gpu_or_reason() == first
    assert first == Gpu(0, "NVIDIA H100", (9, 0), 13010, 85 * 10**9, "GPU-" + "00" * 16)
    assert second.uuid == "GPU-" + "01" * 16
    assert first.driver_major == 13
    assert first.to_dict()["compute_capability"] == "9.0"


def gpus(*uuids: str) -> list[Gpu]:
    return [Gpu(k, "G", (9, 0), 13000, 1, uuid) for k, uuid in enumerate(uuids)]


def test_jobs_get_the_lowest_free_gpu_and_wait_where_none_is(tmp_path: Path) -> None:
    third: list[str] = []

    def wait_for_one() -> None:
        with lease_gpu(gpus("a", "b"), tmp_path) as gpu:
            third.append(gpu.uuid)

    with lease_gpu(gpus("a", "b"), tmp_path) as first:
        with lease_gpu(gpus("a", "b"), tmp_path) as second:
            assert (first.uuid, second.uuid) == ("a", "b")
            job = threading.Thread(target=wait_for_one)
            job.start()
            job.join(0.5)
            assert third == []
        job.join(10)
        assert third == ["b"]
    with lease_gpu(gpus("a", "b"), tmp_path) as again:
        assert again.uuid == "a"


def test_jobs_that_number_the_gpus_differently_agree(tmp_path: Path) -> None:
    """`CUDA_VISIBLE_DEVICES=1` makes GPU b number 0."""
    with lease_gpu(gpus("b"), tmp_path), lease_gpu(gpus("b", "a"), tmp_path) as other:
        assert (other.uuid, other.index) == ("a", 1)


def test_a_job_that_is_killed_gives_its_gpu_back(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ercohort.gpu.lease import lease_gpu\n"
        "from tests.unit.gpu.test_probe import gpus\n"
        "with lease_gpu(gpus('a'), Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with lease_gpu(gpus("a", "b"), tmp_path) as gpu:
        assert gpu.uuid == "b"
    child.kill()
    child.communicate()
    with lease_gpu(gpus("a", "b"), tmp_path) as gpu:
        assert gpu.uuid == "a"


def test_no_gpu_and_no_folder_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no GPU to lease"), lease_gpu([], tmp_path):
        pass
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BackendError, match=r"cannot be written: .*set TMPDIR"), lease_gpu(gpus("a"), file):
        pass
