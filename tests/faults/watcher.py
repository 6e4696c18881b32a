"""Watching a folder of results through inotify: every file must appear whole, by a rename."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import threading
import zipfile
from pathlib import Path

import polars as pl
from PIL import Image

_MODIFY, _MOVED_TO, _CREATE, _IS_DIR = 0x2, 0x80, 0x100, 0x40000000
_EVENT = struct.Struct("iIII")
_NOT_OURS = ("logs", "benchmarks")
"""Folders of what is written while a job runs, by its nature."""


class Watcher:
    """A `with` block around runs; `bad` says which files were seen half, `seen` lists all in their order."""

    def __init__(self, folder: Path) -> None:
        self.bad: list[str] = []
        self.seen: list[Path] = []
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._paths: dict[int, Path] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watcher:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._inotify >= 0
        self._add(self._folder)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._inotify)

    def _add(self, folder: Path) -> None:
        if folder.name in _NOT_OURS:
            return
        mask = _MODIFY | _MOVED_TO | _CREATE
        number = self._libc.inotify_add_watch(self._inotify, os.fsencode(folder), mask)
        if number >= 0:  # else it was removed meanwhile
            self._paths[number] = folder
            for path in _listed(folder):  # what was there before the watch
                if path.is_dir():
                    self._add(path)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            try:
                events = os.read(self._inotify, 1 << 16)
            except BlockingIOError:
                continue
            at = 0
            while at < len(events):
                number, mask, _, length = _EVENT.unpack_from(events, at)
                name = events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                if number in self._paths and name:
                    self._judge(self._paths[number] / os.fsdecode(name), mask)

    def _judge(self, path: Path, mask: int) -> None:
        if mask & _IS_DIR:
            self._add(path)
        elif not path.name.startswith("."):
            if mask & (_CREATE | _MODIFY):
                self.bad.append(f"{path}: written under its final name")
            elif trouble := damage(path):
                self.bad.append(f"{path}: {trouble}")
            else:
                self.seen.append(path)


def damage(path: Path) -> str:
    """Say what is wrong with a file of results; nothing where it is whole, or has gone."""
    try:
        if path.suffix == ".parquet":
            pl.read_parquet(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".zip":
            assert zipfile.ZipFile(path).testzip() is None
        elif path.suffix in (".png", ".jpg", ".tif"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".csv":
            assert path.read_text().endswith("\n")
    except FileNotFoundError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
