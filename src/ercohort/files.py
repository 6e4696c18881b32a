"""Writing files so that a half-written one is never seen under its final name."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ercohort.errors import DiskError

if TYPE_CHECKING:
    import polars as pl

_CURES = {
    errno.ENOSPC: "no space left on its disk; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "its file system is read-only; make it writable",
    errno.EACCES: "no permission to write there; change the folder's owner or rights",
    errno.EPERM: "no permission to write there; change the folder's owner or rights",
    errno.EIO: "the disk failed (input/output error); check it",
    errno.ESTALE: "the network share lost it (stale file handle); mount it again",
    errno.ENOENT: "its folder was removed while it was written; leave it there",
}
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ANYWHERE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
"""Errors of a file that is read, too: a writer may read others meanwhile."""

_FULL = ("No space left on device", "Disk quota exceeded")
"""How the system says ENOSPC and EDQUOT; libraries hand on the words, not always the number."""
_ROW_GROUP = 1 << 18


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends without error.

    The temporary name keeps the suffix of `path`, because image writers choose the format by it. What a
    process that was killed has left under such a name is removed.

    Raises
    ------
    DiskError
        It cannot be written.
    """
    final = Path(path)
    with _explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(final)
        handle, temporary = _temporary(final)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(final)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)


def _temporary(final: Path) -> tuple[int, Path]:
    """Make a temporary file and mark it as being written."""
    while True:
        handle, name = tempfile.mkstemp(
            prefix=f".{final.name}.", suffix=f".tmp{final.suffix}", dir=final.parent
        )
        hold(handle)
        if os.fstat(handle).st_nlink:  # else another writer took it for left over, before it was marked
            return handle, Path(name)
        os.close(handle)


def hold(handle: int) -> None:
    """Mark a temporary file or folder as one that is being written; the mark ends with this process."""
    with suppress(OSError):  # a file system without locks: nothing is removed there
        fcntl.flock(handle, fcntl.LOCK_EX)


def remove_left_over(final: Path) -> None:
    """Remove temporary files and folders of `final` that no living process holds."""
    name = glob.escape(final.name)
    # Two dots: a writer that was given a temporary name has made another of it.
    for left in [*final.parent.glob(f".{name}.*.tmp*"), *final.parent.glob(f"..{name}.*.tmp*")]:
        try:
            handle = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(handle)


@contextmanager
def _explained(final: Path) -> Iterator[None]:
    """Say in one line why a file cannot be written."""
    try:
        yield
    except Exception as error:
        # A writer inside that has made a temporary name of this one's has explained it already, by that name.
        number = error.errno if isinstance(error, DiskError) else _number(error, final)
        if number is None:
            raise
        cure = _CURES.get(number, os.strerror(number))
        raise DiskError(
            number, f"{final}: {cure} and run the same command again; what is finished is kept"
        ) from error


def _number(error: Exception, final: Path) -> int | None:
    """Return the number of the error if the disk that `final` is on is to blame for it."""
    if isinstance(error, OSError):
        there = str(error.filename).startswith(f"{final.parent}{os.sep}")
        if error.errno in _WRITING or (error.errno in _ANYWHERE and there):
            return error.errno
        if error.errno == errno.ENOENT and not final.parent.exists():
            return errno.ENOENT
    return errno.ENOSPC if any(words in str(error) for words in _FULL) else None


def _sync(path: Path) -> None:
    """Bring a file onto its disk: the rename must not survive a power cut that its content does not."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_text(path: str | os.PathLike[str], most_bytes: int) -> str:
    """Read a small text file (UTF-8, with or without its mark).

    Raises
    ------
    OSError
        It cannot be read; it is no regular file, which may not end; or it is larger than `most_bytes`.
    UnicodeDecodeError
        It is no UTF-8.
    """
    file = Path(path)
    if "\0" in str(path) or not file.exists():
        raise FileNotFoundError(errno.ENOENT, "no such file")
    if not file.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    with file.open("rb") as opened:
        content = opened.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes / 1e6:.0f} MB")
    return content.decode("utf-8-sig")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are errors, since JSON has neither."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: str | os.PathLike[str], table: pl.DataFrame, schema: dict[str, Any]) -> None:
    """Write a Parquet file whose columns are exactly those of `schema`, in that order (zstd).

    Equal tables give equal bytes, in whatever pieces they lie in memory.
    """
    table = table.select(table.get_column(name).cast(dtype) for name, dtype in schema.items())
    with atomic_path(path) as temporary:
        # Left to itself, polars cuts large tables into row groups by the chunks in which they lie.
        table.write_parquet(temporary, compression="zstd", row_group_size=_ROW_GROUP)
