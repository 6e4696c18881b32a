"""The detection stage: nothing lost, doubled or misplaced, whatever the threads do; errors end it cleanly."""

from __future__ import annotations

import _thread
import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ercohort.backends import choose_backend
from ercohort.backends.protocol import Slot
from ercohort.config import DetectSettings, TileSettings
from ercohort.detect import ShardResult, detect_shard
from ercohort.errors import BackendError, SlideError, Status
from ercohort.merge import merge_shards
from ercohort.model import read_model
from ercohort.oracle import OracleBackend
from ercohort.schema import DETECTIONS, LABELS, TILES
from ercohort.slide import SlideInfo
from ercohort.stain import stain_matrix
from ercohort.tiles import make_tiles
from tests.tiny_onnx import GOOD_METADATA, SIDE, SPAN, paint, write_detector

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("no_thread_is_left")]
WHITE = (255.0, 255.0, 255.0)
DETECT = DetectSettings()
TILES_128 = TileSettings(tile_px=128, halo_px=32)


class ArraySlide:
    """A slide that is an array at the detector's scale; reads can be made slow, broken or wrong."""

    def __init__(self, width: int, height: int, mpp: float = 0.5, picture: np.ndarray | None = None) -> None:
        self.info = SlideInfo(
            path="array", vendor="test", width=width, height=height, mpp=mpp, mpp_source="sheet",
            level_dimensions=((width, height),), level_downsamples=(1.0,), bounds=(0, 0, width, height),
            has_bounds=False, background=(255, 255, 255), reader="array", file_bytes=0,
        )  # fmt: skip
        self.picture = picture
        self.errors: dict[tuple[int, int], Exception] = {}

    def read(self, x: int, y: int, w: int, h: int, *, size: tuple[int, int], out: np.ndarray) -> np.ndarray:
        if (x, y) in self.errors:
            raise self.errors[x, y]
        out[:] = 255
        if self.picture is not None:
            assert size == (w, h)
            rows, columns = self.picture.shape[:2]
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, columns), min(y + h, rows)
            out[top - y : bottom - y, left - x : right - x] = self.picture[top:bottom, left:right]
        return out


class ScramblingOracle(OracleBackend):
    """Finishes its tiles in random order, after random delays, on threads of its own."""

    def __init__(self, *args: object, seed: int = 0, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.pool = ThreadPoolExecutor(4)
        self.random = random.Random(seed)
        self.most_in_flight = self.in_flight = 0

    def _start(self, slot: Slot) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.pool.submit(self._later, slot, self.random.uniform(0, 0.004))

    def _later(self, slot: Slot, delay: float) -> None:
        time.sleep(delay)
        self._started(slot)

    def release(self, slot: Slot) -> None:
        self.in_flight -= 1
        super().release(slot)

    def _free(self) -> None:
        self.pool.shutdown()


class FailingOracle(OracleBackend):
    """Fails on the fifth tile."""

    where = "collect"

    def _start(self, slot: Slot) -> None:
        if self.where == "start" and slot.tile and slot.tile.tile_id == 5:
            raise BackendError("the network refuses tile 5")
        super()._start(slot)

    def _collect(self, slot: Slot):  # type: ignore[no-untyped-def]
        if self.where == "collect" and slot.tile and slot.tile.tile_id == 5:
            raise BackendError("the network failed on tile 5")
        return super()._collect(slot)


def lay_tiles(slide: ArraySlide, settings: TileSettings = TILES_128, n_shards: int = 1) -> pl.DataFrame:
    info = slide.info
    return make_tiles(
        width=info.width, height=info.height, bounds=info.bounds, slide_mpp=info.mpp, detector_mpp=0.5,
        settings=settings, mask=np.ones((4, 4), bool), downsample_x=info.width / 4,
        downsample_y=info.height / 4, n_shards=n_shards,
    )  # fmt: skip


def plant(width: int, height: int, scale: float, seed: int = 0) -> pl.DataFrame:
    """Nuclei of both classes on a jittered lattice, never touching, up to the slide's last pixels."""
    rng = np.random.default_rng(seed)
    pitch = 24 * scale
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(0, width, pitch), np.arange(0, height, pitch)))
    x = x + rng.uniform(0, 3 * scale, len(x))
    y = y + rng.uniform(0, 3 * scale, len(y))
    side = rng.uniform(9, 20, (2, len(x))) * scale
    # One size, one place: two estimates of a nucleus must not differ by rounding.
    corners = [np.round(v * 4) / 4 for v in (x, y, x + side[0], y + side[1])]
    x0, y0, x1, y1 = corners[0], corners[1], corners[2].clip(0, width), corners[3].clip(0, height)
    table = pl.DataFrame(
        {
            "x0": x0, "y0": y0, "x1": x1, "y1": y1,
            "score": rng.uniform(0.5, 1.0, len(x)),
            "label": pl.Series(rng.integers(0, 2, len(x))).cast(pl.UInt8),
        }
    )  # fmt: skip
    labels = pl.Series(LABELS, dtype=pl.Enum(LABELS)).gather(table["label"])
    wide = (pl.col("x1") - pl.col("x0") > 6 * scale) & (pl.col("y1") - pl.col("y0") > 6 * scale)
    coordinates = pl.col("x0", "y0", "x1", "y1", "score").cast(pl.Float32)
    return table.with_columns(coordinates, labels.alias("label")).filter(wide)


def detect(slide: ArraySlide, tiles: pl.DataFrame, backend, **kwargs) -> ShardResult:  # type: ignore[no-untyped-def]
    return detect_shard(
        slide, tiles, kwargs.pop("all_tiles", tiles), backend, settings=DETECT, background=WHITE, **kwargs
    )


def ordered(table: pl.DataFrame) -> pl.DataFrame:
    return table.select("x0", "y0", "x1", "y1", "score", "label").sort("y0", "x0")


@pytest.mark.parametrize(
    ("mpp", "tile_px", "n_shards", "threads"),
    [(0.5, 128, 1, 2), (0.25, 128, 3, 1), (0.5, 256, 2, 8), (0.46, 192, 7, 3)],
)
def test_every_planted_nucleus_comes_out_once(mpp: float, tile_px: int, n_shards: int, threads: int) -> None:
    slide = ArraySlide(1501, 1203, mpp)
    nuclei = plant(1501, 1203, 0.5 / mpp)
    tiles = lay_tiles(slide, TileSettings(tile_px=tile_px, halo_px=32), n_shards)
    parts = []
    for shard in range(1, n_shards + 1):
        mine = tiles.filter(pl.col("shard") == shard)
        with ScramblingOracle(nuclei, tile_px=tile_px, mpp=0.5, detect=DETECT, threads=threads) as backend:
            parts.append(detect(slide, mine, backend, all_tiles=tiles).table)
            assert backend.most_in_flight <= backend.n_slots
    found = merge_shards(parts, scale=0.5 / mpp, nms_iou=DETECT.nms_iou, seam_ios=DETECT.seam_ios)
    assert len(found) == len(nuclei) > 500
    # Windows are resampled by factors that are not powers of two, so the last bits may differ.
    assert_frame_equal(ordered(found), ordered(nuclei), abs_tol=0.01, rel_tol=0)


def test_rows_do_not_depend_on_threads_or_timing() -> None:
    slide = ArraySlide(900, 900)
    nuclei = plant(900, 900, 1.0)
    tiles = lay_tiles(slide)
    tables = []
    for seed, threads in enumerate((1, 2, 3, 8)):
        with ScramblingOracle(
            nuclei, tile_px=128, mpp=0.5, detect=DETECT, threads=threads, seed=seed
        ) as backend:
            tables.append(detect(slide, tiles, backend).table)
    for table in tables[1:]:
        assert_frame_equal(table, tables[0], check_exact=True)
    assert tables[0].schema == pl.Schema(DETECTIONS)
    assert len(tables[0]) == len(nuclei)


def test_a_backend_serves_many_shards() -> None:
    slide = ArraySlide(600, 600)
    nuclei = plant(600, 600, 1.0)
    tiles = lay_tiles(slide)
    with ScramblingOracle(nuclei, tile_px=128, mpp=0.5, detect=DETECT) as backend:
        first, second = (detect(slide, tiles, backend).table for _ in range(2))
    assert_frame_equal(first, second, check_exact=True)


def test_the_table_has_the_detectors_classes_in_its_order() -> None:
    classes = pl.Enum(["Weak", "Negative", "Positive"])
    slide = ArraySlide(900, 900)
    nuclei = plant(900, 900, 1.0)
    labels = np.array(classes.categories)[np.arange(len(nuclei)) % 3]
    nuclei = nuclei.with_columns(pl.Series("label", labels, dtype=classes))
    with ScramblingOracle(nuclei, tile_px=128, mpp=0.5, detect=DETECT) as backend:
        assert backend.model.labels == ("Weak", "Negative", "Positive")
        found = detect(slide, lay_tiles(slide), backend).table
        empty = detect(slide, pl.DataFrame(schema=TILES), backend).table
    assert found.schema["label"] == empty.schema["label"] == classes
    assert_frame_equal(ordered(found), ordered(nuclei), abs_tol=0.01, rel_tol=0)


def test_zero_tiles() -> None:
    slide = ArraySlide(600, 600)
    tiles = pl.DataFrame(schema=TILES)
    with OracleBackend(plant(600, 600, 1.0), tile_px=128, mpp=0.5, detect=DETECT) as backend:
        result = detect(slide, tiles, backend)
    assert result.table.schema == pl.Schema(DETECTIONS)
    assert len(result.table) == 0
    assert (result.stats["n_tiles"], result.stats["failed"]) == (0, [])


def test_no_nuclei() -> None:
    slide = ArraySlide(600, 600)
    nothing = plant(600, 600, 1.0).clear()
    with OracleBackend(nothing, tile_px=128, mpp=0.5, detect=DETECT) as backend:
        result = detect(slide, lay_tiles(slide), backend)
    assert len(result.table) == 0
    assert result.table.schema == pl.Schema(DETECTIONS)


def test_tiles_that_cannot_be_read_are_recorded_and_the_rest_is_found() -> None:
    slide = ArraySlide(900, 900)
    nuclei = plant(900, 900, 1.0)
    tiles = lay_tiles(slide)
    broken = tiles.filter(pl.col("tile_id").is_in([3, 17, 40]))
    for row in broken.iter_rows(named=True):
        slide.errors[row["x"], row["y"]] = SlideError(Status.UNREADABLE, f"bad JPEG in tile {row['tile_id']}")
    calls: list[tuple[int, int]] = []
    with ScramblingOracle(nuclei, tile_px=128, mpp=0.5, detect=DETECT) as backend:
        result = detect(slide, tiles, backend, progress=lambda *call: calls.append(call))
    assert result.stats["failed"] == [
        (row["tile_id"], row["x"], row["y"], f"bad JPEG in tile {row['tile_id']}")
        for row in broken.iter_rows(named=True)
    ]
    assert calls == [(done, len(tiles)) for done in range(1, len(tiles) + 1)]
    assert not set(result.table["tile_id"]) & {3, 17, 40}
    inside = [
        ((row["x0"] + row["x1"]) / 2, (row["y0"] + row["y1"]) / 2) for row in nuclei.iter_rows(named=True)
    ]
    lost = sum(
        any(
            t["core_x0"] <= x < t["core_x1"] and t["core_y0"] <= y < t["core_y1"]
            for t in broken.iter_rows(named=True)
        )
        for x, y in inside
    )
    # Neighbours may emit a nucleus whose centre lies on the border of their core.
    assert len(nuclei) - lost <= len(result.table) <= len(nuclei) - lost * 0.6


def test_all_tiles_unreadable() -> None:
    slide = ArraySlide(600, 600)
    tiles = lay_tiles(slide)
    for row in tiles.iter_rows(named=True):
        slide.errors[row["x"], row["y"]] = SlideError(Status.UNREADABLE, "truncated")
    with OracleBackend(plant(600, 600, 1.0), tile_px=128, mpp=0.5, detect=DETECT) as backend:
        result = detect(slide, tiles, backend)
    assert len(result.stats["failed"]) == len(tiles)
    assert len(result.table) == 0


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("where", ["start", "collect"])
def test_a_failing_network_ends_the_run(where: str, threads: int) -> None:
    slide = ArraySlide(900, 900)
    with FailingOracle(plant(900, 900, 1.0), tile_px=128, mpp=0.5, detect=DETECT, threads=threads) as backend:
        backend.where = where
        with pytest.raises(BackendError, match="tile 5"):
            detect(slide, lay_tiles(slide), backend)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_unexpected_error_while_reading_ends_the_run_and_says_where(threads: int) -> None:
    slide = ArraySlide(900, 900)
    tiles = lay_tiles(slide)
    x, y = tiles.row(20, named=True)["x"], tiles.row(20, named=True)["y"]
    slide.errors[x, y] = MemoryError("no memory")
    with (
        ScramblingOracle(
            plant(900, 900, 1.0), tile_px=128, mpp=0.5, detect=DETECT, threads=threads
        ) as backend,
        pytest.raises(MemoryError) as caught,
    ):
        detect(slide, tiles, backend)
    assert caught.value.__notes__ == [f"while reading tile {tiles['tile_id'][20]} at {x}, {y}"]


def test_an_error_in_the_progress_callback_ends_the_run() -> None:
    slide = ArraySlide(900, 900)

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with (
        ScramblingOracle(plant(900, 900, 1.0), tile_px=128, mpp=0.5, detect=DETECT) as backend,
        pytest.raises(KeyboardInterrupt),
    ):
        detect(slide, lay_tiles(slide), backend, progress=stop)


def test_ctrl_c_ends_the_run() -> None:
    # A test run that was started in the background ignores the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    slide = ArraySlide(900, 900)

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            _thread.interrupt_main()

    with (
        ScramblingOracle(plant(900, 900, 1.0), tile_px=128, mpp=0.5, detect=DETECT) as backend,
        pytest.raises(KeyboardInterrupt),
    ):
        detect(slide, lay_tiles(slide), backend, progress=interrupt)


def test_stats_are_json_and_complete() -> None:
    slide = ArraySlide(600, 600)
    tiles = lay_tiles(slide)
    with ScramblingOracle(plant(600, 600, 1.0), tile_px=128, mpp=0.5, detect=DETECT) as backend:
        stats = json.loads(json.dumps(detect(slide, tiles, backend).stats))
    assert stats["n_tiles"] == len(tiles)
    assert (stats["backend"], stats["precision"], stats["device"]) == ("oracle", "f32", "none")
    assert set(stats["stages"]) == {
        "read", "wait_slot", "infer", "decode_nms", "wait_result", "od", "seams"
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in stats["stages"].values())
    assert stats["stages"]["infer"] <= stats["seconds"]
    assert set(stats["shares"]) == set(stats["stages"])
    assert all(0 <= share <= 1.001 for share in stats["shares"].values())
    for readers in ("read", "wait_slot"):  # two threads
        np.testing.assert_allclose(
            stats["shares"][readers], stats["stages"][readers] / stats["seconds"] / 2, atol=1e-3
        )
    np.testing.assert_allclose(stats["busy_share"], stats["stages"]["infer"] / stats["seconds"], atol=1e-3)
    np.testing.assert_allclose(stats["tiles_per_second"], len(tiles) / stats["seconds"])


def stained(hematoxylin: float, dab: float) -> np.ndarray:
    return np.round(255 * 10 ** -(np.array([hematoxylin, dab, 0.0]) @ stain_matrix())).astype(np.uint8)


def test_openvino_on_a_painted_slide(tmp_path: Path) -> None:
    """The tiny detector sees marks; each must land on its level-0 place with its class and its stain."""
    picture = np.full((800, 1000, 3), 255, np.uint8)
    slide = ArraySlide(1000, 800, picture=picture)
    tiles = lay_tiles(slide, TileSettings(tile_px=256, halo_px=32))
    centre = (50, 52)  # colour of the marks
    x, y = (value * SPAN / 255 for value in centre)
    expected = []
    for index, row in enumerate(tiles.iter_rows(named=True)):
        left, top = max(row["x"], 0), max(row["y"], 0)
        tile = picture[top : row["y"] + 256, left : row["x"] + 256]
        if tile.shape != (256, 256, 3):
            continue
        dab = 0.7 if index % 2 else 0.1
        tile[int(y) - 9 : int(y) + 10, int(x) - 9 : int(x) + 10] = stained(0.2, dab)
        tile[::8, ::8] = 255  # what lies under anchors must not look like a mark
        paint(tile, (10, 12), centre, 20 if index % 2 else 77)  # where no other window sees it
        label = LABELS[0] if index % 2 else LABELS[1]
        expected.append((row["tile_id"], row["x"] + x, row["y"] + y, label, dab))
    path = write_detector(tmp_path / "tiny.onnx", metadata=GOOD_METADATA)
    choice = choose_backend("openvino", 0, precision="f32")
    with choice.open(read_model(path), tile_px=256, detect=DETECT, threads=2) as backend:
        table = detect(slide, tiles, backend).table
    assert table["tile_id"].to_list() == [row[0] for row in expected]
    assert len(expected) == 12
    for row, (_, x, y, label, dab) in zip(table.iter_rows(named=True), expected, strict=True):
        box = [row[name] for name in ("x0", "y0", "x1", "y1")]
        np.testing.assert_allclose(box, [x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2], atol=0.01)
        assert row["label"] == label
        # About 4 of the 201 pixels lie under anchors and are white.
        assert 0.95 * dab - 0.01 < row["dab_od"] < dab + 0.01
        assert abs(row["hematoxylin_od"] - 0.2) < 0.02
