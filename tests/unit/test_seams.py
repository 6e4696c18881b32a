"""Ownership and twins, case by case; `test_exactness` puts them together."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import schema
from ercohort.backends.protocol import Tile
from ercohort.schema import LABELS
from ercohort.seams import CUT_PX, columns_of, emit, resolve_shard
from ercohort.twins import SLACK_PX, resolve

# Core 576 at scale 2 is 1152 level-0 px, halo 64, window 1280.
TILE = Tile(
    7, x=1088, y=1088, width=1280, height=1280, core_x0=1152, core_y0=1152, core_x1=2304, core_y1=2304
)
BIG = (100_000, 100_000)
BOX = ["x0", "y0", "x1", "y1"]


def centred(x: float, y: float, width: float = 20.0, height: float = 20.0) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def emitted_by(tile: Tile, boxes: list[list[float]], slide_size: tuple[int, int] = BIG):
    """Emit boxes that are given in level-0 pixels."""
    corner = np.array([tile.x, tile.y, tile.x, tile.y])
    in_tile = ((np.array(boxes) - corner) / 2.0).astype(np.float32)
    return emit(in_tile, tile, tile_px=640, slide_size=slide_size)


def table(rows: list[tuple], tile_id: list[int] | None = None) -> pl.DataFrame:
    """Rows of box, score, tile, cut."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return pl.DataFrame(
        {
            **dict(zip(BOX, boxes.T, strict=True)),
            "score": np.array([row[1] for row in rows], np.float32),
            "label": pl.Series([LABELS[0]] * len(rows), dtype=pl.Enum(LABELS)),
            "dab_od": np.arange(len(rows), dtype=np.float32),
            "hematoxylin_od": np.zeros(len(rows), np.float32),
            "tile_id": np.array([row[2] for row in rows], np.int32),
            "cut": np.array([row[3] for row in rows], bool),
        }
    )


def kept(rows: list[tuple], scale: float = 1.0) -> list[int]:
    found, _ = resolve(*columns_of(table(rows)), scale=scale, nms_iou=0.5, seam_ios=0.7)
    return np.flatnonzero(found).tolist()


# --- ownership


def test_a_tile_emits_what_is_centred_in_its_core_and_a_little_beyond():
    slack = SLACK_PX * 2
    inside = [centred(1152, 1500), centred(2303.9, 1500), centred(1700, 1152), centred(1152 - slack, 1500)]
    beyond = [centred(1152 - slack - 0.5, 1500), centred(2304 + slack, 1500), centred(1700, 2304 + slack)]
    assert emitted_by(TILE, inside + beyond).index.tolist() == [0, 1, 2, 3]


def test_boxes_are_placed_on_the_slide():
    found = emit(np.array([[100, 200, 110, 212.5]], np.float32), TILE, tile_px=640, slide_size=BIG)
    assert found.boxes.dtype == np.float32
    assert found.boxes.tolist() == [[1288, 1488, 1308, 1513]]
    assert found.cut.tolist() == [False]


def test_half_a_nucleus_at_the_windows_edge_is_not_emitted():
    """The neighbour owns the whole of it; nothing has to be suppressed."""
    assert emitted_by(TILE, [[1088, 1500, 1100, 1520], [2360, 1500, 2368, 1520]]).index.tolist() == []


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ([1088 + CUT_PX * 2, 1400, 1400, 1600], True),
        ([1088 + CUT_PX * 2 + 1, 1400, 1400, 1600], False),
        ([1400, 1088, 1600, 1400], True),
        ([2100, 1400, 2368 - CUT_PX * 2, 1600], True),
        ([2100, 1400, 2368 - CUT_PX * 2 - 1, 1600], False),
        ([1400, 2100, 1600, 2368], True),
    ],
)
def test_a_box_at_a_window_edge_inside_the_slide_is_cut(box, cut):
    assert emitted_by(TILE, [box]).cut.tolist() == [cut]


def test_the_slides_own_edge_cuts_nothing():
    first = Tile(0, x=-64, y=-64, width=1280, height=1280, core_x0=0, core_y0=0, core_x1=1152, core_y1=1152)
    found = emitted_by(first, [[0, 0, 20, 20], [1080, 1080, 1100, 1100]], slide_size=(1100, 1100))
    assert found.index.tolist() == [0, 1]
    assert found.cut.tolist() == [False, False]
    at_zero = Tile(0, x=0, y=0, width=1280, height=1280, core_x0=64, core_y0=64, core_x1=1216, core_y1=1216)
    assert emitted_by(at_zero, [[0, 0, 200, 200]], slide_size=(1280, 1280)).cut.tolist() == [False]


def test_what_a_box_has_outside_the_slide_is_cut_off_and_nothing_left_is_nothing():
    first = Tile(0, x=-64, y=-64, width=1280, height=1280, core_x0=0, core_y0=0, core_x1=1152, core_y1=1152)
    boxes = [[-10, -4, 20, 20], [-30, 10, -1, 30], [5, 90, 25, 120], [80, 40, 115, 60], [102, 40, 115, 60]]
    found = emitted_by(first, boxes, slide_size=(100, 100))
    assert found.index.tolist() == [0, 2, 3]
    assert found.boxes.tolist() == [[0, 0, 20, 20], [5, 90, 25, 100], [80, 40, 100, 60]]


def test_a_tile_without_boxes():
    assert len(emit(np.zeros((0, 4), np.float32), TILE, tile_px=640, slide_size=BIG).index) == 0


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-40, 40),
    st.floats(4, 130),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_two_neighbours_never_both_disown_a_nucleus(offset, width, left_a, right_a, left_b, right_b):
    """Each sees its own edges, off by up to 2 px, and what its window cuts off."""
    a, b = TILE, TILE._replace(x=2240, core_x0=2304, core_x1=3456)
    x0, x1 = 2304 + 2 * (offset - width / 2), 2304 + 2 * (offset + width / 2)
    owners = 0
    for tile, left, right in ((a, left_a, right_a), (b, left_b, right_b)):
        box = [max(x0 + 2 * left, tile.x), 1500, min(x1 + 2 * right, tile.x + tile.width), 1540]
        if box[2] > box[0]:
            owners += len(emitted_by(tile, [box]).index)
    assert owners >= 1


# --- twins


def test_iou_decides_between_tiles_and_only_between_tiles():
    box, near = centred(100, 100), centred(103, 100)
    far = centred(113, 100)
    assert kept([(box, 0.9, 1, False), (near, 0.8, 2, False)]) == [0]
    assert kept([(box, 0.8, 1, False), (near, 0.9, 2, False)]) == [1]
    assert kept([(box, 0.9, 1, False), (near, 0.8, 1, False)]) == [0, 1]
    assert kept([(box, 0.9, 1, False), (far, 0.8, 2, False)]) == [0, 1]


def test_ties_go_to_the_upper_then_the_left_then_the_lower_tile():
    assert kept([(centred(100, 101), 0.9, 1, False), (centred(100, 100), 0.9, 2, False)]) == [1]
    assert kept([(centred(101, 100), 0.9, 1, False), (centred(100, 100), 0.9, 2, False)]) == [1]
    assert kept([(centred(100, 100), 0.9, 3, False), (centred(100, 100), 0.9, 2, False)]) == [1]


def test_a_cut_box_inside_another_is_the_same_nucleus():
    whole, part = [0, 0, 200, 60], [130, 0, 200, 60]
    assert kept([(whole, 0.8, 1, False), (part, 0.9, 2, True)]) == [0]
    assert kept([(whole, 0.8, 1, False), (part, 0.9, 2, False)]) == [0, 1]
    assert kept([(whole, 0.8, 1, False), ([170, 0, 270, 60], 0.9, 2, True)]) == [0, 1]


def test_a_small_nucleus_beside_a_large_cut_one_is_no_twin():
    """Its box lies in the large one's, but it is not the one that was cut."""
    assert kept([([0, 0, 120, 120], 0.9, 1, True), ([100, 100, 112, 112], 0.8, 2, False)]) == [0, 1]


def test_a_whole_box_goes_before_a_better_cut_one_and_the_larger_of_two_cut_ones():
    assert kept([([0, 0, 60, 60], 0.5, 1, False), ([0, 0, 55, 60], 0.9, 2, True)]) == [0]
    assert kept([([0, 0, 60, 60], 0.5, 1, True), ([0, 0, 55, 60], 0.9, 2, True)]) == [0]


def test_small_boxes_with_centres_a_few_pixels_apart_are_one_nucleus():
    """9 px, every edge off by 2 px the other way: IoU 0.18."""
    assert kept([([98, 98, 107, 107], 0.9, 1, False), ([102, 102, 111, 111], 0.8, 2, False)]) == [0]
    # The same at half the scale is far apart.
    apart = [([98, 98, 107, 107], 0.9, 1, False), ([102, 102, 111, 111], 0.8, 2, False)]
    assert kept(apart, scale=0.5) == [0, 1]


def test_neighbours_that_touch_stay_two():
    """9 px each, their common edge off by 2 px the wrong way in both tiles."""
    assert kept([([92, 100, 102, 109], 0.9, 1, False), ([98, 100, 109, 109], 0.8, 2, False)]) == [0, 1]


def test_neighbours_that_both_tiles_see_are_told_apart():
    """A and B lie 5 px apart; tile 2 sees both, tile 1 only A, which must not take B away."""
    a, b = centred(100, 100, 10, 10), centred(105, 100, 10, 10)
    assert kept([(a, 0.9, 1, False), (a, 0.8, 2, False), (b, 0.7, 2, False)]) == [0, 2]
    assert kept([(a, 0.9, 1, False), (b, 0.7, 2, False)]) == [0]


def test_a_dropped_box_drops_nothing():
    """1 beats 2, so 2 cannot take 3, which 1 does not touch enough."""
    rows = [
        (centred(100, 100), 0.9, 1, False),
        (centred(106, 100), 0.8, 2, False),
        (centred(112, 100), 0.7, 1, False),
    ]
    assert kept(rows) == [0, 2]


def pair_rule(boxes, cut, i: int, j: int, reach: float, nms_iou: float) -> tuple[str, float]:
    """Which of the three rules may make two boxes twins, and their IoU; float32 throughout."""
    a, b = boxes[i], boxes[j]
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return "", 0.0
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    iou = w * h / (area[0] + area[1] - w * h)
    if iou > np.float32(nms_iou):
        return "overlap", iou
    if any(cut[k] and w * h / area[side] > np.float32(0.7) for side, k in enumerate((i, j))):
        return "overlap", iou
    (ax, ay), (bx, by) = ((box.astype(float)[:2] + box[2:]) / 2 for box in (a, b))
    a_in_b = b[0] <= ax <= b[2] and b[1] <= ay <= b[3]
    b_in_a = a[0] <= bx <= a[2] and a[1] <= by <= a[3]
    if cut[i] or cut[j]:
        near = (cut[i] and a_in_b) or (cut[j] and b_in_a)
    else:
        near = a_in_b and b_in_a and max(abs(ax - bx), abs(ay - by)) < reach
    return ("centre" if near and iou > np.float32(0.1) else ""), iou


def quadratic(rows: pl.DataFrame, scale: float, nms_iou: float) -> list[int]:
    """All three rules, one pair at a time."""
    boxes, score, tile, cut = columns_of(rows)
    n = len(boxes)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    key = [
        (
            cut[i],
            -area[i] if cut[i] else 0,
            -score[i],
            boxes[i, 1],
            boxes[i, 0],
            tile[i],
            boxes[i, 3],
            boxes[i, 2],
        )
        for i in range(n)
    ]
    rules = {
        (i, j): pair_rule(boxes, cut, i, j, 2 * SLACK_PX * scale, nms_iou)
        for i in range(n)
        for j in range(n)
        if tile[i] != tile[j]
    }
    rules = {pair: rule for pair, rule in rules.items() if rule[0]}

    def best(i: int, other: int) -> int:
        """The best partner of box i in a tile."""
        return min(
            (j for k, j in rules if k == i and tile[j] == other), key=lambda j: (-rules[i, j][1], key[j])
        )

    out: list[int] = []
    for i in sorted(range(n), key=lambda i: key[i]):
        twins = [
            j
            for j in out
            if (i, j) in rules
            and (rules[i, j][0] == "overlap" or (best(i, tile[j]) == j and best(j, tile[i]) == i))
        ]
        if not twins:
            out.append(i)
    return sorted(out)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.sampled_from([60.0, 400.0]),
    st.booleans(),
    st.sampled_from([0.2, 0.5, 0.8]),
)
def test_equals_the_quadratic_definition_for_all_sizes(seed, n, side, on_grid, nms_iou):
    """Sizes from 1 to 600 px, equal scores, equal edges."""
    rng = np.random.default_rng(seed)
    half = np.exp(rng.uniform(np.log(1), np.log(600 if side > 100 else 30), (n, 2))) / 2
    center = rng.uniform(0, side, (n, 2))
    boxes = np.hstack([center - half, center + half])
    if on_grid:
        boxes = np.round(boxes / 4) * 4 + [0, 0, 4, 4]
    tile = rng.integers(0, 4, n)
    rows = list(zip(boxes, rng.choice([0.5, 0.75, 0.9], n), tile, rng.random(n) < 0.2, strict=True))
    rows = table(rows).unique(["x0", "y0", "x1", "y1", "tile_id"], keep="first", maintain_order=True)
    found, _ = resolve(*columns_of(rows), scale=1.5, nms_iou=nms_iou, seam_ios=0.7)
    assert np.flatnonzero(found).tolist() == quadratic(rows, 1.5, nms_iou)


# --- shards


def manifest(n_shards: int) -> pl.DataFrame:
    """Four tiles in a row, core 100, halo 20."""
    left = np.arange(4) * 100
    return pl.DataFrame(
        {
            "tile_id": np.arange(4),
            "x": left - 20,
            "y": np.full(4, -20),
            "width": np.full(4, 140),
            "height": np.full(4, 140),
            "core_x0": left,
            "core_y0": np.zeros(4),
            "core_x1": left + 100,
            "core_y1": np.full(4, 100),
            "tissue_fraction": np.ones(4),
            "shard": 1 + np.arange(4) * n_shards // 4,
        }
    ).cast({**schema.TILES, "shard": pl.Int32})


def shard_of(rows: pl.DataFrame, shard: int, n_shards: int) -> pl.DataFrame:
    tiles = manifest(n_shards)
    mine = tiles.filter(pl.col("shard") == shard)
    found = rows.filter(pl.col("tile_id").is_in(mine["tile_id"].to_list()))
    return resolve_shard(found, mine, tiles, scale=1.0, nms_iou=0.5, seam_ios=0.7)


def test_a_shard_resolves_its_own_seams_and_leaves_the_others_open():
    rows = table(
        [
            (centred(100, 50), 0.9, 0, False),
            (centred(101, 50), 0.8, 1, False),  # twin of the first, inside the shard
            (centred(199, 50), 0.9, 1, False),  # at the seam to the other shard
            (centred(201, 50), 0.9, 2, False),
            (centred(50, 50), 0.9, 0, False),
        ]
    )
    assert shard_of(rows, 1, 2).schema == schema.DETECTIONS
    first = shard_of(rows, 1, 2).select("dab_od", "open").rows()
    assert first == [(4.0, False), (0.0, False), (2.0, True)]
    assert shard_of(rows, 2, 2).select("dab_od", "open").rows() == [(3.0, True)]
    assert shard_of(rows, 1, 1)["open"].any() is False
    assert shard_of(rows, 1, 1)["dab_od"].to_list() == [4.0, 0.0, 2.0]


def test_all_members_of_an_open_component_are_handed_on():
    """The long box reaches the other shard's window; its twin, which does not, must wait with it."""
    part = ([70, 40, 120, 60], 0.9, 0, True)
    rows = table([part, ([70, 40, 185, 60], 0.8, 1, False)])
    assert shard_of(rows, 1, 2).select("dab_od", "open").rows() == [(0.0, True), (1.0, True)]
    rows = table([part, ([70, 40, 175, 60], 0.8, 1, False)])
    assert shard_of(rows, 1, 2).select("dab_od", "open").rows() == [(1.0, False)]


def test_a_shard_without_detections_or_tiles():
    assert shard_of(table([]), 1, 2).schema == schema.DETECTIONS
    nothing = manifest(1).clear()
    empty = resolve_shard(table([]), nothing, nothing, scale=1.0, nms_iou=0.5, seam_ios=0.7)
    assert empty.schema == schema.DETECTIONS
    assert len(empty) == 0
