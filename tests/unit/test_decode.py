"""The YOLO head: thresholds, classes, clipping, and duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ercohort.decode import decode_tile

TILE = 640


def head(*anchors: tuple[float, ...]) -> np.ndarray:
    """Columns are anchors: cx, cy, w, h, one probability per class."""
    rows = len(anchors[0]) if anchors else 6
    return np.ascontiguousarray(np.array(anchors, np.float32).reshape(-1, rows).T)


def decode(raw: np.ndarray, score: float = 0.4, nms_iou: float = 0.5) -> tuple[np.ndarray, ...]:
    return decode_tile(raw, tile_px=TILE, score=score, nms_iou=nms_iou)


def test_box_score_and_class_of_one_nucleus() -> None:
    boxes, scores, labels = decode(head((100, 50, 20, 10, 0.3, 0.9)))
    assert boxes.tolist() == [[90, 45, 110, 55]]
    assert scores.tolist() == [np.float32(0.9)]
    assert labels.tolist() == [1]
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.uint8)


def test_score_must_exceed_the_threshold() -> None:
    at, above = np.float32(0.4), np.nextafter(np.float32(0.4), np.float32(1))
    raw = head((100, 50, 20, 20, at, 0.0), (300, 50, 20, 20, above, 0.0))
    boxes, _, _ = decode(raw)
    assert boxes[:, 0].tolist() == [290]


def test_first_of_equal_classes_wins() -> None:
    _, _, labels = decode(head((100, 50, 20, 20, 0.7, 0.7)))
    assert labels.tolist() == [0]


def test_one_nucleus_never_keeps_two_classes() -> None:
    raw = head((100, 100, 20, 20, 0.9, 0.1), (101, 100, 20, 20, 0.1, 0.8))
    _, scores, labels = decode(raw)
    assert scores.tolist() == [np.float32(0.9)]
    assert labels.tolist() == [0]


def test_boxes_are_clipped_to_the_tile() -> None:
    boxes, _, _ = decode(head((2, 3, 20, 20, 0.9, 0), (639, 600, 20, 200, 0.8, 0)))
    assert boxes.tolist() == [[0, 0, 12, 13], [629, 500, 640, 640]]


@pytest.mark.parametrize(
    "anchor",
    [
        (-20, 100, 20, 20, 0.9, 0),
        (660, 100, 20, 20, 0.9, 0),
        (100, 100, 0, 20, 0.9, 0),
        (100, 100, -5, 20, 0.9, 0),
        (np.nan, 100, 20, 20, 0.9, 0),
        (100, 100, np.nan, 20, 0.9, 0),
        (100, 100, np.inf, 20, 0.9, 0),
        (np.inf, 100, 20, 20, 0.9, 0),
        (100, 100, 20, 20, np.nan, 0),
        (100, 100, 20, 20, np.inf, 0),
    ],
)
def test_boxes_without_area_or_not_finite_are_dropped(anchor: tuple[float, ...]) -> None:
    boxes, _, _ = decode(head(anchor, (300, 300, 20, 20, 0.5, 0)))
    assert boxes.tolist() == [[290, 290, 310, 310]]


def test_a_nan_class_does_not_hide_the_other() -> None:
    _, scores, labels = decode(head((100, 100, 20, 20, np.nan, 0.9)))
    assert (scores.tolist(), labels.tolist()) == ([np.float32(0.9)], [1])


def test_nothing_found() -> None:
    for raw in (np.zeros((6, 8400), np.float32), np.zeros((6, 0), np.float32)):
        boxes, scores, labels = decode(raw)
        assert boxes.shape == (0, 4)
        assert len(scores) == len(labels) == 0


def test_no_cap_on_the_number_of_nuclei() -> None:
    grid = np.arange(8, TILE, 8)
    raw = head(*[(x, y, 7, 7, 0.9, 0.1) for y in grid for x in grid])
    assert len(decode(raw)[0]) == len(grid) ** 2 == 6241


def test_three_classes() -> None:
    _, _, labels = decode(head((100, 100, 20, 20, 0.1, 0.2, 0.9)))
    assert labels.tolist() == [2]


def reference(raw: np.ndarray, score: float, iou: float) -> np.ndarray:
    """Brute force, in the documented order: score descending, y0, x0, y1, x1."""
    best = raw[4:].max(axis=0)
    half = raw[2:4] / np.float32(2)
    boxes = np.concatenate([raw[:2] - half, raw[:2] + half]).T.clip(0, TILE)[best > np.float32(score)]
    scores = best[best > np.float32(score)]
    kept: list[np.ndarray] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], *boxes[i, [1, 0, 3, 2]])):
        a = boxes[i]
        for b in kept:
            w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
            h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
            if w * h / union > np.float32(iou):
                break
        else:
            kept.append(a)
    return np.array(kept, np.float32).reshape(-1, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.sampled_from([0.3, 0.5, 0.7]))
@example(28602, 146, 0.3)  # two boxes of one score begin at one corner
def test_equals_brute_force(seed: int, n: int, iou: float) -> None:
    random = np.random.default_rng(seed)
    raw = np.concatenate(
        [random.integers(5, 120, (2, n)), random.integers(8, 30, (2, n)), random.integers(0, 20, (2, n)) / 20]
    ).astype(np.float32)
    np.testing.assert_array_equal(decode(raw, 0.4, iou)[0], reference(raw, 0.4, iou))
