"""A GPU that is none: streams are threads that take their time, memory is NumPy's, kernels are references.

Everything on a stream happens in order and at an unforeseeable moment, so streams finish in random order.
What is put on a stream is done with the memory as it then is: a buffer that is used too early shows.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.decode import decode_and_count
from ercohort.errors import BackendError
from ercohort.gpu.device import GpuMemoryError, HostMemory
from ercohort.gpu.launches import Launch, TileShape

Fault = Callable[[str, int], bool]
"""Called with (stage, how often it was reached so far); says whether it fails."""


class FakeEvent:
    """Waits for its latest record."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self.happened.set()
        self.at = 0.0


@dataclass(eq=False)
class FakeStream:
    """Does its work in order."""

    todo: queue.SimpleQueue[Callable[[], None] | None] = field(default_factory=queue.SimpleQueue)
    thread: threading.Thread | None = None
    selected: tuple[Any, ...] = ()
    nms_iou: float = 0.0


class FakeDevice:
    """Implements `ercohort.gpu.device.Device`.

    Parameters
    ----------
    seed
        Of the streams' delays.
    delay
        Longest time that anything on a stream takes, seconds.
    fault
        What fails in the call.
    late_fault
        What fails on the stream, to be seen by whoever waits.
    error
        What a fault raises.
    room
        Bytes of device memory.
    linger
        How long a thread that waits for an event takes to notice, seconds.
    """

    name = "fake GPU"

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: float = 0.001,
        fault: Fault | None = None,
        late_fault: Fault | None = None,
        error: type[BackendError] = BackendError,
        room: int = 1 << 40,
        linger: float = 0.0,
    ) -> None:
        self.random = random.Random(seed)
        self.delay = delay
        self.fault = fault or (lambda stage, count: False)
        self.late_fault = late_fault or (lambda stage, count: False)
        self.error = error
        self.room = room
        self.linger = linger
        self.sealed = False
        self.closed = False
        self.broken: str | None = None
        self.running = threading.Event()  # streams stand still while it is clear
        self.running.set()
        self.lock = threading.Lock()
        self.reached: dict[str, int] = {}
        self.blocks: dict[int, NDArray[np.uint8]] = {}
        self.streams: list[FakeStream] = []
        self.next_address = 1 << 20
        self.allocated = 0

    def allocate(self, n_bytes: int) -> int:
        self._reach("allocate")
        with self.lock:
            self.allocated += n_bytes
            if self.allocated > self.room:
                raise GpuMemoryError("fake GPU: no memory")
        return self._block(n_bytes)[0]

    def allocate_host(self, n_bytes: int) -> HostMemory:
        self._reach("allocate_host")
        address, array = self._block(n_bytes)
        return HostMemory(array, address)

    def stream(self) -> int:
        stream = FakeStream()
        stream.thread = threading.Thread(target=self._work, args=(stream,), name="fake stream")
        stream.thread.start()
        self.streams.append(stream)
        return len(self.streams) - 1

    def event(self) -> FakeEvent:
        return FakeEvent()

    def copy(self, address: int, source: NDArray[np.uint8], stream: int) -> None:
        self._reach("copy")
        assert source.flags.c_contiguous
        flat = source.reshape(-1).view(np.uint8)
        self._put(stream, "copy", lambda: np.copyto(self.view(address, flat.size), flat))

    def launch(self, launch: Launch, stream: int) -> None:
        self._reach(launch.kernel)
        self._put(stream, launch.kernel, lambda: self._kernel(launch, self.streams[stream]))

    def record(self, event: FakeEvent, stream: int) -> None:
        self._reach("record")
        happened = event.happened = threading.Event()

        def happen() -> None:
            event.at = time.perf_counter()
            happened.set()

        self._put(stream, "record", happen)

    def wait(self, event: FakeEvent) -> None:
        self._reach("wait")
        event.happened.wait()
        time.sleep(self.linger)
        assert not self.closed, "closed under a thread that waits"
        if self.broken:
            raise BackendError(f"fake GPU: {self.broken} failed on the device")

    def milliseconds(self, start: FakeEvent, end: FakeEvent) -> float:
        self._reach("milliseconds")
        assert start.happened.is_set()
        assert end.happened.is_set()
        return (end.at - start.at) * 1e3

    def synchronize(self) -> None:
        for index in range(len(self.streams)):
            event = FakeEvent()
            self.record(event, index)
            event.happened.wait()

    def peak_bytes(self) -> int:
        return self.allocated

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for stream in self.streams:
            assert stream.todo.empty(), "closed under way"
            stream.todo.put(None)
        for stream in self.streams:
            if stream.thread is not None:
                stream.thread.join()
        self.blocks.clear()

    def view(self, address: int, n_bytes: int) -> NDArray[np.uint8]:
        """Find memory by its address."""
        start = max(known for known in self.blocks if known <= address)
        found = self.blocks[start][address - start : address - start + n_bytes]
        assert len(found) == n_bytes, "outside its buffer"
        return found

    def _block(self, n_bytes: int) -> tuple[int, NDArray[np.uint8]]:
        assert not self.sealed, "memory is to be allocated once"
        with self.lock:
            address, self.next_address = self.next_address, self.next_address + (n_bytes | 4095) + 1
            self.blocks[address] = np.zeros(n_bytes, np.uint8)
            return address, self.blocks[address]

    def _reach(self, stage: str) -> None:
        assert not self.closed, f"{stage} after close"
        with self.lock:
            count = self.reached[stage] = self.reached.get(stage, 0) + 1
            yields = self.random.random() < 0.1
        if yields:
            time.sleep(1e-4)  # another thread comes in between
        if self.fault(stage, count):
            raise self.error(f"fake GPU: {stage} failed")

    def _put(self, stream: int, stage: str, work: Callable[[], None]) -> None:
        with self.lock:
            count = self.reached[f"late {stage}"] = self.reached.get(f"late {stage}", 0) + 1
        fails = self.late_fault(stage, count)

        def run() -> None:
            if fails:
                self.broken = stage
            # What follows a failure is not done; events still happen.
            if stage == "record" or not self.broken:
                work()

        self.streams[stream].todo.put(run)

    def _work(self, stream: FakeStream) -> None:
        while (work := stream.todo.get()) is not None:
            if self.random.random() < 0.3:
                time.sleep(self.random.uniform(0, self.delay))
            self.running.wait()
            work()

    def _kernel(self, launch: Launch, stream: FakeStream) -> None:
        if launch.kernel == "preprocess":
            images, source, height, width, out_h, out_w, padding = launch.arguments
            _preprocess(self, images, source, launch.grid[1], (height, width, out_h, out_w, padding))
        elif launch.kernel == "select":
            stream.selected = (*launch.arguments[:4], launch.arguments[-1], launch.grid[1])
        elif launch.kernel == "suppress":
            stream.nms_iou = float(launch.arguments[3])
        elif launch.kernel == "own":
            tiles, result, stride = launch.arguments[6:9]
            self._own(stream, int(tiles), int(result), int(stride))

    def _own(self, stream: FakeStream, tiles: int, result: int, stride: int) -> None:
        """Decode, suppress, own and write the result of every tile."""
        head, classes, side, score, anchors, n = stream.selected
        rows = self.view(int(head), n * (4 + classes) * anchors * 4).view(np.float32)
        windows = self.view(tiles, n * 11 * 8).view(np.float64).reshape(n, 11)
        for row, raw in enumerate(rows.reshape(n, 4 + classes, anchors)):
            (boxes, scores, labels), n_odd = decode_and_count(
                raw, tile_px=int(side), score=float(score), nms_iou=stream.nms_iou
            )
            mine = _owned(boxes, windows[row])
            memory = self.view(result + row * stride, stride)
            memory[:8].view(np.uint32)[:] = count, _ = int(mine.sum()), n_odd
            at = 16
            for column, width in ((boxes, 16), (scores, 4), (labels, 1)):
                memory[at : at + count * width] = column[mine].reshape(-1).view(np.uint8)
                at += anchors * width


def _preprocess(device: FakeDevice, images: int, source: int, n: int, sizes: tuple[int, ...]) -> None:
    height, width, out_h, out_w, padding = map(int, sizes)
    pixels = device.view(int(images), n * height * width * 3).reshape(n, height, width, 3)
    padded = np.full((n, out_h, out_w, 3), padding, np.uint8)
    padded[:, :height, :width] = pixels
    blob = padded.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    device.view(int(source), blob.nbytes)[:] = blob.reshape(-1).view(np.uint8)


def _owned(boxes: NDArray[np.float32], window: NDArray[np.float64]) -> NDArray[np.bool_]:
    scale, x, y, left, top, right, bottom, core_x0, core_y0, core_x1, core_y1 = window
    placed = (boxes.astype(np.float64) * scale + (x, y, x, y)).clip(
        (left, top, left, top), (right, bottom, right, bottom)
    )
    x0, y0, x1, y1 = placed.astype(np.float32).astype(np.float64).T
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    inside = (middle_x >= core_x0) & (middle_x < core_x1) & (middle_y >= core_y0) & (middle_y < core_y1)
    return inside & (x1 > x0) & (y1 > y0)


def network(blob: NDArray[np.float32], shape: TileShape) -> NDArray[np.float32]:
    """Read boxes off the pixels: (n, 3, side, side) to the head, (n, 4 + classes, anchors)."""
    pixels = blob.reshape(len(blob), 3, -1)
    first, second = pixels[..., : shape.anchors], pixels[..., shape.anchors : 2 * shape.anchors]
    centres = first[:, :2] * np.float32(shape.side)
    sides = 3 + np.stack([first[:, 2], second[:, 2]], 1) * np.float32(8)
    return np.concatenate([centres, sides, second[:, :2]], 1).astype(np.float32)


class FakeContext:
    """Runs `network` on a stream."""

    def __init__(self, device: FakeDevice, stream: int, batch: int, shape: TileShape) -> None:
        self.device, self.stream, self.batch, self.shape = device, stream, batch, shape
        self.closed = False

    def enqueue(self, source: int, result: int) -> None:
        self.device._reach("engine")
        self.device._put(self.stream, "engine", lambda: self._run(source, result))

    def close(self) -> None:
        assert not self.device.closed
        self.closed = True

    def _run(self, source: int, result: int) -> None:
        shape = self.shape
        blob = self.device.view(source, self.batch * 3 * shape.padded**2 * 4).view(np.float32)
        head = network(blob.reshape(self.batch, 3, shape.padded, shape.padded), shape)
        self.device.view(result, head.nbytes)[:] = head.reshape(-1).view(np.uint8)
