"""The merge of shard tables; that it is exact is shown in `test_exactness`."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import polars as pl
import pytest

from ercohort import schema
from ercohort.errors import InputError
from ercohort.merge import merge_shards, pale_to_negative
from ercohort.schema import LABELS

RULES = {"scale": 1.0, "nms_iou": 0.5, "seam_ios": 0.7}


def shard(boxes: list, tile_id: list[int], *, score: list[float] | None = None, is_open: bool = False):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    return pl.DataFrame(
        {
            **dict(zip(["x0", "y0", "x1", "y1"], boxes.T, strict=True)),
            "score": score or [0.9] * n,
            "label": [LABELS[i % 2] for i in range(n)],
            "dab_od": np.arange(n) / 10,
            "hematoxylin_od": np.arange(n) / 20,
            "tile_id": tile_id,
            "cut": [False] * n,
            "open": [is_open] * n,
        },
        schema=schema.DETECTIONS,
    )


def test_rows_come_by_tile_then_y_then_x_with_all_columns():
    a = shard([[5, 0, 15, 10], [0, 20, 10, 30], [0, 0, 10, 10]], [3, 3, 3])
    b = shard([[90, 0, 99, 10]], [1])
    nuclei = merge_shards([a, b], **RULES)
    assert nuclei.schema == schema.NUCLEI
    assert nuclei.select("tile_id", "y0", "x0").rows() == [(1, 0, 90), (3, 0, 0), (3, 0, 5), (3, 20, 0)]
    assert nuclei["label"].to_list() == ["Positive", "Positive", "Positive", "Negative"]
    assert nuclei["dab_od"].to_list() == pytest.approx([0, 0.2, 0, 0.1])
    assert nuclei["hematoxylin_od"].to_list() == pytest.approx([0, 0.1, 0, 0.05])
    assert nuclei["grade"].null_count() == nuclei["region"].null_count() == 4


def test_the_order_of_the_shards_does_not_matter():
    a = shard([[0, 0, 10, 10], [40, 0, 50, 10]], [0, 0], is_open=True)
    b = shard([[1, 0, 11, 10], [80, 0, 90, 10]], [1, 1], is_open=True)
    assert merge_shards([a, b], **RULES).equals(merge_shards([b, a], **RULES))
    assert len(merge_shards([a, b], **RULES)) == 3


def test_only_open_boxes_are_resolved():
    """What a shard closed stays, and what is open gives way to the better box."""
    a = shard([[0, 0, 10, 10], [40, 0, 50, 10]], [0, 0], score=[0.7, 0.7], is_open=True)
    b = shard([[1, 0, 11, 10]], [1], score=[0.9], is_open=True)
    c = shard([[41, 0, 51, 10]], [2], score=[0.9])
    assert merge_shards([a, b, c], **RULES).select("tile_id", "x0").rows() == [(0, 40), (1, 1), (2, 41)]


def test_the_same_tile_in_two_shards_is_an_error():
    a, b = shard([[0, 0, 10, 10]], [4]), shard([[50, 0, 60, 10]], [4])
    with pytest.raises(InputError, match=r"tile 4 is in two shards.*remove"):
        merge_shards([a, b], **RULES)


def test_the_classes_are_those_of_the_shards():
    columns = schema.with_classes(schema.DETECTIONS, ["Positive", "Weak", "Negative"])
    a, b = shard([[0, 0, 10, 10]], [0]), shard([], [])
    three = [table.with_columns(pl.col("label").cast(pl.String)).cast(columns) for table in (a, b)]
    nuclei = merge_shards(three, **RULES)
    assert nuclei.schema["label"] == columns["label"]
    assert nuclei["label"].to_list() == ["Positive"]
    with pytest.raises(
        InputError, match=r"Positive, Weak, Negative and Positive, Negative, so two detectors"
    ):
        merge_shards([three[0], shard([[50, 0, 60, 10]], [1])], **RULES)


def test_pale_nuclei_are_negative_whatever_the_detector_said():
    classes = pl.Enum(["Weak", "Tumor: negative", "Positive"])
    labels = ["Weak", "Positive", "Tumor: negative", "Positive", "Tumor: negative", "Weak"]
    od = [0.125, 0.25, 0.5, 0.375, -0.1, float("nan")]
    nuclei = pl.DataFrame({"label": labels, "dab_od": od}, schema={"label": classes, "dab_od": pl.Float32})
    cut = pale_to_negative(nuclei, 0.25)
    assert cut["label"].to_list() == ["Tumor: negative", *labels[1:]]
    assert cut.schema == nuclei.schema
    assert cut["dab_od"].equals(nuclei["dab_od"])
    assert pale_to_negative(nuclei, 0.38)["label"].to_list() == [*["Tumor: negative"] * 5, "Weak"]
    assert pale_to_negative(nuclei.clear(), 0.25).equals(nuclei.clear())


def test_nothing_is_a_table_without_rows():
    assert merge_shards([], **RULES).schema == schema.NUCLEI
    empty = merge_shards([shard([], []), shard([], [])], **RULES)
    assert empty.schema == schema.NUCLEI
    assert len(empty) == 0


def test_many_open_boxes_do_not_take_quadratic_time():
    rng = np.random.default_rng(0)
    n = 200_000
    center, half = rng.uniform(0, 8_270, (n, 2)), rng.uniform(4, 10, (n, 2))
    boxes = np.hstack([center - half, center + half])
    table = shard(
        boxes, rng.integers(0, 300, n).tolist(), score=rng.uniform(0.4, 1, n).tolist(), is_open=True
    )
    merge_shards([table.head(1000)], **RULES)
    begun = perf_counter()
    nuclei = merge_shards([table], **RULES)
    assert perf_counter() - begun < 5  # 0.2 s on an idle core; all pairs would take minutes
    assert 0 < len(nuclei) < n
