"""The tile manifest: cores tile the plane, windows are cores and halo, tissue decides what is kept."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import TileSettings
from ercohort.tiles import core_and_halo, make_tiles, tile_scale


def tiles_of(
    width: int = 5000,
    height: int = 3000,
    *,
    bounds: tuple[int, int, int, int] | None = None,
    mpp: float = 0.25,
    tile_px: int = 640,
    halo_px: int = 32,
    mask: np.ndarray | None = None,
    n_shards: int = 1,
) -> pl.DataFrame:
    mask = np.ones((1, 1), bool) if mask is None else mask
    return make_tiles(
        width=width,
        height=height,
        bounds=bounds or (0, 0, width, height),
        slide_mpp=mpp,
        detector_mpp=0.5,
        settings=TileSettings(tile_px=tile_px, halo_px=halo_px),
        mask=mask,
        downsample_x=width / mask.shape[1],
        downsample_y=height / mask.shape[0],
        n_shards=n_shards,
    )


def test_known_layout():
    """2,000 x 1,200 px at 0.25: scale 2, core 1152, halo 64, so two columns and two rows."""
    tiles = tiles_of(2000, 1200)
    assert tiles.schema == {**schema.TILES, "shard": pl.Int32}
    assert tiles.select("tile_id", "x", "y", "width", "height").rows() == [
        (0, -64, -64, 1280, 1280),
        (1, 1088, -64, 1280, 1280),
        (2, -64, 1088, 1280, 1280),
        (3, 1088, 1088, 1280, 1280),
    ]
    assert tiles.select("core_x0", "core_y0", "core_x1", "core_y1").row(3) == (1152, 1152, 2304, 2304)
    assert tile_scale(tiles, 640) == 2.0


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    offset=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    mpp=st.floats(0.1, 2.0),
    tile_px=st.sampled_from([128, 256, 640, 2048]),
    halo_px=st.integers(16, 48),
    n_shards=st.integers(1, 7),
)
def test_cores_partition_the_bounds_and_windows_add_the_halo(
    width, height, offset, mpp, tile_px, halo_px, n_shards
):
    x, y = int(offset[0] * width), int(offset[1] * height)
    bounds = (x, y, width - x, height - y)
    tiles = tiles_of(
        width, height, bounds=bounds, mpp=mpp, tile_px=tile_px, halo_px=halo_px, n_shards=n_shards
    )
    core, halo = core_and_halo(TileSettings(tile_px=tile_px, halo_px=halo_px), 0.5 / mpp)
    for axis, start, length in (("x", x, width - x), ("y", y, height - y)):
        edges = np.unique(tiles[f"core_{axis}0"])
        assert edges[0] == start
        assert (np.diff(edges) == core).all()
        assert edges[-1] < start + length <= edges[-1] + core
    n_columns, n_rows = tiles["core_x0"].n_unique(), tiles["core_y0"].n_unique()
    assert len(tiles) == n_columns * n_rows
    assert tiles["tile_id"].to_list() == list(range(len(tiles)))
    assert tiles.select("core_y0", "core_x0").rows() == sorted(tiles.select("core_y0", "core_x0").rows())
    for axis, size in (("x", "width"), ("y", "height")):
        assert (tiles[f"core_{axis}0"] - tiles[axis] == halo).all()
        assert (tiles[axis] + tiles[size] - tiles[f"core_{axis}1"] == halo).all()
        assert (tiles[f"core_{axis}1"] - tiles[f"core_{axis}0"] == core).all()
    counts = tiles.group_by("shard").len().sort("shard")["len"].to_list()
    assert max(counts) - min(counts) <= 1
    assert tiles["shard"].is_sorted()
    assert set(tiles["shard"]) <= set(range(1, n_shards + 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 2.0), st.sampled_from([(40, 60), (7, 3), (233, 171)]))
def test_a_tile_is_kept_when_a_level_0_pixel_of_its_core_is_tissue(seed, mpp, shape):
    """Against the mask drawn at level 0."""
    rng = np.random.default_rng(seed)
    width, height, bounds = 1400, 1100, (90, 33, 1250, 1010)
    mask = rng.random(shape) < 0.01
    tiles = tiles_of(width, height, bounds=bounds, mpp=mpp, tile_px=128, mask=mask)
    # A level-0 pixel is tissue in part when it straddles the border of mask pixels: both are looked at.
    low = [np.minimum(np.arange(n) * m // n, m - 1) for n, m in ((height, shape[0]), (width, shape[1]))]
    high = [((np.arange(n) + 1) * m - 1) // n for n, m in ((height, shape[0]), (width, shape[1]))]
    tissue = np.zeros((height, width), bool)
    for rows in (low[0], high[0]):
        for columns in (low[1], high[1]):
            tissue |= mask[np.ix_(rows, columns)]
    core, _ = core_and_halo(TileSettings(tile_px=128), 0.5 / mpp)
    expected, share = [], []
    n_columns = -(-bounds[2] // core)
    for row in range(-(-bounds[3] // core)):
        for column in range(n_columns):
            x0, y0 = bounds[0] + column * core, bounds[1] + row * core
            part = tissue[y0 : y0 + core, x0 : x0 + core]
            if part.any():
                expected.append(row * n_columns + column)
                share.append(part.sum() / core**2)
    assert tiles["tile_id"].to_list() == expected
    perimeter_rounding = 4 * (1 + core * max(shape[0] / height, shape[1] / width)) ** 2 / core
    assert np.abs(tiles["tissue_fraction"].to_numpy() - share).max(initial=0) <= perimeter_rounding
    assert (tiles["tissue_fraction"] > 0).all()


def test_tissue_fraction_is_exact_where_mask_pixels_are_cut():
    mask = np.zeros((30, 50), bool)  # 100 level-0 px each
    mask[11, 11] = True  # 1100 to 1200: the corner of four cores at 1152
    tiles = tiles_of(5000, 3000, mask=mask)
    inside = np.array([52 * 52, 48 * 52, 52 * 48, 48 * 48]) / 1152**2
    assert tiles["tile_id"].to_list() == [0, 1, 5, 6]
    assert tiles["tissue_fraction"].to_numpy() == pytest.approx(inside, rel=1e-6)


def test_no_tissue_is_no_tiles_and_few_tiles_leave_shards_empty():
    assert tiles_of(mask=np.zeros((30, 50), bool)).schema == {**schema.TILES, "shard": pl.Int32}
    assert len(tiles_of(mask=np.zeros((30, 50), bool))) == 0
    assert tile_scale(tiles_of(mask=np.zeros((30, 50), bool)), 640) == 1.0
    mask = np.zeros((30, 50), bool)
    mask[0, 0] = mask[-1, -1] = True
    assert len(tiles_of(mask=mask, n_shards=7)) == 2
    assert tiles_of(mask=mask, n_shards=7)["shard"].n_unique() == 2


def test_tile_ids_do_not_depend_on_the_mask():
    mask = np.zeros((30, 50), bool)
    mask[25, 49] = True
    everything = tiles_of()
    assert tiles_of(mask=mask)["tile_id"].to_list() == [everything["tile_id"][-1]]


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="leave the slide"):
        tiles_of(1000, 1000, bounds=(500, 0, 600, 1000))
    with pytest.raises(ValueError, match="n_shards"):
        tiles_of(n_shards=0)


def test_a_slide_of_a_hundred_thousand_tiles_takes_about_a_second():
    mask = np.ones((6250, 6250), bool)
    begun = perf_counter()
    tiles = tiles_of(200_000, 200_000, mpp=0.25, tile_px=384, mask=mask, n_shards=8)
    assert perf_counter() - begun < 10  # 0.05 s on an idle core; a loop over tiles takes far longer
    assert len(tiles) == 313**2
