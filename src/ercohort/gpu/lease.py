"""One GPU per job: jobs on one machine agree by file locks on who uses which."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ercohort.errors import BackendError
from ercohort.gpu.probe import Gpu
from ercohort.locks import try_lock

LOGGER = logging.getLogger("ercohort")

_LOOK_AGAIN = 0.2  # seconds; flock can wait for one file only, and any of the devices will do


@contextmanager
def lease_gpu(devices: Sequence[Gpu], folder: Path | None = None) -> Iterator[Gpu]:
    """Yield the lowest GPU that no other job holds, waiting for one; it is given back at the end.

    A job that dies gives its GPU back too: the kernel lets go of its lock. Locks are named by the device's
    UUID, so that jobs with different `CUDA_VISIBLE_DEVICES` agree.

    Parameters
    ----------
    devices
        The GPUs that this process sees, as `find_devices` lists them.
    folder
        Of the lock files, local to this machine; None takes one of this user's in the temporary folder.

    Raises
    ------
    BackendError
        There is no device, or the lock files cannot be written.
    """
    if not devices:
        raise BackendError("there is no GPU to lease; set `backend: openvino` to run on the CPU")
    folder = default_folder() if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        gpu, handle = _wait(devices, folder)
    except OSError as error:
        raise BackendError(
            f"{folder}: the lock of a GPU cannot be written: {error.strerror or error}; "
            "set TMPDIR to a folder that you can write"
        ) from None
    try:
        yield gpu
    finally:
        os.close(handle)


def default_folder() -> Path:
    """Return this user's folder of lock files; GPUs are of one machine, and so is the temporary folder."""
    return Path(tempfile.gettempdir()) / f"ercohort-gpus-{os.getuid()}"


def _wait(devices: Sequence[Gpu], folder: Path) -> tuple[Gpu, int]:
    told = False
    while True:
        for gpu in sorted(devices, key=lambda gpu: gpu.index):
            handle = try_lock(folder / f"{gpu.uuid}.lock")
            if handle is not None:
                return gpu, handle
        if not told:
            LOGGER.info("all %d GPUs are used by other jobs; waiting for one", len(devices))
            told = True
        time.sleep(_LOOK_AGAIN)
