"""No nucleus twice at a seam, none lost at an edge: planted nuclei against what comes out of the merge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ercohort.backends.protocol import Tile
from ercohort.config import DetectSettings, TileSettings
from ercohort.detect import detect_shard
from ercohort.merge import merge_shards
from ercohort.nms import greedy_nms
from ercohort.oracle import OracleBackend, visible
from ercohort.schema import LABELS
from ercohort.seams import emit, resolve_shard
from ercohort.tiles import make_tiles
from ercohort.twins import SLACK_PX

DETECTOR_MPP = 0.5
NMS_IOU, SEAM_IOS = 0.5, 0.7
BOX = ["x0", "y0", "x1", "y1"]

slow_is_fine = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@dataclass(frozen=True)
class Layout:
    """A simulated slide without pixels and how it is cut."""

    width: int
    height: int
    mpp: float
    tile_px: int
    halo_px: int
    corner: tuple[int, int] = (0, 0)  # of the bounds

    @property
    def scale(self) -> float:
        return DETECTOR_MPP / self.mpp

    @property
    def halo(self) -> int:
        return round(self.halo_px * self.scale)

    def tiles(self, n_shards: int = 1, mask: np.ndarray | None = None) -> pl.DataFrame:
        mask = np.ones((1, 1), bool) if mask is None else mask
        x, y = self.corner
        return make_tiles(
            width=self.width,
            height=self.height,
            bounds=(x, y, self.width - x, self.height - y),
            slide_mpp=self.mpp,
            detector_mpp=DETECTOR_MPP,
            settings=TileSettings(tile_px=self.tile_px, halo_px=self.halo_px),
            mask=mask,
            downsample_x=self.width / mask.shape[1],
            downsample_y=self.height / mask.shape[0],
            n_shards=n_shards,
        )

    def tolerance(self) -> float:
        """Two roundings to float32: in the tile image, and on the slide."""
        return self.tile_px * self.scale * 2**-23 + max(self.width, self.height) * 2**-23


layouts = st.builds(
    Layout,
    width=st.integers(700, 3000),
    height=st.integers(500, 2500),
    mpp=st.sampled_from([0.25, 0.5, 0.2527]),
    tile_px=st.sampled_from([256, 384, 640, 1024, 2048]),
    halo_px=st.sampled_from([16, 24, 32, 64]),
    corner=st.sampled_from([(0, 0), (131, 77)]),
)


def plant(layout: Layout, seed: int, smallest: float, largest: float, n: int = 250) -> np.ndarray:
    """Nuclei that do not overlap, sides in level-0 px: on seams, corners, the last pixels, anywhere."""
    rng = np.random.default_rng(seed)
    tiles = layout.tiles()
    corners = np.concatenate(
        [
            tiles.select("core_x0", "core_y0").to_numpy(),
            tiles.select("core_x1", "core_y1").to_numpy(),
            [(layout.width, layout.height), (layout.width, layout.corner[1])],
            [(layout.corner[0], layout.height)],
        ]
    )
    size = np.array([layout.width, layout.height])
    anywhere = rng.uniform(layout.corner, size, (n, 2))
    on_seam = anywhere[: n // 2].copy()
    axis = rng.integers(0, 2, len(on_seam))
    rows = np.arange(len(on_seam))
    on_seam[rows, axis] = corners[rng.integers(0, len(corners), len(on_seam)), axis]
    on_seam += rng.choice([0.0, -0.25, 0.5, -2, 3, 8], on_seam.shape)
    center = np.concatenate([corners + rng.choice([0.0, 0.5, -3, 2], corners.shape), on_seam, anywhere])
    half = rng.uniform(smallest / 2, largest / 2, center.shape)
    boxes = np.hstack([center - half, center + half])
    # Pushed inside, so that those at the edge end exactly there.
    over = np.maximum(boxes[:, 2:] - size, 0) + np.minimum(boxes[:, :2] - layout.corner, 0)
    boxes = (boxes - np.tile(over, 2)).clip(np.tile(layout.corner, 2), np.tile(size, 2)).astype(np.float32)
    kept: list[np.ndarray] = []
    for box in boxes:
        others = np.array(kept).reshape(-1, 4)
        apart = (
            (others[:, 2] <= box[0])
            | (others[:, 0] >= box[2])
            | (others[:, 3] <= box[1])
            | (others[:, 1] >= box[3])
        )
        if apart.all():
            kept.append(box)
    return np.array(kept, np.float32)


def look(
    layout: Layout, nuclei: np.ndarray, score: np.ndarray, seed: int | None = None
) -> list[pl.DataFrame]:
    """What each tile emits; with a seed, each tile has its own errors of up to 2 px and its own scores."""
    emitted = []
    for row in layout.tiles().iter_rows(named=True):
        tile = Tile(*(row[name] for name in Tile._fields))
        window = (tile.x, tile.y, tile.width, tile.height)
        seen, tile_score = nuclei, score
        if seed is not None:
            rng = np.random.default_rng((seed, tile.tile_id))
            error = np.float64(2.0 * layout.scale)
            seen = nuclei + rng.choice([-error, error, 0.0, error / 3], nuclei.shape)
            tile_score = rng.uniform(0.4, 1.0, len(nuclei)).astype(np.float32)
        boxes, index = visible(seen, window, layout.tile_px)
        kept = greedy_nms(boxes, tile_score[index], NMS_IOU)
        boxes, index = boxes[kept], index[kept]
        chosen = emit(boxes, tile, tile_px=layout.tile_px, slide_size=(layout.width, layout.height))
        emitted.append(
            pl.DataFrame(
                {
                    **dict(zip(BOX, chosen.boxes.T, strict=True)),
                    "score": tile_score[index[chosen.index]],
                    "label": pl.Series([LABELS[0]] * len(chosen.index), dtype=pl.Enum(LABELS)),
                    "dab_od": index[chosen.index].astype(np.float32),  # which nucleus it really is
                    "hematoxylin_od": np.zeros(len(chosen.index), np.float32),
                    "tile_id": np.full(len(chosen.index), tile.tile_id, np.int32),
                    "cut": chosen.cut,
                }
            )
        )
    return emitted


def merged(layout: Layout, emitted: list[pl.DataFrame], n_shards: int, seed: int = 0) -> pl.DataFrame:
    """Shards, their rows shuffled, resolved and merged in a random order."""
    rng = np.random.default_rng(seed)
    tiles = layout.tiles(n_shards)
    rules = {"scale": layout.scale, "nms_iou": NMS_IOU, "seam_ios": SEAM_IOS}
    tables = []
    for shard in rng.permutation(np.arange(1, n_shards + 1)):
        mine = tiles.filter(pl.col("shard") == shard)
        found = pl.concat(emitted).filter(pl.col("tile_id").is_in(mine["tile_id"].to_list()))
        found = found[rng.permutation(len(found))]
        tables.append(resolve_shard(found, mine, tiles, **rules))
    return merge_shards(tables, **rules)


def assert_same_boxes(found: pl.DataFrame, nuclei: np.ndarray, tolerance: float) -> None:
    boxes = found.select(BOX).to_numpy().astype(np.float64)
    assert len(boxes) == len(nuclei)
    distance = np.abs(boxes[:, None] - nuclei[None].astype(np.float64)).max(axis=2)
    nearest = distance.argmin(axis=1)
    assert sorted(nearest) == list(range(len(nuclei)))
    assert distance.min(axis=1).max(initial=0.0) <= tolerance


@slow_is_fine
@given(layouts, st.integers(0, 2**32), st.integers(2, 7), st.booleans())
def test_merged_nuclei_are_the_planted_ones_for_any_layout(layout, seed, n_shards, equal_scores):
    nuclei = plant(layout, seed, smallest=4 * layout.scale, largest=2 * layout.halo)
    rng = np.random.default_rng(seed)
    score = np.full(len(nuclei), 0.9, np.float32)
    if not equal_scores:
        score = rng.uniform(0.4, 1.0, len(nuclei)).astype(np.float32)
    emitted = look(layout, nuclei, score)
    one = merged(layout, emitted, 1)
    assert_same_boxes(one, nuclei, layout.tolerance())
    assert merged(layout, emitted, n_shards, seed).equals(one)


@slow_is_fine
@given(layouts, st.integers(0, 2**32), st.integers(2, 7), st.floats(9, 40))
def test_every_nucleus_comes_out_once_though_tiles_differ_by_two_pixels(layout, seed, n_shards, size):
    nuclei = plant(layout, seed, 8.5 * layout.scale, max(9.0, min(size, 2 * layout.halo_px)) * layout.scale)
    emitted = look(layout, nuclei, np.zeros(len(nuclei), np.float32), seed=seed)
    one = merged(layout, emitted, 1)
    assert sorted(one["dab_od"]) == list(range(len(nuclei)))
    assert merged(layout, emitted, n_shards, seed).equals(one)


@slow_is_fine
@given(layouts, st.integers(0, 2**32), st.floats(2.0, 2.6))
def test_nuclei_larger_than_twice_the_halo_are_counted_once_too(layout, seed, halos):
    nuclei = plant(layout, seed, 2 * layout.halo, halos * layout.halo, n=60)
    emitted = look(layout, nuclei, np.full(len(nuclei), 0.9, np.float32))
    assert sorted(merged(layout, emitted, 3)["dab_od"]) == list(range(len(nuclei)))


@slow_is_fine
@given(layouts, st.integers(0, 2**32), st.integers(2, 7))
def test_crowded_nuclei_whose_boxes_overlap_keep_their_number(layout, seed, n_shards):
    """Neighbours that overlap are told apart, because both tiles see both.

    Not where a window cuts one of them beside the other: the part can overlap its neighbour more than the
    whole does, and NMS inside the tile then takes them for one. Twice the halo has to hold a nucleus and half
    its neighbour.
    """
    rng = np.random.default_rng(seed)
    nuclei = plant(layout, seed, 10 * layout.scale, min(20, 2 * layout.halo_px) * layout.scale)
    shift = rng.uniform(-6, 6, (len(nuclei), 2)) * layout.scale
    crowd = np.concatenate([nuclei, nuclei + np.tile(shift, 2).astype(np.float32)])
    size = (layout.width, layout.height)
    crowd = crowd[(crowd[:, :2] > layout.corner).all(1) & (crowd[:, 2:] < size).all(1)]
    score = rng.uniform(0.4, 1.0, len(crowd)).astype(np.float32)
    crowd_once = greedy_nms(crowd, score, NMS_IOU - 1e-3)
    crowd, score = crowd[crowd_once], score[crowd_once]
    emitted = look(layout, crowd, score)
    one = merged(layout, emitted, 1)
    assert_same_boxes(one, crowd, layout.tolerance())
    assert merged(layout, emitted, n_shards, seed).equals(one)


@settings(slow_is_fine, max_examples=25)
@given(layouts, st.integers(0, 2**32))
def test_only_what_lies_in_kept_cores_is_counted(layout, seed):
    """Beside a core that was not kept, at most what lies within the slack is added."""
    nuclei = plant(layout, seed, 6 * layout.scale, min(30, 2 * layout.halo_px - 6) * layout.scale)
    mask = np.random.default_rng(seed).random((9, 11)) < 0.2
    tiles = layout.tiles(mask=mask)
    core = tiles.select("core_x0", "core_y0", "core_x1", "core_y1").to_numpy()[None]
    center = (nuclei[:, :2] + nuclei[:, 2:]).astype(np.float64)[:, None] / 2
    outside = np.maximum(core[..., :2] - center, center - core[..., 2:]).max(axis=2).min(axis=1, initial=9e9)
    emitted = look(layout, nuclei, np.full(len(nuclei), 0.9, np.float32))
    kept = [table for table in emitted if table["tile_id"].is_in(tiles["tile_id"].implode()).all()]
    rules = {"scale": layout.scale, "nms_iou": NMS_IOU, "seam_ios": SEAM_IOS}
    shard = resolve_shard(pl.concat(kept), tiles, tiles, **rules) if kept else None
    found = merge_shards([shard], **rules)["dab_od"].to_list() if shard is not None else []
    assert len(found) == len(set(found))
    assert set(np.flatnonzero(outside < 0)) <= set(found)
    assert (outside[np.array(found, int)] <= (SLACK_PX + 0.1) * layout.scale).all()


@pytest.mark.parametrize("n_shards", range(1, 8))
def test_a_large_slide_of_many_tiles_is_exact_in_any_number_of_shards(n_shards):
    layout = Layout(width=9001, height=7003, mpp=0.25, tile_px=640, halo_px=32)
    nuclei = plant(layout, 3, smallest=14, largest=60, n=1500)
    emitted = look(layout, nuclei, np.linspace(0.5, 0.9, len(nuclei), dtype=np.float32))
    found = merged(layout, emitted, n_shards, seed=n_shards)
    assert_same_boxes(found, nuclei, layout.tolerance())
    order = found.select("tile_id", *BOX).rows()
    assert order == sorted(order, key=lambda row: (row[0], row[2], row[1], row[4], row[3]))


def test_far_from_the_origin_only_float32_is_lost():
    """At 200,000 px float32 has steps of 1/64 px: a nucleus is off by no more, and counted once."""
    layout = Layout(width=200_000, height=2_000, mpp=0.25, tile_px=640, halo_px=32, corner=(197_000, 0))
    nuclei = plant(layout, 5, smallest=14, largest=60, n=400)
    emitted = look(layout, nuclei, np.full(len(nuclei), 0.9, np.float32))
    assert_same_boxes(merged(layout, emitted, 4), nuclei, 1 / 64)


def test_plain_nms_over_overlapping_tiles_counts_halves_and_ours_does_not():
    """The failure of the pipeline that this one replaces: a half nucleus overlaps its whole by little."""
    layout = Layout(width=4000, height=3000, mpp=0.5, tile_px=640, halo_px=32)
    nuclei = plant(layout, 7, smallest=12, largest=40, n=1000)
    everything = []
    for x, y, w, h in layout.tiles().select("x", "y", "width", "height").iter_rows():
        boxes, _ = visible(nuclei, (x, y, w, h), layout.tile_px)
        everything.append(boxes + np.array([x, y, x, y], np.float32))
    boxes = np.concatenate(everything)
    plain = greedy_nms(boxes, np.full(len(boxes), 0.9, np.float32), NMS_IOU)
    emitted = look(layout, nuclei, np.full(len(nuclei), 0.9, np.float32))
    assert len(plain) > 1.03 * len(nuclei)
    assert len(merged(layout, emitted, 1)) == len(nuclei)


def test_the_oracle_shows_a_tile_whatever_reaches_into_its_window():
    nuclei = pl.DataFrame(
        {
            "x0": [0.0, 90.0, 500.0, 600.0],
            "y0": [0.0, 10.0, 60.0, 700.0],
            "x1": [10.0, 130.0, 520.0, 620.0],
            "y1": [10.0, 110.0, 90.0, 720.0],
            "score": [0.9, 0.8, 0.7, 0.9],
            "label": ["Positive", "Negative", "Positive", "Positive"],
        }
    )
    tile = Tile(0, x=100, y=50, width=512, height=512, core_x0=164, core_y0=114, core_x1=548, core_y1=498)
    with OracleBackend(nuclei, tile_px=256, mpp=DETECTOR_MPP, detect=DetectSettings()) as oracle:
        boxes, score, label = oracle.look(tile)
    assert boxes.tolist() == [[0, 0, 15, 30], [200, 5, 210, 20]]
    assert score.tolist() == pytest.approx([0.8, 0.7])
    assert [LABELS[i] for i in label] == ["Negative", "Positive"]


class _WhiteSlide:
    """Stands in for a slide where only its size and scale matter."""

    def __init__(self, layout: Layout) -> None:
        self.info = layout  # width, height and mpp are all that detection reads

    def read(self, x, y, w, h, *, size=None, mpp=None, out=None):
        out[:] = 255
        return out


@pytest.mark.parametrize("tile_px", [256, 640, 2048])
@pytest.mark.parametrize(("mpp", "halo_px"), [(0.25, 32), (0.5, 16), (0.2527, 48)])
def test_detection_stage_with_an_oracle_returns_the_planted_nuclei(tile_px, mpp, halo_px):
    """The path that a real run takes, threads and all, with one to seven shards."""
    layout = Layout(width=2501, height=1777, mpp=mpp, tile_px=tile_px, halo_px=halo_px)
    boxes = plant(layout, 11, smallest=6 * layout.scale, largest=2 * layout.halo)
    rng = np.random.default_rng(0)
    truth = pl.DataFrame(
        {
            **dict(zip(BOX, boxes.T, strict=True)),
            "score": rng.uniform(0.5, 1.0, len(boxes)).astype(np.float32),
            "label": pl.Series(np.array(LABELS)[rng.integers(0, 2, len(boxes))], dtype=pl.Enum(LABELS)),
        }
    )
    detect = DetectSettings(nms_iou=NMS_IOU, seam_ios=SEAM_IOS)
    results = []
    for n_shards in (1, 2, 7):
        tiles = layout.tiles(n_shards)
        tables = []
        with OracleBackend(truth, tile_px=tile_px, mpp=DETECTOR_MPP, detect=detect, threads=3) as backend:
            for shard in range(1, n_shards + 1):
                mine = tiles.filter(pl.col("shard") == shard)
                result = detect_shard(
                    _WhiteSlide(layout), mine, tiles, backend, settings=detect, background=(255, 255, 255)
                )
                tables.append(result.table)
        results.append(merge_shards(tables, scale=layout.scale, nms_iou=NMS_IOU, seam_ios=SEAM_IOS))
    assert_same_boxes(results[0], boxes, layout.tolerance())
    by_score = results[0].sort("score"), truth.sort("score")
    assert by_score[0]["label"].equals(by_score[1]["label"])
    assert results[1].equals(results[0])
    assert results[2].equals(results[0])
