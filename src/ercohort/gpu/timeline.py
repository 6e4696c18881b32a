"""When the device was busy, from the events of every flight."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ercohort.gpu.flight import STAGES


class Timeline:
    """The stages of all flights of a shard; flights of several streams overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: list[tuple[float, ...]] = []

    def clear(self) -> None:
        """Forget all flights."""
        with self._lock:
            self._flights = []

    def add(self, milliseconds: Sequence[float]) -> None:
        """Add a flight: when it began and when each of `STAGES` ended, ms since any one moment."""
        with self._lock:
            self._flights.append(tuple(milliseconds))

    def busy_seconds(self) -> float:
        """Return the time during which at least one flight was on the device."""
        times = self._times()
        return _covered(times[:, 0], times[:, -1])

    def engine_seconds(self) -> float:
        """Return the time during which at least one flight was in the network."""
        times, place = self._times(), STAGES.index("engine")
        return _covered(times[:, place], times[:, place + 1])

    def stage_seconds(self) -> dict[str, float]:
        """Return the length of each stage, summed over flights, so waits for other streams' kernels too."""
        lengths = np.diff(self._times(), axis=1).sum(axis=0) / 1e3
        return dict(zip(STAGES, lengths.tolist(), strict=True))

    def _times(self) -> NDArray[np.float64]:
        with self._lock:
            return np.array(self._flights, np.float64).reshape(-1, len(STAGES) + 1)


def _covered(start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    """Seconds that intervals in ms cover together."""
    order = np.argsort(start)
    start, end = start[order], end[order]
    # What is before the furthest end so far has been counted with an earlier interval.
    until = np.maximum.accumulate(np.concatenate([[-np.inf], end[:-1]]))
    return float(np.maximum(end - np.maximum(start, until), 0.0).sum() / 1e3)
