"""What the pipeline asks of a GPU: memory, streams, events, copies, launches. Little enough to be faked.

Addresses, streams and events are the device's own handles; nobody else looks into them. Everything that
takes a stream returns at once and happens in the order of its stream. All methods may be called by many
threads at once; whatever goes wrong is a `BackendError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ercohort.errors import BackendError
from ercohort.gpu.launches import Launch

Stream = int
Event = Any


class GpuMemoryError(BackendError):
    """The GPU has too little free memory: smaller batches or the CPU may still do."""


@dataclass(frozen=True, eq=False)
class HostMemory:
    """Memory of this machine that the GPU reads and writes by itself.

    Attributes
    ----------
    array
        (bytes,) uint8, page-aligned. It outlives the device, so a view of it is always safe to touch.
    address
        The same memory as kernels see it.
    """

    array: NDArray[np.uint8]
    address: int


class Device(Protocol):
    """One GPU.

    Attributes
    ----------
    name
        The GPU's own name.
    """

    name: str

    def allocate(self, n_bytes: int) -> int:
        """Return the address of that much zeroed device memory, which lasts until `close`.

        Raises
        ------
        GpuMemoryError
            There is not that much.
        """

    def allocate_host(self, n_bytes: int) -> HostMemory:
        """Return that much zeroed memory of this machine, page-locked and mapped until `close`."""

    def stream(self) -> Stream:
        """Make a stream."""

    def event(self) -> Event:
        """Make an event that remembers when it happened."""

    def copy(self, address: int, source: NDArray[np.uint8], stream: Stream) -> None:
        """Copy page-locked memory, any shape without gaps, to the device."""

    def launch(self, launch: Launch, stream: Stream) -> None:
        """Run a kernel."""

    def record(self, event: Event, stream: Stream) -> None:
        """Let the event happen once the stream is through with all that it was given."""

    def wait(self, event: Event) -> None:
        """Wait for an event; not with other threads' locks, nor Python's."""

    def milliseconds(self, start: Event, end: Event) -> float:
        """Return the time between two events that have happened, of any two streams."""

    def synchronize(self) -> None:
        """Wait until all streams are idle."""

    def peak_bytes(self) -> int:
        """Return the most device memory that this process held, as far as it was looked at."""

    def close(self) -> None:
        """Free everything; a second call does nothing."""


class Context(Protocol):
    """One copy of the network, for one stream."""

    def enqueue(self, source: int, result: int) -> None:
        """Run a whole batch from the input at one device address to the output at another."""

    def close(self) -> None:
        """Give back what belongs to it; nothing is in flight."""
