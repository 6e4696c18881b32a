"""The kernels as the GPU runs them equal the NumPy reference to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from ercohort.backends.protocol import Tile
from ercohort.backends.slots import Found
from ercohort.config import DetectSettings
from ercohort.decode import decode_tile
from ercohort.gpu import launches
from ercohort.gpu.compile import compile_cubin
from ercohort.gpu.cuda_device import CudaDevice
from ercohort.gpu.flight import Flight, Lane
from ercohort.gpu.launches import TileShape
from ercohort.gpu.probe import Gpu
from ercohort.seams import emit
from tests.unit.gpu.test_pipeline import SLIDE, lay

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
DETECT = DetectSettings()


class NoNetwork:
    """Leaves in the head what the test has put there."""

    def enqueue(self, source: int, result: int) -> None:
        pass

    def close(self) -> None:
        pass


def open_lane(device: CudaDevice, gpu: Gpu, shape: TileShape, batch: int) -> tuple[Lane, Flight]:
    arch = "sm_{}{}".format(*gpu.compute_capability)
    device.load(compile_cubin(arch, fp16_input=shape.fp16_input))
    lane = Lane.allocate(device, lambda stream: NoNetwork(), batch, shape)
    return lane, Flight.allocate(device, batch, shape)


def fetch(device: CudaDevice, address: int, n_bytes: int) -> np.ndarray:
    """Copy device memory to this machine."""
    out = np.empty(n_bytes, np.uint8)
    kind = device._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
    device._call(device._runtime.cudaMemcpy, out.ctypes.data, address, n_bytes, kind)
    return out


def run_head(device: CudaDevice, gpu: Gpu, heads: np.ndarray, tiles: list[Tile], side: int) -> list[Found]:
    """What the kernels after the engine make of heads (n, 4 + classes, anchors)."""
    n, rows, anchors = heads.shape
    shape = TileShape(side, anchors, rows - 4, fp16_input=True)
    lane, flight = open_lane(device, gpu, shape, n)
    host = device.allocate_host(heads.nbytes).array
    host[:] = heads.reshape(-1).view(np.uint8)
    for row, tile in enumerate(tiles):
        launches.pack_tile(flight.tiles.array, row, tile, SLIDE, side)
    device.copy(lane.addresses["head"], host, lane.stream)
    device.copy(lane.addresses["tiles"], flight.tiles.array, lane.stream)
    addresses = {**lane.addresses, "result": flight.result.address}
    for launch in launches.after_engine(addresses, shape, n, score=DETECT.score, nms_iou=DETECT.nms_iou):
        device.launch(launch, lane.stream)
    device.record(flight.done, lane.stream)
    device.wait(flight.done)
    return launches.read_result(flight.result.array, n, shape)


def random_heads(rng: np.random.Generator, n: int, side: int, anchors: int, classes: int = 2) -> np.ndarray:
    heads = rng.random((n, 4 + classes, anchors), np.float32)
    heads[:, :2] *= side
    heads[:, 2:4] = 4 + heads[:, 2:4] * 20
    heads[:, 4:] **= 3
    return heads


@pytest.mark.parametrize(("side", "n"), [(128, 1), (320, 3), (640, 8)])
@pytest.mark.parametrize("kind", ["random", "dense", "tied", "empty", "strange"])
def test_after_the_engine(device: CudaDevice, gpu: Gpu, side: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(side + n)
    heads = random_heads(rng, n, side, launches.anchors(side))
    if kind == "dense":
        heads[:, 4] = 0.3 + 0.7 * rng.random(heads[:, 4].shape, np.float32)
    elif kind == "tied":
        heads = np.round(heads * 4) / np.float32(4)
    elif kind == "empty":
        heads[:, 4:] = 0
    elif kind == "strange":
        places = rng.integers(0, heads.size, heads.size // 50)
        heads.reshape(-1)[places] = rng.choice(np.float32([np.nan, np.inf, -np.inf, -0.0, 1e30]), len(places))
    tiles = [lay(index) for index in range(n)]
    found = run_head(device, gpu, heads, tiles, side)
    for head, tile, got in zip(heads, tiles, found, strict=True):
        boxes, score, label = decode_tile(head, tile_px=side, score=DETECT.score, nms_iou=DETECT.nms_iou)
        mine = emit(boxes, tile, tile_px=side, slide_size=SLIDE).index
        for one, other in zip(got, (boxes[mine], score[mine], label[mine]), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fp16_input", [False, True])
def test_preprocess(device: CudaDevice, gpu: Gpu, fp16_input: bool) -> None:
    shape = TileShape(100, launches.anchors(100), 2, fp16_input=fp16_input)
    lane, flight = open_lane(device, gpu, shape, 3)
    images = device.allocate_host(3 * 100 * 100 * 3).array
    images[:] = np.random.default_rng(0).integers(0, 256, images.size, np.uint8)
    device.copy(lane.addresses["images"], images, lane.stream)
    for launch in launches.before_engine({**lane.addresses, "result": 0}, shape, 3):
        device.launch(launch, lane.stream)
    device.record(flight.done, lane.stream)
    device.wait(flight.done)
    dtype = np.float16 if fp16_input else np.float32
    got = fetch(device, lane.addresses["input"], 3 * 3 * 128 * 128 * dtype().nbytes).view(dtype)
    padded = np.full((3, 128, 128, 3), launches.PADDING, np.uint8)
    padded[:, :100, :100] = images.reshape(3, 100, 100, 3)
    wanted = (padded.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)).astype(dtype)
    np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
