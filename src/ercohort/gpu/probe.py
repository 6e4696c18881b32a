"""Which GPUs this process may use, asked before TensorRT is touched: without a GPU it can end the process."""

from __future__ import annotations

import ctypes
import os
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees; `CUDA_VISIBLE_DEVICES`, as Slurm sets it too, has decided which.

    Attributes
    ----------
    index
        CUDA's number of the device in this process.
    name
        The vendor's name of it.
    compute_capability
        Generation of the processor, such as (9, 0).
    driver
        CUDA version of the driver: 13000 is 13.0.
    memory_bytes
        Memory of the device.
    uuid
        The same in every process, whatever `index` is there.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    driver: int
    memory_bytes: int
    uuid: str

    @property
    def capability(self) -> str:
        """The compute capability as text, such as 9.0."""
        major, minor = self.compute_capability
        return f"{major}.{minor}"

    @property
    def driver_major(self) -> int:
        """Major CUDA version of the driver: engines are kept apart by it."""
        return self.driver // 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self) | {"compute_capability": self.capability}


def find_devices() -> list[Gpu]:
    """Return the GPUs that this process sees; none where there is no driver or no cuda-python."""
    found = _look()
    return found if isinstance(found, list) else []


def gpu_or_reason() -> Gpu | str:
    """Return the first GPU that this process sees, or one line that says why there is none, with the cure."""
    found = _look()
    return found[0] if isinstance(found, list) else found


def _look() -> list[Gpu] | str:
    """List the GPUs, at least one, or say why there is none."""
    try:
        # Without this, a machine that has no GPU at all would be told to install cuda-python.
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver here; a GPU needs version 580 or newer"
    try:
        from cuda.bindings import runtime
    except Exception as error:  # a package that is cut short or of another Python fails in many ways
        return f"cuda-python cannot be imported ({_one_line(error)}); install it: pip install cuda-python"
    try:
        return _devices(runtime)
    except Exception as error:
        return f"CUDA does not work here ({_one_line(error)}); run nvidia-smi to see whether the driver does"


def _devices(runtime: Any) -> list[Gpu] | str:
    status, count = runtime.cudaGetDeviceCount()
    if status == runtime.cudaError_t.cudaErrorInsufficientDriver:
        return _old_driver(runtime)
    if status == runtime.cudaError_t.cudaErrorNoDevice or (not status.value and not count):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        told = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"this process sees no GPU{told}; give it one, or look at nvidia-smi"
    _succeed(status)
    driver = _value(runtime.cudaDriverGetVersion())
    return [_describe(runtime, index, driver) for index in range(count)]


def _old_driver(runtime: Any) -> str:
    driver, needed = _value(runtime.cudaDriverGetVersion()), _value(runtime.cudaRuntimeGetVersion())
    major = needed // 1000
    cure = f"update it, or install a cuda-python of its own version: pip install 'cuda-python<{major}'"
    if not driver:
        return "the NVIDIA driver is not loaded; load it (nvidia-smi says more)"
    served = f"it serves CUDA {driver // 1000}.{driver % 1000 // 10}, cuda-python needs {major}.0"
    return f"the NVIDIA driver is too old: {served}; {cure}"


def _describe(runtime: Any, index: int, driver: int) -> Gpu:
    properties = _value(runtime.cudaGetDeviceProperties(index))
    name = properties.name
    return Gpu(
        index=index,
        name=" ".join((name.decode(errors="replace") if isinstance(name, bytes) else str(name)).split()),
        compute_capability=(int(properties.major), int(properties.minor)),
        driver=int(driver),
        memory_bytes=int(properties.totalGlobalMem),
        uuid=f"GPU-{bytes(properties.uuid.bytes).hex()}",
    )


def _value(answer: tuple[Any, Any]) -> Any:
    status, value = answer
    _succeed(status)
    return value


def _succeed(status: Any) -> None:
    if status.value:
        raise RuntimeError(status.name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
