"""Greedy NMS against the plain quadratic definition, in NumPy float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ercohort.nms import canonical_order, greedy_nms, order_by, sortable


def reference_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU in float32, one rounding for each operation."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = np.where((width > 0) & (height > 0), width * height, np.float32(0))
    area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    own = (box[2] - box[0]) * (box[3] - box[1])
    union = own + area - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def reference_nms(boxes: np.ndarray, score: np.ndarray, iou: float) -> list[int]:
    rows = range(len(boxes))
    key = [(-score[i], boxes[i, 1], boxes[i, 0], boxes[i, 3], boxes[i, 2], i) for i in rows]
    kept: list[int] = []
    for i in sorted(rows, key=lambda i: key[i]):
        if not (reference_iou(boxes[i], boxes[kept]) > np.float32(iou)).any():
            kept.append(i)
    return kept


def boxes_from(rng: np.random.Generator, n: int, side: float, smallest: float, largest: float) -> np.ndarray:
    """Sides evenly spread over the orders of magnitude, so that small and large ones meet."""
    center = rng.uniform(0, side, (n, 2))
    half = np.exp(rng.uniform(np.log(smallest), np.log(largest), (n, 2))) / 2
    return np.hstack([center - half, center + half]).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 150),
    st.sampled_from([30.0, 120.0, 640.0, 20_000.0]),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.95]),
    st.sampled_from(["fine", "tied", "equal"]),
    st.booleans(),
)
def test_equals_the_quadratic_definition(seed, n, side, iou, scores, on_grid):
    rng = np.random.default_rng(seed)
    boxes = boxes_from(rng, n, side, 1.0, 600.0)
    if on_grid:  # many boxes with equal edges, and some that are equal altogether
        boxes = np.round(boxes / 8) * np.float32(8) + np.array([0, 0, 8, 8], np.float32)
    score = rng.uniform(0.4, 1.0, n).astype(np.float32)
    if scores != "fine":
        score = np.round(score * 4) / np.float32(4) if scores == "tied" else np.ones(n, np.float32)
    assert greedy_nms(boxes, score, iou).tolist() == reference_nms(boxes, score, iou)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.float32, (12, 4), elements=st.sampled_from([0, 1, 1.5, 2, 7.9, 8, 8.1, 16, 17, 64, 600])),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_degenerate_boxes_and_cell_borders(corners, iou):
    boxes = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    score = np.linspace(1, 0.5, len(boxes), dtype=np.float32)
    assert greedy_nms(boxes, score, iou).tolist() == reference_nms(boxes, score, iou)


def test_crowded_tile_keeps_more_than_any_usual_cap():
    rng = np.random.default_rng(0)
    boxes = boxes_from(rng, 5000, 640, 6, 20)
    score = rng.uniform(0.4, 1.0, len(boxes)).astype(np.float32)
    kept = greedy_nms(boxes, score, 0.5)
    assert kept.tolist() == reference_nms(boxes, score, 0.5)
    assert len(kept) > 3000


def test_overlap_is_decided_on_the_last_bit_of_a_float32():
    """A kernel that fuses, or computes in double or half precision, decides otherwise somewhere."""
    rng = np.random.default_rng(1)
    for _ in range(500):
        pair = boxes_from(rng, 2, 10, 8, 20)
        value = reference_iou(pair[0], pair[1:])[0]
        score = np.array([0.9, 0.8], np.float32)
        if value > 0:
            assert len(greedy_nms(pair, score, float(value))) == 2
            assert len(greedy_nms(pair, score, float(np.nextafter(value, np.float32(0))))) == 1


def test_order_is_score_then_y_then_x_then_tile_and_far_edges():
    rows = np.array(  # score, y0, x0, tile, y1, x1
        [
            (0.9, 5, 9, 9, 20, 20),
            (0.9, 5, 10, 1, 20, 20),
            (0.9, 5, 10, 2, 19, 21),
            (0.9, 5, 10, 2, 20, 19),
            (0.9, 5, 10, 2, 20, 21),
            (0.9, 6, 0, 0, 20, 20),
            (0.8, -3, 0, 0, 20, 20),
            (0.8, -0.0, 1, 0, 20, 20),
            (0.8, 0.0, 2, 0, 20, 20),
        ],
        np.float32,
    )
    for seed in range(20):
        mixed = np.random.default_rng(seed).permutation(rows)
        order = canonical_order(mixed[:, [2, 1, 5, 4]], mixed[:, 0], mixed[:, 3].astype(np.int32))
        assert mixed[order].tolist() == rows.tolist()


@given(hnp.arrays(np.float32, st.integers(2, 50), elements=st.floats(width=32, allow_nan=False)))
def test_sortable_bits_keep_the_order_of_floats(values):
    bits = sortable(values)
    assert ((values[:, None] < values) == (bits[:, None] < bits)).all()
    assert (order_by(bits, bits) == np.lexsort((np.arange(len(values)), values))).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_an_error_not_a_nucleus(value):
    with pytest.raises(ValueError, match="finite"):
        greedy_nms(np.array([[0, 0, value, 1]], np.float32), np.array([0.5], np.float32), 0.5)
    with pytest.raises(ValueError, match="finite"):
        greedy_nms(np.array([[0, 0, 1, 1]], np.float32), np.array([value], np.float32), 0.5)


def test_no_boxes():
    assert greedy_nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
