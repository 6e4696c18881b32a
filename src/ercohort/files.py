"""Writing files so that a half-written one is never seen under its final name."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends without error.

    The temporary name keeps the suffix of `path`, because image writers choose the format by it.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=f".tmp{final.suffix}", dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Write a Parquet file whose columns are exactly those of `schema`, in that order (zstd)."""
    table = table.select(table.get_column(name).cast(dtype) for name, dtype in schema.items())
    with atomic_path(path) as temporary:
        table.write_parquet(temporary, compression="zstd")
