"""The GPU kernels, run on the CPU from their own source, against NumPy: equal to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.backends.protocol import Tile
from ercohort.decode import decode_and_count, decode_tile
from ercohort.gpu.launches import (
    PADDING,
    Launch,
    TileShape,
    after_engine,
    anchors,
    before_engine,
    pack_tile,
    read_odd,
    read_result,
)
from ercohort.seams import emit
from tests.unit.gpu.cpu_kernels import Memory, cpu_kernels

SLIDE = (20_000, 15_000)
SCORE, IOU = 0.4, 0.5


def tile_at(x: int, y: int, width: int, halo: int) -> Tile:
    return Tile(7, x, y, width, width, x + halo, y + halo, x + width - halo, y + width - halo)


def windows(side: int) -> list[Tile]:
    """Inside the slide, over its corners, at a scale that is no round number, and all core."""
    halo = side // 10
    return [
        tile_at(1_000, 2_000, side, halo),
        tile_at(-halo, -halo, side, halo),
        tile_at(SLIDE[0] - side // 2, SLIDE[1] - side // 3, side, halo),
        tile_at(3_333, 777, 2 * side - 7, 2 * halo + 1),
        tile_at(14_999, 9_998, side, 0),
    ]


def expected(head: np.ndarray, tile: Tile, side: int, score: float, iou: float) -> tuple[np.ndarray, ...]:
    boxes, scores, labels = decode_tile(head, tile_px=side, score=score, nms_iou=iou)
    index = emit(boxes, tile, tile_px=side, slide_size=SLIDE).index
    return boxes[index], scores[index], labels[index]


def check(heads: np.ndarray, tiles: list[Tile], side: int, score: float = SCORE, iou: float = IOU) -> int:
    """Compare a batch with what the CPU makes of each tile; return how many boxes came out."""
    n, rows, count = heads.shape
    shape = TileShape(side, count, rows - 4, fp16_input=True)
    memory = Memory(n + 1, shape)  # one tile more than used: a batch need not be full
    memory.buffers["head"][: heads.nbytes] = np.frombuffer(heads.tobytes(), np.uint8)
    for row, tile in enumerate(tiles):
        pack_tile(memory.buffers["tiles"], row, tile, SLIDE, side)
    launches = after_engine(memory.addresses, shape, n, score=score, nms_iou=iou)
    for seed in (1, 2):  # the order of threads and blocks; the second time over what the first left
        cpu_kernels().run(launches, seed)
        memory.check_guards()
        found = read_result(memory.buffers["result"], n, shape)
        odd = [decode_and_count(head, tile_px=side, score=score, nms_iou=iou)[1] for head in heads]
        assert read_odd(memory.buffers["result"], n, shape) == odd
        assert len(found) == n
        for got, head, tile in zip(found, heads, tiles, strict=True):
            for array, reference in zip(got, expected(head, tile, side, score, iou), strict=True):
                assert (array.shape, array.dtype) == (reference.shape, reference.dtype)
                assert array.tobytes() == reference.tobytes()
    return sum(len(boxes) for boxes, _, _ in found)


def random_heads(
    rng: np.random.Generator, n: int, count: int, side: int, classes: int, *, tied: bool
) -> np.ndarray:
    heads = np.empty((n, 4 + classes, count), np.float32)
    heads[:, :2] = rng.uniform(-5, side + 5, (n, 2, count))
    heads[:, 2:4] = rng.uniform(1, 30, (n, 2, count))
    heads[:, 4:] = rng.random((n, classes, count)) ** 2
    if tied:  # few centres, sizes and scores: many boxes that are equal in part, and some that are the same
        heads[:, :2] = np.round(heads[:, :2] / 8) * 8
        heads[:, 2:4] = np.round(heads[:, 2:4] / 10 + 1) * 8
        heads[:, 4:] = np.round(heads[:, 4:] * 4) / 4
    return heads


def dense_heads(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """1,300 nuclei in a tile, about five anchors on each, all others below the threshold."""
    heads = np.zeros((n, 6, anchors(side)), np.float32)
    for head in heads:
        nuclei = rng.uniform(0, side, (1_300, 2))
        seen = rng.permutation(head.shape[1])[:6_500]
        head[:2, seen] = (np.repeat(nuclei, 5, 0) + rng.normal(0, 1, (6_500, 2))).T
        head[2:4, seen] = rng.normal(14, 2, (2, 6_500))
        head[4:, seen] = rng.uniform(0.3, 1, (2, 6_500))
    return heads


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 255, 256, 257, 513, 1_345])
def test_boxes_order_and_ownership_of_any_number_of_anchors(count: int, tied: bool) -> None:
    rng = np.random.default_rng(count)
    tiles = windows(160)
    check(random_heads(rng, len(tiles), count, 160, 2, tied=tied), tiles, 160)


def test_1300_nuclei_in_a_tile() -> None:
    tiles = windows(640)[:2]
    n = check(dense_heads(np.random.default_rng(4), 2, 640), tiles, 640)
    assert n > 1_200


def test_every_anchor_is_a_nucleus() -> None:
    """No cap: all 8,400 anchors of a tile come out."""
    heads = np.zeros((1, 6, 8_400), np.float32)
    heads[0, 0], heads[0, 1] = np.arange(8_400) % 100 * 6 + 10, np.arange(8_400) // 100 * 6 + 10
    heads[0, 2:4], heads[0, 5] = 5, 0.9
    assert check(heads, [tile_at(5_000, 5_000, 640, 0)], 640) == 8_400


def test_all_boxes_and_scores_equal() -> None:
    heads = np.zeros((2, 6, 300), np.float32)
    heads[:, :4], heads[:, 4] = 50, 0.75
    heads[1, 5] = 0.75
    assert check(heads, windows(160)[::4], 160) == 2


def test_nothing_found() -> None:
    tiles = windows(160)[:3]
    heads = np.zeros((3, 6, 525), np.float32)
    heads[1, :, 17] = 80, 80, 20, 20, 0.9, 0.1  # between two empty tiles
    assert check(heads, tiles, 160) == 1


def test_a_chain_of_boxes_where_every_second_one_comes_back() -> None:
    """Each drops the next; across the borders of chunks, what was dropped must drop nothing."""
    heads = np.zeros((1, 5, 400), np.float32)
    heads[0, 0], heads[0, 1] = 20 + np.arange(400), 40
    heads[0, 2:4], heads[0, 4] = 4, np.linspace(0.99, 0.5, 400)
    assert check(heads, [tile_at(3_000, 3_000, 640, 0)], 640, iou=0.5) == 200


def test_centres_on_the_cores_border() -> None:
    """Centres exactly on core and slack, and a step of float32 beside."""
    side, halo = 160, 16
    tile = tile_at(1_000, 2_000, side, halo)
    at = [halo - 3.0, halo, side - halo, side - halo + 3.0]
    centres = [np.nextafter(np.float32(c), np.float32(to)) for c in at for to in (0, c, 1e3)]
    heads = np.zeros((1, 5, 2 * len(centres)), np.float32)
    heads[0, :2] = 80
    heads[0, 0, : len(centres)] = heads[0, 1, len(centres) :] = centres
    heads[0, 2:4], heads[0, 4] = 2, 0.9
    heads[0, 1, : len(centres)] += 4 * np.arange(len(centres))
    heads[0, 0, len(centres) :] += 4 * np.arange(len(centres))
    n = check(heads, [tile], side, iou=0.9)
    assert 0 < n < heads.shape[2]


def iou_of_two(a: np.ndarray, b: np.ndarray) -> np.float32:
    """In float32, one rounding for each operation."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def test_overlap_that_equals_the_limit_to_the_last_bit() -> None:
    """Every rounding counts: the limit is the pair's own IoU, and then the number below it."""
    rng = np.random.default_rng(12)
    tile = tile_at(5_000, 5_000, 640, 0)
    for _ in range(60):
        heads = np.zeros((1, 5, 2), np.float32)
        heads[0, :2] = rng.uniform(200, 204, (2, 2))
        heads[0, 2:4] = rng.uniform(14, 20, (2, 2))
        heads[0, 4] = 0.9, 0.8
        iou = iou_of_two(*decode_tile(heads[0], tile_px=640, score=0.4, nms_iou=0.99)[0])
        assert check(heads, [tile], 640, iou=float(iou)) == 2
        assert check(heads, [tile], 640, iou=float(np.nextafter(iou, np.float32(0)))) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.05, 0.4, 0.9]),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95]),
    st.booleans(),
    st.floats(0, 0.3),
)
def test_whatever_the_network_gives(
    seed: int, count: int, classes: int, score: float, iou: float, tied: bool, odd: float
) -> None:
    """NaN, infinities, zeros of both signs, numbers whose sum overflows, negative sizes."""
    rng = np.random.default_rng(seed)
    tiles = windows(96)
    heads = random_heads(rng, len(tiles), count, 96, classes, tied=tied)
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, -7.0, 96.0, 1.0, score], np.float32)
    where = rng.random(heads.shape) < odd
    heads[where] = rng.choice(values, where.sum())
    check(heads, tiles, 96, score, iou)


def test_boxes_of_all_sizes() -> None:
    rng = np.random.default_rng(9)
    heads = random_heads(rng, 5, 700, 320, 3, tied=False)
    heads[:, 2:4] = np.exp(rng.uniform(0, np.log(400), (5, 2, 700)))
    check(heads, windows(320), 320, iou=0.2)


def test_a_launch_with_wrong_arguments_is_not_run() -> None:
    """The kernels' own signatures, against which all launches above were checked."""
    shape = TileShape(64, 84, 2, fp16_input=True)
    (launch,) = before_engine(Memory(1, shape).addresses, shape, 1)
    wrong = replace(launch, arguments=(*launch.arguments[:-1], np.float64(0)))
    with pytest.raises(TypeError, match="preprocess"):
        cpu_kernels().run([wrong])


def reference_input(images: np.ndarray, out: int, dtype: type) -> np.ndarray:
    n, height, width, _ = images.shape
    padded = np.full((n, out, out, 3), PADDING, np.uint8)
    padded[:, :height, :width] = images
    return (padded.astype(np.float32) / np.float32(255)).astype(dtype).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("side", [96, 100, 161])
def test_preprocess_equals_numpy_to_the_bit(side: int, dtype: type) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    shape = TileShape(side, anchors(side), 2, fp16_input=dtype is np.float16)
    memory = Memory(4, shape)
    memory.buffers["images"][: images.nbytes] = images.reshape(-1)
    cpu_kernels(dtype is np.float16).run(before_engine(memory.addresses, shape, 3))
    memory.check_guards()
    want = reference_input(images, shape.padded, dtype)
    assert memory.buffers["input"][: want.nbytes].tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_every_byte_has_its_number(dtype: type) -> None:
    """And neither the image nor the input need fill a block or be square."""
    image = np.arange(17 * 16 * 3, dtype=np.int64).astype(np.uint8).reshape(17, 16, 3)
    out = np.zeros((3, 19, 23), dtype)
    arguments = (
        *(np.uint64(array.ctypes.data) for array in (image, out)),
        *map(np.int32, (17, 16, 19, 23, 114)),
    )
    cpu_kernels(dtype is np.float16).run([Launch("preprocess", (2, 1, 1), (256, 1, 1), arguments)])
    padded = np.full((19, 23, 3), 114, np.uint8)
    padded[:17, :16] = image
    want = (padded.astype(np.float32) / np.float32(255)).astype(dtype).transpose(2, 0, 1)
    assert np.array_equal(out, want)


def test_anchors_of_a_head() -> None:
    assert anchors(640) == 8_400
    assert anchors(640, (4, 8, 16, 32)) == 34_000
    assert anchors(641) == anchors(672)
