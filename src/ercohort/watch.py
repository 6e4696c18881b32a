"""Ending a job that stands still, so that the workflow can try again."""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Self

LOGGER = logging.getLogger("ercohort")

STILL_S = 900.0
"""Seconds without progress after which a job counts as standing still; one tile takes well below one."""


class Watch:
    """A `with` block that ends the whole process if `beat` is not called for too long.

    A C library that reads a damaged file, or a disk that is gone, can keep a thread busy for ever, and
    nothing inside Python can end that thread.

    Parameters
    ----------
    what
        What stands still, for the message.
    limit_s
        Seconds, counted while the process runs: a job that was stopped and goes on has not stood still.
    """

    def __init__(self, what: str, limit_s: float = STILL_S) -> None:
        self._what = what
        self._limit_s = limit_s
        self._tick_s = min(1.0, limit_s / 4)
        self._over = threading.Event()
        self._still = 0.0
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def beat(self) -> None:
        """Say that work goes on."""
        self._still = 0.0

    def _look(self) -> None:
        while not self._over.wait(self._tick_s):
            self._still += self._tick_s
            if self._still > self._limit_s:
                message = f"{self._what}: no progress for {self._limit_s:g} s; the job is ended"
                LOGGER.error("%s", message)
                print(f"ercohort: {message}", file=sys.stderr, flush=True)
                os._exit(1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
