"""Locks between processes that the kernel lets go of when a process dies, however it dies.

`flock`, not `fcntl`: a lock of `fcntl` is lost as soon as the process closes any descriptor of the file.
On NFS the two are the same lock, kept by the server, and so hold between machines too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock a file without waiting, making it if it is not there.

    Parameters
    ----------
    shared
        Whether others may hold the lock as well, provided that they share it too.

    Returns
    -------
    The open file descriptor, which holds the lock until it is closed; None where another holds it.

    Raises
    ------
    OSError
        The file cannot be made or locked.
    """
    handle = _open(path)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def is_held(path: Path) -> bool:
    """Tell whether a process, this one included, holds the lock of a file for itself alone.

    Raises
    ------
    OSError
        The file cannot be made or locked.
    """
    handle = try_lock(path, shared=True)
    if handle is None:
        return True
    os.close(handle)
    return False


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file; call `waiting` once if another holds it, then wait.

    Raises
    ------
    OSError
        The file cannot be made or locked.
    """
    handle = try_lock(path)
    if handle is None:
        waiting()
        handle = _open(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
