"""The GPU's slots, batches, streams and events, on a device that finishes in random order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ercohort.backends.protocol import Backend, Tile
from ercohort.backends.slots import Found
from ercohort.config import DetectSettings
from ercohort.decode import decode_tile
from ercohort.errors import BackendError
from ercohort.gpu.device import GpuMemoryError
from ercohort.gpu.flight import STAGES
from ercohort.gpu.launches import TileShape, anchors
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.model import ModelInfo
from ercohort.schema import LABELS
from ercohort.seams import emit
from tests.unit.gpu import fake_device
from tests.unit.gpu.fake_device import FakeContext, FakeDevice, network

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("no_thread_is_left")]
SIDE = 32
SHAPE = TileShape(side=SIDE, anchors=anchors(SIDE), classes=2, fp16_input=False)
DETECT = DetectSettings(score=0.3, nms_iou=0.3)
SLIDE = (4000, 70)
MODEL = ModelInfo("", "", "fake", "", 0.5, SIDE, None, LABELS)


def open_pipeline(
    device: FakeDevice, *, batch: int = 3, streams: int = 2, threads: int = 2
) -> PipelineBackend:
    backend = PipelineBackend(
        device, lambda stream: FakeContext(device, stream, batch, SHAPE), SHAPE,
        batch=batch, streams=streams, detect=DETECT,
        name="fake", precision="f32", model=MODEL, threads=threads,
    )  # fmt: skip
    device.sealed = True
    return backend


def lay(index: int) -> Tile:
    """Tiles in a row at twice the detector's scale, the first and last over the slide's edge."""
    x, y = index * 48 - 8, 10
    return Tile(index, x, y, 64, 64, x + 20, y + 20, x + 44, y + 44)


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def expected(index: int) -> Found:
    """What a tile's own nuclei are, by the reference."""
    blob = picture(index).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    boxes, score, label = decode_tile(
        network(blob, SHAPE)[0], tile_px=SIDE, score=DETECT.score, nms_iou=DETECT.nms_iou
    )
    mine = emit(boxes, lay(index), tile_px=SIDE, slide_size=SLIDE).index
    return boxes[mine], score[mine], label[mine]


class Crew:
    """Readers and consumers as in the detection stage; the first error of any of them cancels."""

    def __init__(self, backend: Backend, tiles: list[int], *, readers: int = 2, consumers: int = 1) -> None:
        self.backend = backend
        self.found: dict[int, Found] = {}
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()
        self.todo = iter(tiles)
        self.readers = readers
        jobs = [self.read] * readers + [self.consume] * consumers
        self.threads = [threading.Thread(target=self.guard, args=(job,)) for job in jobs]

    def run(self) -> dict[int, Found]:
        self.start()
        self.join()
        if self.errors:
            raise self.errors[0]
        return self.found

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads), "a thread hangs"

    def guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            with self.lock:
                self.errors.append(error)
            self.backend.cancel()

    def read(self) -> None:
        while True:
            with self.lock:
                index = next(self.todo, None)
            if index is None:
                break
            slot = self.backend.acquire()
            if slot is None:
                return
            slot.image[:] = picture(index)
            slot.tile = lay(index)
            self.backend.submit(slot)
        with self.lock:
            self.readers -= 1
            last = self.readers == 0
        if last:
            self.backend.finish()

    def consume(self) -> None:
        while (found := self.backend.take()) is not None:
            assert found.slot.tile is not None
            index = found.slot.tile.tile_id
            assert np.array_equal(found.slot.image, picture(index))
            with self.lock:
                assert index not in self.found, "taken twice"
                self.found[index] = (found.boxes, found.score, found.label)
            self.backend.release(found.slot)


def assert_all(found: dict[int, Found], tiles: list[int]) -> None:
    assert sorted(found) == sorted(tiles)
    for index in tiles:
        for got, wanted in zip(found[index], expected(index), strict=True):
            np.testing.assert_array_equal(got, wanted)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 60),
    batch=st.integers(1, 8),
    streams=st.integers(2, 4),
    readers=st.integers(1, 4),
    consumers=st.integers(1, 3),
)
def test_every_tile_comes_back_once_and_with_its_own_nuclei(
    seed: int, n: int, batch: int, streams: int, readers: int, consumers: int
) -> None:
    device = FakeDevice(seed)
    with open_pipeline(device, batch=batch, streams=streams) as backend:
        assert backend.n_slots == (streams + 2) * batch
        for tiles in ([*range(n)], [*range(n, 0, -1)]):
            backend.begin(SLIDE)
            assert_all(Crew(backend, tiles, readers=readers, consumers=consumers).run(), tiles)
    assert device.closed


def test_the_reference_finds_and_disowns_nuclei() -> None:
    """The comparison above is worth something: tiles have nuclei, and some belong to their neighbours."""
    kept = [len(expected(index)[1]) for index in range(20)]
    assert min(kept) > 0
    assert len(set(kept)) > 3
    blob = picture(0).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    all_of_first = decode_tile(network(blob, SHAPE)[0], tile_px=SIDE, score=0.3, nms_iou=0.3)[1]
    assert kept[0] < len(all_of_first)


def fill(backend: Backend, tiles: range) -> None:
    for index in tiles:
        slot = backend.acquire()
        assert slot is not None
        slot.image[:] = picture(index)
        slot.tile = lay(index)
        backend.submit(slot)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_handing_in_never_waits_for_the_device(batch: int) -> None:
    """Every slot can be handed in while the device stands still and a consumer waits for it."""
    device = FakeDevice()
    with open_pipeline(device, batch=batch) as backend:
        backend.begin(SLIDE)
        device.running.clear()
        crew = Crew(backend, [], readers=0, consumers=2)
        crew.start()
        began = time.monotonic()
        fill(backend, range(backend.n_slots))
        assert time.monotonic() - began < 5
        assert not crew.found
        device.running.set()
        backend.finish()
        crew.join()
        assert not crew.errors
        assert_all(crew.found, [*range(backend.n_slots)])


def test_flights_are_free_before_their_slots_are_released() -> None:
    """A consumer may keep all its tiles for as long as it likes: other batches still fly."""
    device = FakeDevice()
    with open_pipeline(device, batch=4) as backend:
        backend.begin(SLIDE)
        fill(backend, range(backend.n_slots))
        taken = [backend.take() for _ in range(backend.n_slots)]
        for found in taken:
            assert found is not None
            backend.release(found.slot)
        fill(backend, range(100, 103))
        backend.finish()
        rest = []
        while (found := backend.take()) is not None:
            assert found.slot.tile is not None
            rest.append(found.slot.tile.tile_id)
        assert sorted(rest) == [100, 101, 102]


def test_an_unfilled_batch_flies_at_the_end_and_copies_only_its_tiles() -> None:
    device = FakeDevice()
    with open_pipeline(device, batch=8) as backend:
        backend.begin(SLIDE)
        assert_all(Crew(backend, [1, 2, 3]).run(), [1, 2, 3])
        assert device.reached["copy"] == 4  # three tiles, and where they lie
        assert device.reached["own"] == 1


STEPS = ("copy", "preprocess", "engine", "clear", "select", "rank", "suppress", "own", "record")


@pytest.mark.parametrize("stage", [*STEPS, "wait", "milliseconds"])
@pytest.mark.parametrize("count", [8, 17])
def test_an_error_in_any_call_ends_the_run(stage: str, count: int) -> None:
    device = FakeDevice(count, fault=lambda reached, n: reached == stage and n == count)
    with open_pipeline(device, batch=2, streams=3) as backend:
        backend.begin(SLIDE)
        crew = Crew(backend, [*range(80)], readers=3, consumers=2)
        with pytest.raises(BackendError, match=f"{stage} failed"):
            crew.run()
    assert device.closed


@pytest.mark.parametrize("stage", STEPS[:-1])
def test_an_error_on_the_device_ends_the_run(stage: str) -> None:
    device = FakeDevice(late_fault=lambda reached, n: reached == stage and n == 9)
    with open_pipeline(device, batch=2, streams=3) as backend:
        backend.begin(SLIDE)
        crew = Crew(backend, [*range(80)], readers=3, consumers=2)
        with pytest.raises(BackendError, match=f"{stage} failed on the device"):
            crew.run()
    assert device.closed


def test_after_an_error_nobody_is_left_waiting_even_if_nobody_cancels() -> None:
    """Whatever was handed in comes back as the error: batches that waited for a flight, and late tiles."""
    device = FakeDevice(fault=lambda stage, n: stage == "engine" and n == 5)
    with open_pipeline(device, batch=2, streams=2) as backend:
        backend.begin(SLIDE)
        device.running.clear()
        fill(backend, range(backend.n_slots))
        device.running.set()
        backend.finish()
        outcomes = []
        for _ in range(backend.n_slots):
            try:
                outcomes.append(backend.take() is not None)
            except BackendError:
                outcomes.append(False)
        assert outcomes.count(False) == 4  # the third of four flights, and the fourth
        assert backend.take() is None


def test_after_an_error_on_the_device_an_unfilled_batch_is_lost_at_once() -> None:
    device = FakeDevice(late_fault=lambda stage, n: stage == "own")
    with open_pipeline(device, batch=4) as backend:
        backend.begin(SLIDE)
        fill(backend, range(7))
        for _ in range(7):
            with pytest.raises(BackendError, match="own failed"):
                backend.take()
        backend.finish()
        assert backend.take() is None


def test_nothing_takes_off_once_it_is_cancelled() -> None:
    device = FakeDevice()
    backend = open_pipeline(device, batch=2)
    backend.begin(SLIDE)
    device.running.clear()
    fill(backend, range(backend.n_slots - 1))
    consumer = threading.Thread(target=backend.take)
    consumer.start()
    backend.cancel()
    flights = device.reached["own"]
    device.running.set()
    backend.finish()
    backend.close()
    consumer.join()
    assert device.reached["own"] == flights


def test_close_lets_a_waiting_consumer_leave_first() -> None:
    device = FakeDevice(linger=0.2)
    backend = open_pipeline(device, batch=2)
    backend.begin(SLIDE)
    fill(backend, range(2))
    crew = Crew(backend, [], readers=0, consumers=2)
    crew.start()
    time.sleep(0.05)
    backend.close()
    crew.join()
    assert all(isinstance(error, BackendError) for error in crew.errors)


@pytest.mark.parametrize("end", ["cancel", "close"])
@pytest.mark.parametrize("seed", range(12))
def test_it_can_be_ended_at_any_moment(end: str, seed: int) -> None:
    device = FakeDevice(seed)
    backend = open_pipeline(device, batch=1 + seed % 4, streams=2 + seed % 3)
    backend.begin(SLIDE)
    crew = Crew(backend, [*range(400)], readers=3, consumers=2)
    crew.start()
    time.sleep(random.Random(seed).uniform(0, 0.05))
    getattr(backend, end)()
    crew.join()
    assert all(isinstance(error, BackendError) for error in crew.errors)
    backend.close()
    backend.close()
    assert device.closed
    assert backend.acquire() is None
    assert backend.take() is None
    for index, found in crew.found.items():
        np.testing.assert_array_equal(found[0], expected(index)[0])


def test_close_waits_for_what_is_in_flight() -> None:
    device = FakeDevice()
    backend = open_pipeline(device, batch=2)
    backend.begin(SLIDE)
    device.running.clear()
    fill(backend, range(5))
    closing = threading.Thread(target=backend.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    assert not device.closed
    device.running.set()
    closing.join(10)
    assert device.closed


@pytest.mark.parametrize("fault", ["memory", "allocate_host", "engine"])
def test_what_does_not_open_gives_everything_back(fault: str) -> None:
    device = FakeDevice(
        room=10_000 if fault == "memory" else 1 << 40, fault=lambda stage, n: stage == fault and n == 2
    )
    with pytest.raises(GpuMemoryError if fault == "memory" else BackendError):
        open_pipeline(device)
    assert device.closed


def test_figures_of_a_shard() -> None:
    with open_pipeline(FakeDevice(), batch=2) as backend:
        for _ in range(2):  # the second shard begins at zero
            began = time.perf_counter()
            backend.begin(SLIDE)
            Crew(backend, [*range(21)]).run()
            seconds = time.perf_counter() - began
            stats = backend.stats()
            assert set(stats["device_stages"]) == set(STAGES)
            assert 0 < backend.seconds()["infer"] <= stats["busy_seconds"] <= seconds
            assert sum(stats["device_stages"].values()) >= stats["busy_seconds"]
            assert (stats["batch"], stats["streams"]) == (2, 2)
            assert stats["peak_device_bytes"] > 0


def test_a_slot_without_a_tile() -> None:
    with open_pipeline(FakeDevice()) as backend:
        backend.begin(SLIDE)
        slot = backend.acquire()
        assert slot is not None
        backend.submit(slot)
        with pytest.raises(BackendError, match="without a tile"):
            backend.take()


def test_numbers_that_are_no_nucleus_are_counted_and_most_of_them_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, share = fake_device.network, [0.1]

    def broken(blob: np.ndarray, shape: TileShape) -> np.ndarray:
        heads = real(blob, shape).copy()
        heads[:, :, : round(share[0] * shape.anchors)] = np.nan
        return heads

    monkeypatch.setattr(fake_device, "network", broken)
    with open_pipeline(FakeDevice()) as backend:
        backend.begin(SLIDE)
        Crew(backend, list(range(7))).run()
        n_odd = backend.stats()["dropped_boxes"]
        assert n_odd >= 7 * round(0.1 * SHAPE.anchors)
        backend.begin(SLIDE)
        assert backend.stats()["dropped_boxes"] == 0
        share[0] = 0.9
        with pytest.raises(BackendError, match=r"is no number or no box; set `backend: openvino`"):
            Crew(backend, list(range(7))).run()
