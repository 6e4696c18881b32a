"""Slots in, candidates out, by way of any `Device`: who puts which batch on which stream, and when.

Tiles gather into a batch. Whoever completes one puts it on a free flight, on the stream with least to do; if
no flight is free, the batch waits, and whoever collects the last tile of a flight puts the waiting batch on
it. So nobody who hands in a tile ever waits, and no thread is needed besides the readers and consumers.

Consumers wait for a flight's last event with no lock held. A batch can only wait while every flight is in
the air or being collected, so the consumers always have something to take: there is no deadlock.

The first failure ends it: what else was handed in, and whatever is handed in later, is taken as that error.
After a failed launch a GPU is in no state to go on, and no flight's buffers can be said to be free.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

from ercohort.backends.protocol import Slot
from ercohort.backends.slots import Found, SlotBackend
from ercohort.config import DetectSettings
from ercohort.errors import BackendError
from ercohort.gpu.device import Context, Device, Stream
from ercohort.gpu.flight import Flight, Lane
from ercohort.gpu.launches import TileShape, read_odd, read_result
from ercohort.gpu.timeline import Timeline
from ercohort.model import ModelInfo

SPARE_FLIGHTS = 2
"""Beyond one on each stream: one that is being collected and one that is ready to go on."""


class PipelineBackend(SlotBackend):
    """`ercohort.backends.protocol.Backend` on a `Device`.

    All memory is allocated here and given back by `close`, which also closes the device.

    Parameters
    ----------
    device
        The GPU; closed here if the constructor fails.
    open_context
        Makes a copy of the network for a stream, for batches of `batch` tiles.
    shape
        Of tiles and network.
    batch
        Most tiles that fly together.
    streams
        Batches that are on the GPU at once.
    detect
        Score threshold and NMS overlap.
    name, precision, model, threads
        See the protocol.

    Raises
    ------
    GpuMemoryError
        The GPU has too little free memory for such batches.
    BackendError
        Anything else that the GPU or the network refuses.
    """

    def __init__(
        self,
        device: Device,
        open_context: Callable[[Stream], Context],
        shape: TileShape,
        *,
        batch: int,
        streams: int,
        detect: DetectSettings,
        name: str,
        precision: str,
        model: ModelInfo,
        threads: int,
    ) -> None:
        self._device = device
        self._shape = shape
        self._batch = batch
        self._detect = detect
        self._lanes: list[Lane] = []
        try:
            flights = [Flight.allocate(device, batch, shape) for _ in range(streams + SPARE_FLIGHTS)]
            images = [
                device.allocate_host(shape.side**2 * 3).array.reshape(shape.side, shape.side, 3)
                for _ in range(len(flights) * batch)
            ]
            for _ in range(streams):
                self._lanes.append(Lane.allocate(device, open_context, batch, shape))
            self._epoch = device.event()
            self._warm_up()
        except BaseException:
            self._shut_down()
            raise
        super().__init__(
            images, name=name, precision=precision, device=device.name, model=model, threads=threads
        )
        self._timeline = Timeline()
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._inside = 0  # threads that are talking to the device
        self._stopping = False
        self._failure: Exception | None = None
        self._gathered: list[Slot] = []
        self._waiting: deque[tuple[Slot, ...]] = deque()
        self._grounded = deque(flights)
        self._seat: list[tuple[Flight, int]] = [(flights[0], 0)] * len(images)  # flight and row by slot

    def begin(self, slide_size: tuple[int, int]) -> None:
        """Start a shard."""
        super().begin(slide_size)
        self._timeline.clear()
        with self._talking():
            self._device.record(self._epoch, self._lanes[0].stream)
            self._device.wait(self._epoch)

    def seconds(self) -> dict[str, float]:
        """Return seconds spent since `begin`."""
        return {**super().seconds(), "infer": self._timeline.engine_seconds()}

    def stats(self) -> dict[str, Any]:
        """Return what the device did since `begin`."""
        with self._talking():
            peak = self._device.peak_bytes()
        return {
            **super().stats(),
            "busy_seconds": self._timeline.busy_seconds(),
            "device_stages": self._timeline.stage_seconds(),
            "peak_device_bytes": peak,
            "batch": self._batch,
            "streams": len(self._lanes),
        }

    def _warm_up(self) -> None:
        """Run every copy of the network once: what it loads at its first run is in place before the tiles."""
        for lane in self._lanes:
            lane.run_network()
        self._device.synchronize()

    def _start(self, slot: Slot) -> None:
        if slot.tile is None:
            raise BackendError("a slot was handed in without a tile")
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._gathered.append(slot)
            if len(self._gathered) == self._batch:
                self._close_batch()
        self._enqueue_waiting()

    def _flush(self) -> None:
        with self._lock:
            self._close_batch()
        self._enqueue_waiting()

    def _close_batch(self) -> None:
        """Let what has gathered wait for a flight; the lock is held."""
        if self._gathered:
            self._waiting.append(tuple(self._gathered))
            self._gathered = []

    def _enqueue_waiting(self) -> None:
        """Put waiting batches on free flights, as far as there are any."""
        while not self._cancelled and (flight := self._next_flight()) is not None:
            try:
                with self._talking():
                    flight.enqueue(self._device, self._shape, self._detect, self._slide_size)
            except Exception as error:
                for slot in flight.slots:
                    self._started(slot, error)
                self._fail(error)
            else:
                for slot in flight.slots:
                    self._started(slot)

    def _next_flight(self) -> Flight | None:
        """Give the next waiting batch its flight and lane."""
        with self._lock:
            if not (self._waiting and self._grounded):
                return None
            flight = self._grounded.popleft()
            flight.board(self._waiting.popleft(), min(self._lanes, key=lambda lane: lane.load))
            for row, slot in enumerate(flight.slots):
                self._seat[slot.index] = flight, row
            return flight

    def _wait(self, slot: Slot) -> float:
        flight, _ = self._seat[slot.index]
        with self._failing(), self._talking():
            self._device.wait(flight.done)
        return perf_counter()

    def _collect(self, slot: Slot) -> Found:
        flight, row = self._seat[slot.index]
        stride = self._shape.result_stride
        with self._failing():
            result = flight.result.array[row * stride :]
            (found,), (n_odd,) = read_result(result, 1, self._shape), read_odd(result, 1, self._shape)
            self._land(flight)
        self._enqueue_waiting()
        self._note_dropped(slot, n_odd, self._shape.anchors, "set `backend: openvino`")
        return found

    def _land(self, flight: Flight) -> None:
        """Count a tile as collected; after its last one, the flight is free."""
        with self._lock:
            flight.to_land -= 1
            if flight.to_land:
                return
        with self._talking():
            self._timeline.add([self._device.milliseconds(self._epoch, event) for event in flight.events])
        with self._lock:
            assert flight.lane is not None
            flight.lane.load -= 1
            self._grounded.append(flight)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Keep `close` from freeing the device under a thread that talks to it."""
        with self._lock:
            if self._stopping:
                raise BackendError(f"{self.device}: the backend is closed")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self._left.notify_all()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let an error end it for everyone."""
        try:
            yield
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """Turn all that was handed in and has no flight into the error, and all that will be."""
        with self._lock:
            self._failure = self._failure or error
            self._close_batch()
            lost = [slot for batch in self._waiting for slot in batch]
            self._waiting.clear()
        for slot in lost:
            self._started(slot, self._failure)

    def _free(self) -> None:
        with self._lock:
            self._stopping = True
            while self._inside:
                self._left.wait()
        self._shut_down()

    def _shut_down(self) -> None:
        # What fails now was still on its way when the run was given up.
        with suppress(BackendError):
            self._device.synchronize()
        for lane in self._lanes:
            lane.context.close()
        self._device.close()
