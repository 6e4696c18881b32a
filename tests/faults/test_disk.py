"""A disk that is full, or may not be written: one line that says so, and nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from ercohort.config import DetectSettings, GeoJSONSettings, TissueSettings
from ercohort.errors import DiskError
from ercohort.files import read_json
from ercohort.preflight import full_disk, results_trouble
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.engine import prepare_engine
from ercohort.steps.export import draw_pictures, export_geojson
from ercohort.steps.merge import merge_slide
from ercohort.steps.tissue import convert_slide, mask_tissue
from tests.faults.folder import left_over, make_cohort, make_inputs, results, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk (tmpfs)"),
]


class SmallDisk:
    """A tmpfs whose size can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def change(self, *options: str) -> None:
        subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(self.path)], check=True)

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Slides, and a run of them with its shards kept."""
    path = tmp_path_factory.mktemp("finished")
    inputs = make_inputs(path / "inputs")
    folder = make_cohort(path / "folder", inputs)
    assert run(folder, path / "log", "--notemp") == 0, (path / "log").read_text()
    return inputs, folder


def steps(inputs: Path, folder: Path):
    """Return every step of a slide: what it writes first, and a call that writes it again."""
    slide, shards = folder / "slides/one", folder / "slides/one/shards"
    model, engine = str(inputs / "tiny.onnx"), folder / "engine/engine.json"
    return {
        "converted.tif": (convert_slide, dict(
            path=f"{inputs}/flat.png", mpp=0.5, slide=slide / "converted.tif",
            record=slide / "converted.json")),
        "tissue.png": (mask_tissue, dict(
            slide_id="one", path=f"{inputs}/flat.png", readable=str(inputs / "marked.tif"), mpp=0.5,
            settings=TissueSettings(), folder=slide)),
        "1-of-3.parquet": (detect_nuclei, dict(
            shard=1, n_shards=3, model=model, engine=engine, settings=DetectSettings(), tile_px=640, gpu=0,
            threads=1, folder=slide, detections=shards / "1-of-3.parquet", record=shards / "1-of-3.json")),
        "nuclei.parquet": (merge_slide, dict(
            detections=sorted(shards.glob("*.parquet")), records=sorted(shards.glob("*.json")),
            settings=DetectSettings(), detector_mpp=0.5, folder=slide)),
        "nuclei.geojson.zip": (export_geojson, dict(settings=GeoJSONSettings(), folder=slide)),
        "overlay.jpg": (draw_pictures, dict(folder=slide)),
        "engine.json": (prepare_engine, dict(
            model=model, backend="openvino", precision="f32", output=engine, gpu=0)),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(steps(Path(), Path())))
def test_every_step_names_the_file_and_the_cure_and_keeps_what_was_there(finished, disk, name):
    inputs, folder = finished
    shutil.copytree(folder / "results", disk.path / "results")
    record = disk.path / "results/slides/one/slide.json"
    record.write_text(
        record.read_text().replace("results/slides/one/converted.tif", str(inputs / "marked.tif"))
    )
    disk.fill()
    before = results(disk.path)
    step, arguments = steps(inputs, disk.path / "results")[name]
    with pytest.raises(DiskError, match=rf"/{name}: no space left on its disk; make room and run"):
        step(**arguments)
    assert results(disk.path) == before
    assert left_over(disk.path) == []
    (disk.path / "filler").unlink()
    step(**arguments)
    assert read_json(record)["slide_id"] == "one"


def test_a_disk_that_fills_up_under_way_costs_only_the_time(finished, disk):
    inputs, folder = finished
    made = make_cohort(disk.path / "folder", inputs)
    disk.change("size=440k")
    log = disk.path.parent / "full.log"
    assert run(made, log) == 1
    assert "no space left on its disk; make room and run the same command again" in log.read_text()
    disk.change("size=64m")
    assert run(made, log) == 0, log.read_text()
    assert results(made) == {path: digest for path, digest in results(folder).items() if "shards" not in path}
    assert left_over(made) == []


def test_results_on_a_read_only_file_system(finished, disk):
    _, folder = finished
    disk.change("ro")
    assert str(results_trouble(disk.path)) == f"{disk.path}: its file system is read-only; make it writable"
    assert results_trouble(folder / "results") is None
    made = folder.parent / "read-only"
    shutil.copytree(folder, made)
    shutil.rmtree(made / "results")
    (made / "results").symlink_to(disk.path)
    log = folder.parent / "read-only.log"
    assert run(made, log) == 1
    assert "ercohort: results: its file system is read-only; make it writable" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_results_of_somebody_else(finished, tmp_path):
    """Root without the right to write everywhere stands for any user."""
    _, folder = finished
    made = tmp_path / "folder"
    shutil.copytree(folder, made)
    shutil.rmtree(made / "results")
    (made / "results").mkdir()
    os.chown(made / "results", 65534, 65534)
    log = tmp_path / "log"
    rights = "-dac_override,-dac_read_search"
    assert run(made, log, before=["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]) == 1
    assert "ercohort: results: no permission to write there; change the folder's owner" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_full_disk_is_told_at_the_end(disk):
    assert full_disk(disk.path) == ""
    disk.fill()
    assert full_disk(disk.path) == f"ercohort: {disk.path}: no space left on its disk; make room\n"
