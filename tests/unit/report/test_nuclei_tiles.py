"""Nuclei by tile: each is drawn on every tile that it reaches, and counted once at every zoom."""

from __future__ import annotations

import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.report.nuclei_tiles import DENSITY, GRID, OUTLINES, TILE, NucleiTiles, spread
from ercohort.schema import LABELS

ORIGIN = (300, 200)


def make(n: int, seed: int, *, extent: int = 3000, side: float = 20) -> tuple[pl.DataFrame, NucleiTiles]:
    draw = np.random.default_rng(seed)
    x, y = draw.uniform(0, extent, (2, n))
    w, h = draw.uniform(side / 2, side * 2, (2, n))
    table = pl.DataFrame(
        {
            "x0": x - w / 2 + ORIGIN[0], "y0": y - h / 2 + ORIGIN[1],
            "x1": x + w / 2 + ORIGIN[0], "y1": y + h / 2 + ORIGIN[1],
            "score": draw.uniform(0.25, 1, n),
            "label": pl.Series([LABELS[i] for i in draw.integers(0, 2, n)], dtype=pl.Enum(LABELS)),
            "grade": draw.integers(0, 4, n),
        }
    )  # fmt: skip
    return table, NucleiTiles.of(table, ORIGIN)


def outlines(body: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    kind, n = struct.unpack_from("<II", body)
    assert kind == OUTLINES
    assert len(body) == 8 + 19 * n
    boxes = np.frombuffer(body, "<f4", 4 * n, 8).reshape(n, 4)
    return boxes, *(np.frombuffer(body, np.uint8, n, 8 + (16 + part) * n) for part in range(3))


def density(body: bytes) -> np.ndarray:
    kind, n = struct.unpack_from("<II", body)
    assert kind == DENSITY
    return np.frombuffer(body, "<u2", offset=8).reshape(n, GRID, GRID)


@given(
    n=st.integers(1, 300),
    seed=st.integers(0, 9),
    zoom=st.integers(-2, 1),
    place=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
@settings(max_examples=25, deadline=None)
def test_a_tile_holds_exactly_the_nuclei_that_reach_into_it(n, seed, zoom, place):
    table, tiles = make(n, seed, side=30)
    boxes, *_ = outlines(tiles.tile(zoom, *place))
    side = TILE * 2.0**zoom
    x, y = place[0] * side, place[1] * side
    x0, y0, x1, y1 = (table[name].to_numpy().astype(np.float32) for name in ("x0", "y0", "x1", "y1"))
    x0, x1, y0, y1 = x0 - ORIGIN[0], x1 - ORIGIN[0], y0 - ORIGIN[1], y1 - ORIGIN[1]
    inside = (x1 > x) & (x0 < x + side) & (y1 > y) & (y0 < y + side)
    expected = np.sort(np.stack([x0 - x, y0 - y, x1 - x, y1 - y], 1)[inside], axis=0)
    np.testing.assert_allclose(np.sort(boxes, axis=0), expected, atol=0.01)


@given(
    n=st.integers(1, 300), seed=st.integers(0, 9), zoom=st.integers(3, 6), score=st.sampled_from([0.0, 0.5])
)
@settings(max_examples=15, deadline=None)
def test_density_counts_every_nucleus_once_at_every_zoom(n, seed, zoom, score):
    table, tiles = make(n, seed, side=8)
    across = -(-3100 // (TILE * 2**zoom))
    total = sum(
        density(tiles.tile(zoom, column, row, score=score)).sum(axis=(1, 2)).astype(int)
        for column in range(across)
        for row in range(across)
    )
    kept = table.filter(np.floor(pl.col("score") * 255) >= int(score * 255))
    assert total.tolist() == [kept.filter(label=label).height for label in LABELS]


def test_class_score_and_grade_belong_to_their_box():
    table = pl.DataFrame(
        {
            "x0": [310.0, 330.0], "y0": [210.0, 210.0], "x1": [320.0, 344.0], "y1": [222.0, 224.0],
            "score": [0.5, 1.0], "grade": [0, 3],
            "label": pl.Series(["Negative", "Positive"], dtype=pl.Enum(LABELS)),
        }
    )  # fmt: skip
    boxes, classes, scores, grades = outlines(NucleiTiles.of(table, ORIGIN).tile(0, 0, 0))
    found = {
        tuple(box): rest
        for box, *rest in zip(boxes.tolist(), classes.tolist(), scores.tolist(), grades.tolist(), strict=True)
    }
    assert found == {(10, 10, 20, 22): [1, 127, 0], (30, 10, 44, 24): [0, 255, 3]}


def test_no_nuclei_are_no_trouble():
    tiles = make(0, 1)[1]
    assert len(outlines(tiles.tile(0, 0, 0))[0]) == 0
    assert density(tiles.tile(3, 0, 0)).sum() == 0


@pytest.mark.parametrize(("value", "code"), [(0, 0), (1, 1), (2, 4), (3, 5), (0xFFFF, 0x55555555)])
def test_bits_are_spread(value, code):
    assert int(spread(np.uint64(value))) == code
