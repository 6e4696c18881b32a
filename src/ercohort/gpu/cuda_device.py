"""`ercohort.gpu.device.Device` by cuda-python."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.errors import BackendError
from ercohort.gpu.device import Event, GpuMemoryError, HostMemory, Stream
from ercohort.gpu.launches import Launch
from ercohort.gpu.probe import Gpu


class CudaDevice:
    """A CUDA device, and all that was allocated, made or loaded on it.

    Memory of this machine is the process's own and only registered with CUDA: views of it stay valid when
    the device is closed.

    Parameters
    ----------
    gpu
        Which one; `gpu_or_reason` and `find_devices` tell whether there is any.

    Raises
    ------
    BackendError
        CUDA cannot use it.
    """

    def __init__(self, gpu: Gpu) -> None:
        from cuda.bindings import driver, runtime

        self.name = gpu.name
        self._gpu = gpu
        self._runtime = runtime
        self._driver = driver
        self._thread = threading.local()
        self._module: Any = None
        self._kernels: dict[str, Any] = {}
        self._streams: list[Any] = []
        self._undo: list[tuple[Callable[..., Any], Any]] = []
        self._closed = False
        self._free_at_first = self._least_free = 0  # neither memory nor use before the first look
        self._free_at_first = self._least_free = self._free_bytes()

    def load(self, cubin: bytes) -> None:
        """Load the kernels, compiled for this device.

        Raises
        ------
        BackendError
            The driver refuses them.
        """
        self._be_current()
        self._module = self._call(self._driver.cuModuleLoadData, cubin)
        self._undo.append((self._driver.cuModuleUnload, self._module))

    def allocate(self, n_bytes: int) -> int:
        """Return the address of that much zeroed device memory."""
        self._be_current()
        address = int(self._call(self._runtime.cudaMalloc, n_bytes))
        self._undo.append((self._runtime.cudaFree, address))
        self._call(self._runtime.cudaMemset, address, 0, n_bytes)
        # It returns at once, and our streams do not wait for the default one.
        self._call(self._runtime.cudaDeviceSynchronize)
        self._least_free = min(self._least_free, self._free_bytes())
        return address

    def allocate_host(self, n_bytes: int) -> HostMemory:
        """Return that much zeroed memory of this machine, page-locked and mapped."""
        self._be_current()
        array = np.frombuffer(mmap.mmap(-1, n_bytes), np.uint8)
        flags = self._runtime.cudaHostRegisterMapped | self._runtime.cudaHostRegisterPortable
        self._call(self._runtime.cudaHostRegister, array.ctypes.data, n_bytes, flags)
        self._undo.append((self._runtime.cudaHostUnregister, array.ctypes.data))
        address = self._call(self._runtime.cudaHostGetDevicePointer, array.ctypes.data, 0)
        return HostMemory(array, int(address))

    def stream(self) -> Stream:
        """Make a stream that does not wait for the default one."""
        self._be_current()
        stream = self._call(self._runtime.cudaStreamCreateWithFlags, self._runtime.cudaStreamNonBlocking)
        self._undo.append((self._runtime.cudaStreamDestroy, stream))
        self._streams.append(stream)
        return int(stream)

    def event(self) -> Event:
        """Make an event; whoever waits for it sleeps, since the readers need every core."""
        self._be_current()
        event = self._call(self._runtime.cudaEventCreateWithFlags, self._runtime.cudaEventBlockingSync)
        self._undo.append((self._runtime.cudaEventDestroy, event))
        return event

    def copy(self, address: int, source: NDArray[np.uint8], stream: Stream) -> None:
        """Copy page-locked memory to the device."""
        self._be_current()
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync, address, source.ctypes.data, source.nbytes, kind, stream)

    def launch(self, launch: Launch, stream: Stream) -> None:
        """Run a kernel."""
        self._be_current()
        # CUDA takes the arguments' addresses, and copies what is there before it returns.
        cells = [np.array([argument]) for argument in launch.arguments]
        addresses = np.array([cell.ctypes.data for cell in cells], np.uint64)
        kernel = self._kernel(launch.kernel)
        self._call(
            self._driver.cuLaunchKernel,
            kernel, *launch.grid, *launch.block, 0, stream, addresses.ctypes.data, 0,
        )  # fmt: skip

    def record(self, event: Event, stream: Stream) -> None:
        """Let the event happen once the stream is through with all that it was given."""
        self._be_current()
        self._call(self._runtime.cudaEventRecord, event, stream)

    def wait(self, event: Event) -> None:
        """Wait for an event; cuda-python lets go of Python's lock meanwhile."""
        self._be_current()
        self._call(self._runtime.cudaEventSynchronize, event)

    def milliseconds(self, start: Event, end: Event) -> float:
        """Return the time between two events that have happened."""
        self._be_current()
        return float(self._call(self._runtime.cudaEventElapsedTime, start, end))

    def synchronize(self) -> None:
        """Wait until all streams are idle."""
        self._be_current()
        for stream in self._streams:
            self._call(self._runtime.cudaStreamSynchronize, stream)

    def peak_bytes(self) -> int:
        """Return by how much the device's free memory has fallen at most since this object was made.

        That holds what TensorRT took and, where other programs use the same GPU, their changes too. It does
        not hold what the driver took before, for the process itself.
        """
        self._least_free = min(self._least_free, self._free_bytes())
        return max(0, self._free_at_first - self._least_free)

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # Nothing can be done about what fails here; after a failed kernel everything does.
        self._runtime.cudaSetDevice(self._gpu.index)
        while self._undo:
            function, handle = self._undo.pop()
            function(handle)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            self._kernels[name] = self._call(self._driver.cuModuleGetFunction, self._module, name.encode())
        return self._kernels[name]

    def _be_current(self) -> None:
        """Every thread has a current device of its own, the first one to begin with."""
        if not getattr(self._thread, "ready", False):
            self._call(self._runtime.cudaSetDevice, self._gpu.index)
            self._thread.ready = True

    def _free_bytes(self) -> int:
        self._be_current()
        free, _ = self._call(self._runtime.cudaMemGetInfo)
        return int(free)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a CUDA function returned after its status."""
        try:
            status, *values = function(*arguments)
        except RuntimeError as error:  # a driver that lacks the function
            raise BackendError(f"{self.name}: {function.__name__}: {error}; update the driver") from None
        if status.value:
            raise self._error(function.__name__, status)
        return values[0] if len(values) == 1 else tuple(values)

    def _error(self, function: str, status: Any) -> BackendError:
        if status.name in ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY"):
            return GpuMemoryError(
                f"{self.name}: too little free memory ({function}); end other programs on this GPU, or lower "
                "`tensorrt.batch`"
            )
        return BackendError(
            f"{self.name}: {function} failed with {status.name}; run nvidia-smi, or set `backend: openvino`"
        )
