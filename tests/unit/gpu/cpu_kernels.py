"""The GPU kernels on the CPU: their source compiled as C++ under a shim, launched as on a device."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ercohort.gpu.compile import SOURCES, macros
from ercohort.gpu.launches import Launch, TileShape, result_bytes, sizes

SHIM = Path(__file__).parent / "shim"
# No contraction, as for the GPU: a fused multiply-add rounds once where NumPy rounds twice.
OPTIONS = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-function"]
GUARD = 64  # bytes on both sides of each buffer that no kernel may touch


class CpuKernels:
    """The kernels of one compilation; compiled anew for each instance."""

    def __init__(self, *, fp16_input: bool, sources: Path = SOURCES) -> None:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed: the GPU kernels cannot be compiled for the CPU")
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / "kernels.so"
        defines = [f"-D{name}={value}" for name, value in macros(fp16_input=fp16_input).items()]
        command = ["g++", *OPTIONS, *defines, "-shared", "-fPIC", f"-I{sources}", f"-I{SHIM}"]
        done = subprocess.run([*command, str(SHIM / "driver.cpp"), "-o", str(library)], capture_output=True)
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        self._library = ctypes.CDLL(str(library))

    def run(self, launches: Iterable[Launch], seed: int = 0) -> None:
        """Carry out launches one after another; the arguments' types must be the kernel's."""
        for launch in launches:
            name = launch.kernel.encode()
            expected = (ctypes.c_int * 32)()
            count = self._library.argument_sizes(name, expected)
            if count < 0 or list(expected[:count]) != [value.itemsize for value in launch.arguments]:
                raise TypeError(f"{launch.kernel}: no such kernel, or one with other arguments")
            values = [np.array(value) for value in launch.arguments]
            pointers = (ctypes.c_void_p * count)(*(value.ctypes.data for value in values))
            grid, block = (ctypes.c_uint * 3)(*launch.grid), (ctypes.c_uint * 3)(*launch.block)
            if self._library.launch(name, grid, block, pointers, seed):
                raise RuntimeError(f"{launch.kernel}: a barrier that some threads of a block do not reach")


@functools.cache
def cpu_kernels(fp16_input: bool = True) -> CpuKernels:
    """Compile the kernels once for all tests."""
    return CpuKernels(fp16_input=fp16_input)


class Memory:
    """All buffers of a batch, full of garbage, each between guards."""

    def __init__(self, batch: int, shape: TileShape, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        needed = {**sizes(batch, shape), "result": result_bytes(batch, shape)}
        self._whole, self._start = {}, {}
        for name, size in needed.items():
            whole = rng.integers(0, 256, size + 3 * GUARD, np.uint8)
            start = GUARD + -whole.ctypes.data % GUARD
            whole[:start] = whole[start + size :] = 0xA5
            self._whole[name], self._start[name] = whole, start
        self.buffers = {
            name: whole[self._start[name] : self._start[name] + needed[name]]
            for name, whole in self._whole.items()
        }
        self.addresses = {name: buffer.ctypes.data for name, buffer in self.buffers.items()}

    def check_guards(self) -> None:
        """Fail if a kernel wrote beside a buffer."""
        for name, whole in self._whole.items():
            end = self._start[name] + len(self.buffers[name])
            assert (whole[: self._start[name]] == 0xA5).all(), f"written before {name}"
            assert (whole[end:] == 0xA5).all(), f"written behind {name}"
