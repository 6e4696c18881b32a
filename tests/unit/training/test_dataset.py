"""The training set on disk: what YOLO reads, equal by seed, with validation from other sources."""

import numpy as np
import pytest
import yaml
from PIL import Image

from ercohort.errors import InputError
from ercohort.schema import LABELS
from ercohort.simulate.tile import Tile
from ercohort.training.dataset import DatasetRecipe, _virtual_jobs, build_dataset, yolo_lines

RECIPE = DatasetRecipe(n_simulated=3, n_virtual=3, n_validation=1, tile_px=160, seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, outlined):
    folder = tmp_path_factory.mktemp("tiles")
    build_dataset(folder, outlined, RECIPE, processes=1)
    return folder


def test_yaml_names_the_classes_in_the_schema_order(folder):
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data["names"] == dict(enumerate(LABELS)) == {0: "Positive", 1: "Negative"}
    assert data["path"] == str(folder)
    for split in ("train", "val"):
        assert (folder / data[split]).is_dir()


def test_every_picture_has_boxes_beside_it(folder):
    counts = {"train": 6, "val": 2}
    for split, count in counts.items():
        pictures = sorted((folder / "images" / split).iterdir())
        assert len(pictures) == count
        for picture in pictures:
            assert Image.open(picture).size == (160, 160)
            values = np.loadtxt(folder / "labels" / split / f"{picture.stem}.txt", ndmin=2)
            assert set(values[:, 0]) <= {0.0, 1.0}
            assert values[:, 1:].min() >= 0.0
            assert values[:, 1:].max() <= 1.0


def test_same_seed_same_files(folder, outlined, tmp_path):
    build_dataset(tmp_path, outlined, RECIPE, processes=2)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*0*"))
    assert len(names) == 16
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names)


def _touch_tiles(folder, names, n_nuclei=0):
    for name in names:
        (folder / f"{name}.jpg").touch()
        (folder / f"{name}.txt").write_text("0\n" * n_nuclei)


def test_crowded_sources_are_drawn_more_often_and_lymphocytes_never(tmp_path):
    _touch_tiles(tmp_path, ["human_spleen_1", "mouse_thymus_2"], 300)
    _touch_tiles(tmp_path, [f"sparse_{k}" for k in range(10)])
    _touch_tiles(tmp_path, [f"crowded_{k}" for k in range(10)], 99)
    jobs = _virtual_jobs(tmp_path, tmp_path, DatasetRecipe(n_virtual=200, n_validation=0))
    drawn = [path.name for job in jobs for path in job.sources]
    crowded = sum(name.startswith("crowded") for name in drawn)
    assert crowded > 5 * (len(drawn) - crowded)
    assert not any("spleen" in name or "thymus" in name for name in drawn)


def test_no_source_is_in_both_splits(tmp_path):
    _touch_tiles(tmp_path, range(40))
    jobs = _virtual_jobs(tmp_path, tmp_path, DatasetRecipe(n_virtual=200, n_validation=50))
    used = {
        split: {p for job in jobs if job.split == split for p in job.sources} for split in ("train", "val")
    }
    assert len(used["train"]) == 38
    assert len(used["val"]) == 2
    assert not used["train"] & used["val"]


def test_slivers_at_the_edge_are_left_out_and_others_cut():
    boxes = np.array([[10, 10, 30, 20], [-15, 50, 5, 60], [-5, 50, 15, 60], [97, 0, 117, 10]], np.float32)
    tile = Tile(np.zeros((100, 100, 3), np.uint8), boxes, np.array([True, True, False, True]), 0.5)
    assert yolo_lines(tile).splitlines() == [
        "0 0.200000 0.150000 0.200000 0.100000",
        "1 0.075000 0.550000 0.150000 0.100000",
    ]


def test_a_folder_without_tiles_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.jpg tiles"):
        build_dataset(tmp_path / "out", tmp_path, RECIPE)
