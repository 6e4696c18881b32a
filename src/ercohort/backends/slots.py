"""The bookkeeping that all backends share: which slot is where, who waits for what, what it took."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ercohort.backends.protocol import Candidates, Slot
from ercohort.errors import BackendError
from ercohort.model import ModelInfo

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]
"""Boxes, scores and labels of one tile: the last three fields of `Candidates`."""


def where(slot: Slot) -> str:
    """Name the tile in a slot, for messages."""
    return f"tile {slot.tile.tile_id} at {slot.tile.x}, {slot.tile.y}" if slot.tile else "a tile"


@dataclass(frozen=True)
class _Run:
    slot: Slot
    started: float
    error: Exception | None


class SlotBackend(ABC):
    """Base of the backends: implements `ercohort.backends.protocol.Backend` but for the network itself.

    Tiles are taken in the order in which they were started; whoever takes one waits for it with no lock
    held. A subclass implements `_start` and `_collect`. It adds `_wait` if the network still runs when
    `_started` is called, `_flush` if it gathers tiles into batches, and `_free` if it holds memory that
    closing should give back at once.

    Parameters
    ----------
    images
        One (tile_px, tile_px, 3) uint8 array per slot.
    name, precision, device, model, threads
        See the protocol.
    """

    def __init__(
        self,
        images: list[npt.NDArray[np.uint8]],
        *,
        name: str,
        precision: str,
        device: str,
        model: ModelInfo,
        threads: int = 1,
    ) -> None:
        self.name = name
        self.precision = precision
        self.device = device
        self.model = model
        self.threads = threads
        self.tile_px = images[0].shape[0]
        self.n_slots = len(images)
        self._changed = threading.Condition()
        self._slots = tuple(Slot(index, image) for index, image in enumerate(images))
        self._idle = deque(self._slots)
        self._running: deque[_Run] = deque()
        self._untaken = 0  # tiles that were submitted and not yet taken
        self._ended = self._cancelled = self._closed = False
        self._busy_until = self._infer_seconds = self._decode_seconds = 0.0
        self._slide_size = (0, 0)
        self._n_dropped = 0

    @abstractmethod
    def _start(self, slot: Slot) -> None:
        """Start the network on a slot without waiting; call `_started`, now or when its batch is started."""

    @abstractmethod
    def _collect(self, slot: Slot) -> Found:
        """Read a finished slot's result; called by consumer threads, many at once for different slots."""

    def _wait(self, slot: Slot) -> float:
        """Wait until the network is through with a started slot; return when that was (`perf_counter`)."""
        return perf_counter()

    def _flush(self) -> None:
        """Start what waits for a batch to fill."""
        return

    def _free(self) -> None:
        """Free everything; nothing is in flight."""
        return

    def _started(self, slot: Slot, error: Exception | None = None) -> None:
        """Say that the network runs on a slot, or why it does not; called by any thread."""
        with self._changed:
            self._running.append(_Run(slot, perf_counter(), error))
            self._changed.notify_all()

    def begin(self, slide_size: tuple[int, int]) -> None:
        """Start a shard."""
        with self._changed:
            self._slide_size = slide_size
            self._ended = False
            self._infer_seconds = self._decode_seconds = 0.0
            self._n_dropped = 0

    def _note_dropped(self, slot: Slot, n_dropped: int, n_anchors: int, cure: str) -> None:
        """Count the anchors of a tile that hold numbers that are no nucleus.

        Raises
        ------
        BackendError
            Most of them do: that is no tile, but a network that failed.
        """
        if 2 * n_dropped > n_anchors:
            raise BackendError(
                f"{self.model.path}: most of what the network gave on {where(slot)} is no number or no box; "
                f"{cure}, or export the detector again"
            )
        if n_dropped:
            with self._changed:
                self._n_dropped += n_dropped

    def acquire(self) -> Slot | None:
        """Return a free slot, waiting for one; None once cancelled."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._idle)
            return None if self._cancelled else self._idle.popleft()

    def submit(self, slot: Slot) -> None:
        """Hand in a filled slot."""
        with self._changed:
            if self._cancelled:
                return
            self._untaken += 1
        try:
            self._start(slot)
        except Exception as error:
            # It goes to whoever takes it, like a failure inside the network: one way for both.
            self._started(slot, error)

    def take(self) -> Candidates | None:
        """Return the next finished tile, waiting for one; None at the end of the shard or once cancelled."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._cancelled or self._running or (self._ended and self._untaken == 0)
            )
            if self._cancelled or not self._running:
                return None
            run = self._running.popleft()
            self._untaken -= 1
            if self._untaken == 0:
                self._changed.notify_all()
        if run.error is not None:
            raise run.error
        done = self._wait(run.slot)
        begun = perf_counter()
        found = self._collect(run.slot)
        with self._changed:
            self._infer_seconds += max(0.0, done - max(run.started, self._busy_until))
            self._busy_until = max(done, self._busy_until)
            self._decode_seconds += perf_counter() - begun
        return Candidates(run.slot, *found)

    def release(self, slot: Slot) -> None:
        """Give a slot back."""
        with self._changed:
            slot.tile = None
            self._idle.append(slot)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that no more tiles come in this shard."""
        self._flush()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Wake every thread that waits."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def seconds(self) -> dict[str, float]:
        """Return seconds spent since `begin`."""
        with self._changed:
            return {"infer": self._infer_seconds, "decode_nms": self._decode_seconds}

    def stats(self) -> dict[str, Any]:
        """Return what else to record of the time since `begin`.

        `dropped_boxes`: anchors whose numbers are no nucleus.
        """
        return {"busy_seconds": self.seconds()["infer"], "dropped_boxes": self._n_dropped}

    def close(self) -> None:
        """Cancel, wait for what is in flight and free all buffers; a second call does nothing."""
        self.cancel()
        with self._changed:
            if self._closed:
                return
            self._closed = True
        self._flush()
        with self._changed:
            running = tuple(self._running)
        for run in running:
            if run.error is None:
                # What failed here was already in flight when the shard was given up; nobody asks for it now.
                with suppress(Exception):
                    self._wait(run.slot)
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
