"""A batch on its way through the GPU: the buffers and events it needs and what is put on a stream for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ercohort.backends.protocol import Slot
from ercohort.config import DetectSettings
from ercohort.gpu import launches
from ercohort.gpu.device import Context, Device, Event, HostMemory, Stream
from ercohort.gpu.launches import TileShape

STAGES = ("copy", "preprocess", "engine", "decode_nms")
"""What happens on the device between two events of a flight."""


@dataclass(eq=False)
class Lane:
    """A stream with its own copy of the network and its own device memory.

    Flights on a lane run one after the other, so they share its buffers: only what the host reads or writes
    has to belong to the flight.

    Attributes
    ----------
    addresses
        Device address of each buffer of `launches.sizes`.
    load
        Flights that are on it.
    lock
        Held while a flight is put on the stream: a context takes one caller at a time.
    """

    stream: Stream
    context: Context
    addresses: Mapping[str, int]
    load: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def allocate(
        cls, device: Device, open_context: Callable[[Stream], Context], batch: int, shape: TileShape
    ) -> Lane:
        """Allocate for batches of up to `batch` tiles."""
        stream = device.stream()
        sizes = launches.sizes(batch, shape)
        addresses = {name: device.allocate(n_bytes) for name, n_bytes in sizes.items()}
        return cls(stream, open_context(stream), addresses)

    def run_network(self) -> None:
        """Run the network on a whole batch of whatever the lane's buffers hold."""
        self.context.enqueue(self.addresses["input"], self.addresses["head"])


@dataclass(eq=False)
class Flight:
    """What one batch in flight has to itself, allocated once and used for one batch after another.

    Attributes
    ----------
    tiles, result
        Where the tiles lie, copied in with them, and what was found.
    events
        When the flight began, and when each of `STAGES` ended; the last one ends the flight.
    lane
        Where it is, or was last.
    slots
        The tiles of its batch, by row.
    to_land
        How many of them are still to be collected.
    """

    tiles: HostMemory
    result: HostMemory
    events: tuple[Event, ...]
    lane: Lane | None = None
    slots: tuple[Slot, ...] = ()
    to_land: int = 0

    @classmethod
    def allocate(cls, device: Device, batch: int, shape: TileShape) -> Flight:
        """Allocate for batches of up to `batch` tiles."""
        return cls(
            tiles=device.allocate_host(launches.tiles_bytes(batch)),
            result=device.allocate_host(launches.result_bytes(batch, shape)),
            events=tuple(device.event() for _ in range(len(STAGES) + 1)),
        )

    @property
    def done(self) -> Event:
        """The event after which the result can be read."""
        return self.events[-1]

    def board(self, slots: Sequence[Slot], lane: Lane) -> None:
        """Take a batch to a lane."""
        self.slots = tuple(slots)
        self.to_land = len(self.slots)
        self.lane = lane
        lane.load += 1

    def enqueue(
        self, device: Device, shape: TileShape, detect: DetectSettings, slide_size: tuple[int, int]
    ) -> None:
        """Put copies, kernels and network on the lane's stream, and return at once.

        The network always runs a whole batch, whatever the other rows hold: kernels chosen by the number of
        tiles would round differently, and a nucleus would depend on which tiles happened to fly together.
        """
        assert self.lane is not None
        lane, stream, n = self.lane, self.lane.stream, len(self.slots)
        addresses = {**lane.addresses, "result": self.result.address}
        for row, slot in enumerate(self.slots):
            assert slot.tile is not None
            launches.pack_tile(self.tiles.array, row, slot.tile, slide_size, shape.side)
        before = launches.before_engine(addresses, shape, n)
        after = launches.after_engine(addresses, shape, n, score=detect.score, nms_iou=detect.nms_iou)
        with lane.lock:
            device.record(self.events[0], stream)
            for row, slot in enumerate(self.slots):
                device.copy(addresses["images"] + launches.image_offset(row, shape), slot.image, stream)
            device.copy(addresses["tiles"], self.tiles.array[: launches.tiles_bytes(n)], stream)
            device.record(self.events[1], stream)
            for launch in before:
                device.launch(launch, stream)
            device.record(self.events[2], stream)
            lane.run_network()
            device.record(self.events[3], stream)
            for launch in after:
                device.launch(launch, stream)
            device.record(self.done, stream)
