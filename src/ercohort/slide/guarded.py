"""Reading a slide in a child process: a crash or a hang of an image library costs the pixels it was at.

Slower than `open_slide` by one copy of the pixels, and reads one window at a time. The tissue mask is read
so always, since nothing is known of the file by then; the detection and the pictures only after a job that
read the slide itself has died.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

import numpy as np

from ercohort.errors import SlideError, Status
from ercohort.slide import child
from ercohort.slide.info import SlideInfo
from ercohort.slide.openslide_source import Patch
from ercohort.slide.reader import Slide, open_slide

LOGGER = logging.getLogger("ercohort")

OPEN_S = 180.0
"""Seconds that a slide may take to open."""

READ_S = 120.0
"""Seconds that one window may take; the largest are 2048 x 2048 px."""

_PATIENCE = 48
"""Crashes after which the rest of the slide counts as unreadable: each costs the start of a process."""

_HANG = 16
"""As many crashes does one hang count for."""


def open_guarded(
    path: str | os.PathLike[str], *, mpp: float | None = None, info: SlideInfo | None = None
) -> Slide:
    """Open a slide as `open_slide` does, with the libraries that read it in a child process.

    A window at which the reader crashes, hangs or takes too much memory is a `SlideError` like any that
    cannot be decoded; other windows can still be read afterwards.

    Raises
    ------
    SlideError
        `missing`, `unreadable` (also where the reader crashes or does not end) or `no_mpp`.
    MachineError
        The child was ended from outside.
    """
    source = GuardedSource(os.fspath(path), mpp, info)
    try:
        return Slide(source, source.open())
    except BaseException:
        source.close()
        raise


def open_reader(info: SlideInfo, *, guarded: bool) -> Slide:
    """Open a slide that is known already, in this process or guarded.

    Raises
    ------
    SlideError
        `missing` or `unreadable`.
    MachineError
        The child was ended from outside.
    """
    if not guarded:
        return open_slide(info.path, info=info)
    LOGGER.info("%s: read in a process of its own, since the job before this one died", info.path)
    return open_guarded(info.path, info=info)


class GuardedSource:
    """Pixels of one level, decoded by a child process that is started again when it dies.

    Parameters
    ----------
    path, mpp, info
        As for `open_slide`.
    """

    def __init__(self, path: str, mpp: float | None, info: SlideInfo | None) -> None:
        self._path = path
        self._mpp = mpp
        self._info = info
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._patience = _PATIENCE

    def open(self) -> SlideInfo:
        """Start the child and open the slide in it."""
        known = self._info.to_dict() if self._info else None
        worker = self._worker = _Worker(self._path)
        question = {"path": self._path, "mpp": self._mpp, "info": known}
        self._info = SlideInfo.from_dict(worker.ask(question, OPEN_S))
        self._mpp = None  # what the sheet stated is part of the description now
        return self._info

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Patch:
        """Read a window given in pixels of `level`, which must lie inside it.

        Raises
        ------
        SlideError
            `unreadable`, if these pixels cannot be decoded, or crash the reader.
        """
        with self._lock:
            if self._patience <= 0:
                raise SlideError(
                    Status.UNREADABLE,
                    f"{self._path}: it crashes the slide reader or keeps it busy again and again; "
                    "copy or export the slide again",
                )
            try:
                if self._worker is None:
                    self.open()
                assert self._worker is not None
                place = self._worker.ask({"window": [level, x, y, width, height]}, READ_S)
            except _WorkerLostError as lost:
                self.close()
                self._patience -= _HANG if lost.hung else 1
                LOGGER.warning("level %d, x %d, y %d: %s", level, x, y, lost.message)
                raise
            pixels = np.frombuffer(self._worker.receive(), np.uint8).reshape(height, width, 3)
        return Patch(pixels, *place)

    def close(self) -> None:
        """End the child."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None


class _WorkerLostError(SlideError):
    """The child crashed or was ended for taking too long."""

    def __init__(self, message: str, hung: bool) -> None:
        super().__init__(Status.UNREADABLE, message)
        self.hung = hung


class _Worker:
    """The child process, as its parent sees it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed by `end`
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ercohort.slide.guarded", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                env=child.environment(),
            )

    def ask(self, question: dict[str, Any], timeout_s: float) -> Any:
        """Return the answer to a question; the child's errors are raised here."""
        try:
            self._pipe.send_bytes(json.dumps({**question, "seconds": timeout_s}).encode())
            if not self._pipe.poll(timeout_s):
                raise _WorkerLostError(child.took_too_long(self._path, timeout_s), hung=True)
            answer = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            self._explain_death(timeout_s)
        return child.result_of(answer)

    def receive(self) -> bytes:
        """Return the pixels that follow the answer to a window."""
        return self._pipe.recv_bytes()

    def _explain_death(self, timeout_s: float) -> None:
        code = self._process.wait()
        if code < 0:
            message = child.cause_of_death(self._path, -code, timeout_s)
            raise _WorkerLostError(message, hung=-code == signal.SIGALRM)
        self._stderr.seek(0)
        trouble = self._stderr.read().decode("utf-8", "replace").strip()
        raise RuntimeError(f"the slide reader failed on {self._path}:\n{trouble}")

    def end(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()


def _serve(pipe: Connection) -> None:
    """Be the child: open the slide, then send windows of it until the parent has gone."""
    slide: Slide | None = None
    path = ""
    while True:
        try:
            question = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        child.limit_time(question["seconds"])
        path = question.get("path", path)
        pixels = None

        def work(question: dict[str, Any] = question) -> Any:
            nonlocal slide, pixels
            if "path" in question:
                info = SlideInfo.from_dict(question["info"]) if question["info"] else None
                slide = open_slide(question["path"], mpp=question["mpp"], info=info)
                return slide.info.to_dict()
            assert slide is not None
            patch = slide.source.read(*question["window"])
            pixels = np.ascontiguousarray(patch.pixels)
            return [patch.x, patch.y]

        pipe.send_bytes(json.dumps(child.answer(work, path)).encode())
        if pixels is not None:
            pipe.send_bytes(pixels.data.cast("B"))
        child.limit_time(None)


if __name__ == "__main__":
    child.limit_memory()
    _serve(Connection(int(sys.argv[1])))
    os._exit(0)  # after damaged files the libraries may crash while they tidy up
