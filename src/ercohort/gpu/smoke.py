"""One inference of a new engine in a process of its own: a wrong plan can end the process that loads it.

``python -m ercohort.gpu.smoke PLAN --device 0 --batch 8 --side 640`` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ercohort.errors import BackendError, ErcohortError
from ercohort.gpu.probe import Gpu
from ercohort.gpu.profile import Profile

_TIMEOUT = 600.0  # seconds; TensorRT-RTX compiles its kernels here


def try_plan(plan: Path, gpu: Gpu, profile: Profile) -> dict[str, Any]:
    """Load a plan and run one batch of white tiles, in a child process.

    Returns
    -------
    What the child printed: `milliseconds` of the first inference, `scratch_bytes` of one context.

    Raises
    ------
    BackendError
        The child crashed, did not end, or could not run the engine; with its own words.
    """
    command = [sys.executable, "-m", "ercohort.gpu.smoke", str(plan), "--device", str(gpu.index)]
    command += ["--batch", str(profile.batch), "--side", str(profile.tile_px)]
    return run_child(command, gpu.name)


def run_child(command: list[str], device: str, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """Run a child that prints JSON on its last line; turn whatever becomes of it into one line.

    Raises
    ------
    BackendError
        It crashed, failed or did not end within `timeout` seconds.
    """
    cure = "the engine was not kept; update the driver or TensorRT, or set `backend: openvino`"
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BackendError(f"a new engine did not run within {timeout:g} s on {device}; {cure}") from None
    words = " ".join(done.stderr.split())[-400:]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BackendError(f"a new engine crashed on {device} ({name}); {cure}: {words or 'no words'}")
    try:
        if done.returncode:
            raise ValueError
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        raise BackendError(f"a new engine does not run on {device}; {cure}: {words or 'no words'}") from None


def _infer(plan: Path, device: int, batch: int, side: int) -> dict[str, Any]:
    from cuda.bindings import runtime

    from ercohort.gpu.engine import load_engine
    from ercohort.gpu.flavour import find_flavour

    def call(function: Any, *arguments: Any) -> Any:
        status, *values = function(*arguments)
        if status.value:
            raise BackendError(f"{function.__name__}: {status.name}")
        return values[0] if values else None

    call(runtime.cudaSetDevice, device)
    stream = call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
    engine = load_engine(find_flavour(), plan.read_bytes())
    context = engine.context()
    scratch = context.set_shape(batch, side)
    context.use_scratch(int(call(runtime.cudaMalloc, max(scratch, 1))), scratch)
    image = np.ones((batch, 3, side, side), engine.input_dtype)
    heads = np.full(context.output_shape(), np.nan, np.float32)
    source, result = (int(call(runtime.cudaMalloc, array.nbytes)) for array in (image, heads))
    kinds = runtime.cudaMemcpyKind
    call(runtime.cudaMemcpy, source, image.ctypes.data, image.nbytes, kinds.cudaMemcpyHostToDevice)
    begun = time.perf_counter()
    context.run(int(stream), source, result)
    call(runtime.cudaStreamSynchronize, stream)
    taken = time.perf_counter() - begun
    call(runtime.cudaMemcpy, heads.ctypes.data, result, heads.nbytes, kinds.cudaMemcpyDeviceToHost)
    if not np.isfinite(heads).all():
        raise BackendError("its output is not finite")
    return {"milliseconds": round(taken * 1e3, 3), "scratch_bytes": scratch}


def main() -> None:
    """Run the child's side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    for name in ("device", "batch", "side"):
        parser.add_argument(f"--{name}", type=int, required=True)
    try:
        print(json.dumps(_infer(**vars(parser.parse_args()))))
    except ErcohortError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
