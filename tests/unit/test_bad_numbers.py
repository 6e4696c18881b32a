"""What a network must not give, through the real OpenVINO: dropped and counted, or an error naming it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ercohort.backends.openvino import OpenVinoBackend
from ercohort.backends.protocol import Tile
from ercohort.config import DetectSettings, TileSettings
from ercohort.detect import detect_shard
from ercohort.errors import BackendError, ModelError
from ercohort.model import read_model
from tests.tiny_onnx import write_constant_detector
from tests.unit.test_detect import ArraySlide, lay_tiles

pytestmark = pytest.mark.timeout(120)

SIDE = 128
GOOD = (64, 64, 20, 20, 0.9, 0.0)
LOW = (64, 64, 20, 20, 0.01, 0.0)
NAN, INF = np.nan, np.inf


def backend_of(tmp_path: Path, *anchors: tuple[float, ...]) -> OpenVinoBackend:
    head = np.array(anchors, np.float32).T
    model = read_model(write_constant_detector(tmp_path / "odd.onnx", head))
    return OpenVinoBackend(model, tile_px=SIDE, detect=DetectSettings(), threads=1)


def look(backend: OpenVinoBackend):  # type: ignore[no-untyped-def]
    """Run one tile; return what was found, and how many anchors were dropped."""
    backend.begin((SIDE, SIDE))
    slot = backend.acquire()
    assert slot is not None
    slot.tile = Tile(7, 0, 0, SIDE, SIDE, 0, 0, SIDE, SIDE)
    backend.submit(slot)
    backend.finish()
    found = backend.take()
    return found, backend.stats()["dropped_boxes"]


@pytest.mark.parametrize(
    "anchor",
    [
        (NAN, 64, 20, 20, 0.9, 0),
        (64, 64, NAN, 20, 0.9, 0),
        (64, 64, 20, INF, 0.9, 0),
        (64, INF, 20, 20, 0.9, 0),
        (64, 64, 20, 20, NAN, NAN),
        (64, 64, 20, 20, INF, 0),
        (64, 64, 20, 20, -INF, NAN),
        (-50, 64, 20, 20, 0.9, 0),
        (64, 999, 20, 20, 0.9, 0),
        (64, 64, 0, 20, 0.9, 0),
        (64, 64, 20, -20, 0.9, 0),
        (3e38, 3e38, 3e38, 3e38, 0.9, 0),
    ],
    ids=str,
)
def test_a_box_that_cannot_be_is_dropped_and_counted(tmp_path: Path, anchor: tuple[float, ...]) -> None:
    with backend_of(tmp_path, LOW, anchor, GOOD, LOW) as backend:
        for _ in range(2):  # the count begins anew with each shard
            found, dropped = look(backend)
            assert found.boxes.tolist() == [[54, 54, 74, 74]]
            assert dropped == 1


def test_a_sound_network_drops_nothing(tmp_path: Path) -> None:
    overhanging = (2, 2, 20, 20, 0.8, 0.0)
    with backend_of(tmp_path, LOW, GOOD, overhanging, (64, 64, 0, 0, 0.01, 0.0)) as backend:
        found, dropped = look(backend)
    assert found.boxes.tolist() == [[54, 54, 74, 74], [0, 0, 12, 12]]
    assert dropped == 0


@pytest.mark.parametrize("bad", [(NAN,) * 6, (64, 64, 20, 20, INF, INF), (64, 64, -1, -1, 0.9, 0)], ids=str)
def test_a_network_that_gives_mostly_nonsense_is_an_error(tmp_path: Path, bad: tuple[float, ...]) -> None:
    with (
        backend_of(tmp_path, GOOD, bad, bad) as backend,
        pytest.raises(
            BackendError, match=r"odd\.onnx: most of .* tile 7 at 0, 0 .*export the detector again"
        ),
    ):
        look(backend)


@pytest.mark.parametrize("shape", [(7, 9), (5, 9), (6, 3, 3)])
def test_an_output_that_is_not_what_the_file_states(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = read_model(write_constant_detector(tmp_path / "odd.onnx", np.zeros(shape)))
    with pytest.raises(ModelError, match=r"odd\.onnx: its output is f32 \[1,.*export it again"):
        OpenVinoBackend(model, tile_px=SIDE, detect=DetectSettings(), threads=1)


def crowd(n: int, size: float) -> np.ndarray:
    """Boxes of `size` px on a grid over the tile, (n, 6)."""
    side = int(np.ceil(np.sqrt(n)))
    y, x = np.divmod(np.arange(n), side)
    centre = (np.stack([x, y], axis=1) + 0.5) * SIDE / side
    score = np.random.default_rng(0).uniform(0.5, 0.9, n)
    return np.column_stack([centre, np.full((n, 2), size), score, np.zeros(n)])


@pytest.mark.parametrize(("size", "least", "most"), [(0.5, 50_000, 50_000), (6.0, 300, 2_000)])
def test_fifty_thousand_boxes_in_one_tile(tmp_path: Path, size: float, least: int, most: int) -> None:
    """There is no cap on sound boxes, and those that overlap are thinned out, in the shard too."""
    slide = ArraySlide(SIDE, SIDE)
    tiles = lay_tiles(slide, TileSettings(tile_px=SIDE, halo_px=16)).filter(pl.col("tile_id") == 0)
    with backend_of(tmp_path, *crowd(50_000, size)) as backend:
        found, dropped = look(backend)
        backend.release(found.slot)
        shard = detect_shard(
            slide, tiles, tiles, backend, settings=DetectSettings(), background=(255.0, 255.0, 255.0)
        )
    assert dropped == shard.stats["dropped_boxes"] == 0
    assert least <= len(found.boxes) <= most
    assert len(found.boxes) // 2 < len(shard.table) < len(found.boxes)  # what lies in the tile's core
