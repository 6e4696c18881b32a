"""The real detector: the same bytes for any number of threads and shards."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from ercohort.config import Config
from ercohort.model import read_model
from ercohort.simulate import simulate_slide
from ercohort.steps import detect
from ercohort.steps.engine import prepare_engine
from ercohort.steps.export import export_geojson
from ercohort.steps.merge import merge_slide
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import mask_tissue

MODEL = Path(__file__).parents[2] / "models/er-yolov8n.onnx"
CONFIG = Config(model=str(MODEL))
MADE = ("tiles.parquet", "nuclei.parquet", "nuclei.geojson.zip")


@pytest.fixture(scope="module")
def tiled(tmp_path_factory) -> Path:
    """The folder of a small simulated slide whose tiles are laid out."""
    folder = tmp_path_factory.mktemp("tiled")
    path = str(folder / "slide.tif")
    simulate_slide(folder / "slide.tif", width=1300, height=700, mpp=0.5, percent_positive=60, seed=1)
    prepare_engine(model=CONFIG.model, backend="openvino", precision="auto", output=folder / "engine.json")
    mask_tissue(slide_id="S1", path=path, readable=path, mpp=None, settings=CONFIG.tissue, folder=folder)
    lay_out_tiles(detector_mpp=read_model(CONFIG.model).mpp, settings=CONFIG.tiles, folder=folder)
    return folder


def count(tiled: Path, folder: Path, *, threads: int, n_shards: int) -> dict[str, bytes]:
    """Detect, merge and export as the jobs of the workflow do; return the files."""
    shutil.copytree(tiled, folder)
    shards = [folder / f"{shard}.parquet" for shard in range(1, n_shards + 1)]
    records = [path.with_suffix(".record.json") for path in shards]
    for number, (shard, record) in enumerate(zip(shards, records, strict=True), start=1):
        detect.detect_nuclei(
            shard=number, n_shards=n_shards, model=CONFIG.model, engine=folder / "engine.json",
            settings=CONFIG.detect, tile_px=CONFIG.tiles.tile_px, gpu=0, threads=threads, folder=folder,
            detections=shard, record=record,
        )  # fmt: skip
    merge_slide(detections=shards, records=records, settings=CONFIG.detect, detector_mpp=0.5, folder=folder)
    export_geojson(settings=CONFIG.geojson, folder=folder)
    return {name: (folder / name).read_bytes() for name in MADE}


def test_threads_and_shards_change_no_byte(tiled, tmp_path, monkeypatch):
    """In the arithmetic that `auto` takes here; more threads than processors are asked for on purpose."""
    monkeypatch.setattr(detect, "usable_threads", int)
    one = count(tiled, tmp_path / "one", threads=1, n_shards=1)
    assert pl.read_parquet(tmp_path / "one/nuclei.parquet").height > 100
    assert pl.read_parquet(tmp_path / "one/tiles.parquet").height >= 3
    for threads, n_shards in ((8, 1), (2, 3)):
        other = count(tiled, tmp_path / f"{threads}-{n_shards}", threads=threads, n_shards=n_shards)
        assert [name for name in MADE if other[name] != one[name]] == []
