"""A GPU whose memory is too small: the shard is run in smaller batches, or on the CPU, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ercohort import backends
from ercohort.config import DetectSettings, TensorRtSettings
from ercohort.errors import BackendError, Status
from ercohort.files import read_json, write_json, write_table
from ercohort.gpu import launches
from ercohort.gpu.device import GpuMemoryError
from ercohort.gpu.launches import TileShape
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.model import ModelInfo, read_model
from ercohort.record import SlideRecord, TissueRecord
from ercohort.schema import DETECTIONS
from ercohort.slide import guarded
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.merge import merge_slide
from tests.tiny_onnx import GOOD_METADATA, write_detector
from tests.unit.gpu.fake_device import FakeContext, FakeDevice
from tests.unit.test_detect import ArraySlide, lay_tiles

pytestmark = pytest.mark.timeout(120)
SHAPE = TileShape(side=128, anchors=launches.anchors(128), classes=2, fp16_input=False)
STREAMS = 3


class FakeChoice:
    """Opens the pipeline on a fake device, as `BackendChoice.open` opens TensorRT."""

    def __init__(self, make_device: Callable[[], FakeDevice]) -> None:
        self.make_device = make_device
        self.devices: list[FakeDevice] = []
        self.batches: list[int] = []

    def open(
        self, model: ModelInfo, *, tile_px: int, detect: DetectSettings, threads: int, batch: int | None
    ) -> PipelineBackend:
        assert all(device.closed for device in self.devices), "the memory of the last try is not free"
        batch = batch or 8
        device = self.make_device()
        self.devices.append(device)
        self.batches.append(batch)
        return PipelineBackend(
            device, lambda stream: FakeContext(device, stream, batch, SHAPE), SHAPE,
            batch=batch, streams=STREAMS, detect=detect,
            name="tensorrt", precision="f16", model=model, threads=threads,
        )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeChoice], dict[str, Any]]:
    """Run a shard of a small slide with a choice; returns its record."""
    rng = np.random.default_rng(0)
    array = ArraySlide(500, 500, picture=rng.integers(0, 256, (500, 500, 3), np.uint8))
    tissue = TissueRecord(16.0, 16.0, (245.0, 245.0, 245.0), 2.0)
    SlideRecord("a", "a.svs", Status.OK, "", array.info, tissue).write(tmp_path / "slide.json")
    lay_tiles(array).write_parquet(tmp_path / "tiles.parquet")
    model = read_model(write_detector(tmp_path / "tiny.onnx", metadata=GOOD_METADATA))
    asked = {"backend": "auto", "precision": "f32", "tensorrt": TensorRtSettings().model_dump()}
    write_json(tmp_path / "engine.json", {"asked": asked, "refused": None, "model": model.to_dict()})
    monkeypatch.setattr(guarded, "open_reader", lambda info, guarded: nullcontext(array))

    def detect(choice: FakeChoice, *, for_cpu: bool = False) -> dict[str, Any]:
        if for_cpu:  # the tiny detector sees nuclei where red and green say: always within a tile of 128 px
            array.picture[..., :2] //= 6
        monkeypatch.setattr(backends, "choose_prepared", lambda *arguments: choice)
        detect_nuclei(
            shard=1, model=model.path, engine=tmp_path / "engine.json", settings=DetectSettings(),
            tile_px=128, gpu=1, threads=2, folder=tmp_path,
            detections=tmp_path / "1.parquet", record=tmp_path / "1.json",
        )  # fmt: skip
        assert all(device.closed for device in choice.devices)
        assert len(pl.read_parquet(tmp_path / "1.parquet")) > 0
        return read_json(tmp_path / "1.json")

    return detect


def need(batch: int) -> int:
    return STREAMS * sum(launches.sizes(batch, SHAPE).values())


@pytest.mark.parametrize(
    ("room", "batches"), [(need(8), [8]), (need(4), [8, 4]), (need(3), [8, 4, 2]), (need(1), [8, 4, 2, 1])]
)
def test_batches_are_halved_until_they_fit(run, room, batches, caplog):
    choice = FakeChoice(lambda: FakeDevice(room=room))
    with caplog.at_level(logging.WARNING):
        record = run(choice)
    assert choice.batches == batches
    assert (record["backend"], record["precision"], record["device"]) == ("tensorrt", "f16", "fake GPU")
    assert record["batch"] == batches[-1]
    if len(batches) == 1:
        assert record["fallback"] is None
    else:
        assert record["fallback"] == f"fake GPU: no memory: run in batches of {batches[-1]}"
    assert len(caplog.messages) == len(batches) - 1
    assert record["peak_device_bytes"] <= room
    assert 0 < record["busy_share"] <= 1


def test_the_cpu_is_the_last_resort_and_the_record_says_so(run, caplog):
    choice = FakeChoice(lambda: FakeDevice(room=1000))
    with caplog.at_level(logging.WARNING):
        record = run(choice, for_cpu=True)
    assert choice.batches == [8, 4, 2, 1]
    assert (record["backend"], record["precision"]) == ("openvino", "f32")
    assert record["fallback"] == "fake GPU: no memory: run on the CPU"
    assert len(caplog.messages) == 4
    assert record["n_tiles"] > 0


def test_memory_that_runs_out_under_way_begins_the_shard_anew(run):
    tries = iter([8, None])  # the first device fails at its eighth inference

    def make() -> FakeDevice:
        at = next(tries)
        return FakeDevice(fault=lambda stage, n: stage == "engine" and n == at, error=GpuMemoryError)

    choice = FakeChoice(make)
    record = run(choice)
    assert choice.batches == [8, 4]
    untroubled = run(FakeChoice(FakeDevice))
    assert record["n_tiles"] == untroubled["n_tiles"]
    assert record["failed"] == []


def test_other_errors_are_not_tried_again(run):
    choice = FakeChoice(lambda: FakeDevice(fault=lambda stage, n: stage == "own" and n == 2))
    with pytest.raises(BackendError, match="own failed"):
        run(choice)
    assert choice.batches == [8]


def test_rows_do_not_depend_on_the_batch(run, tmp_path):
    tables = []
    for room in (need(8), need(1)):
        run(FakeChoice(lambda room=room: FakeDevice(room=room)))
        tables.append(pl.read_parquet(tmp_path / "1.parquet"))
    assert tables[0].equals(tables[1])


def test_a_slide_whose_shards_ran_on_both_says_so(tmp_path):
    array = ArraySlide(500, 500)
    tissue = TissueRecord(16.0, 16.0, (245.0, 245.0, 245.0), 2.0)
    SlideRecord("a", "a.svs", Status.OK, "", array.info, tissue).write(tmp_path / "slide.json")
    shard = {"status": "ok", "message": "", "n_tiles": 1, "failed": [], "seconds": 1.0, "model": "m"}
    for index, made_by in enumerate(
        (
            {"backend": "tensorrt", "precision": "f16", "fallback": None},
            {"backend": "openvino", "precision": "f32", "fallback": "no memory: run on the CPU"},
        )
    ):
        write_json(tmp_path / f"{index}.json", shard | made_by)
        write_table(tmp_path / f"{index}.parquet", pl.DataFrame(schema=DETECTIONS), DETECTIONS)
    merge_slide(
        detections=[tmp_path / f"{index}.parquet" for index in range(2)],
        records=[tmp_path / f"{index}.json" for index in range(2)],
        settings=DetectSettings(), detector_mpp=0.5, folder=tmp_path,
    )  # fmt: skip
    summary = read_json(tmp_path / "summary.json")
    assert (summary["row"]["backend"], summary["row"]["precision"]) == ("openvino+tensorrt", "f16+f32")
    assert summary["shards"][1]["fallback"] == "no memory: run on the CPU"
