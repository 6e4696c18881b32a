"""One or more YOLO sets are read as one, and sets that do not fit together are refused."""

import numpy as np
import pytest

from ercohort.errors import InputError
from ercohort.schema import LABELS
from ercohort.simulate import simulate_tile
from ercohort.training.tile_sets import label_path, read_boxes, read_tile, read_tile_sets, to_grid
from tests.unit.training.sets import SIDE, write_set


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), recipe={"settings": {"mpp": 0.25}})


def test_classes_tiles_scale_and_size_are_read(data):
    sets = read_tile_sets(data)
    assert sets.names == LABELS
    assert [path.name for path in sets.train] == [f"tile_{k:03d}.png" for k in range(6)]
    assert [path.name for path in sets.val] == [f"tile_{k:03d}.png" for k in range(6, 9)]
    assert (sets.mpp, sets.tile_px) == (0.25, SIDE)


def test_boxes_are_those_that_were_written(data):
    picture = read_tile_sets(data).train[0]
    tile = simulate_tile(888_000, size=SIDE, scale_jitter=0.0)
    assert np.array_equal(read_tile(picture), tile.image)
    boxes, labels = read_boxes(picture, SIDE, SIDE)
    assert len(boxes) == len(labels) > 5
    for box, label in zip(boxes, labels, strict=True):
        same = np.abs(np.clip(tile.boxes, 0, SIDE) - box).max(1) < 0.01
        assert same.sum() == 1
        assert tile.positive[same][0] == (label == 0)


def test_sets_are_joined(data, tmp_path):
    more = write_set(tmp_path, train=2, val=0, seed=50, recipe={"mpp": 0.25})
    sets = read_tile_sets([data, more])
    assert [path.name for path in sets.train[-2:]] == ["tile_050.png", "tile_051.png"]
    assert len(sets.train) == 8
    assert len(sets.val) == 3
    listed = sets.write_yaml(tmp_path / "run" / "data.yaml").with_name("train.txt").read_text().split()
    assert listed == [str(path) for path in sets.train]


def test_without_a_recipe_the_scale_is_half_a_micrometre(tmp_path):
    assert read_tile_sets(write_set(tmp_path, train=1, val=0)).mpp == 0.5


def test_other_classes_are_refused(data, tmp_path):
    other = write_set(tmp_path, names=LABELS[::-1], recipe={"mpp": 0.25})
    with pytest.raises(InputError, match=r"classes are Negative, Positive, those of .* need the same"):
        read_tile_sets([data, other])


def test_another_scale_is_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"at 0.5 µm per pixel, those of .* at 0.25"):
        read_tile_sets([data, write_set(tmp_path)])


def test_an_unsound_set_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_tile_sets(tmp_path / "data.yaml")
    with pytest.raises(InputError, match="no training set"):
        read_tile_sets([])
    path = write_set(tmp_path, train=1, val=0)
    (tmp_path / "labels" / "train" / "tile_000.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match="is no box of 2 classes"):
        read_tile_sets(path)


def test_the_digest_notices_a_corrected_class(tmp_path):
    data = write_set(tmp_path, train=1, val=0)
    before = read_tile_sets(data).digest()
    assert read_tile_sets(data).digest() == before
    label = tmp_path / "labels" / "train" / "tile_000.txt"
    lines = label.read_text().splitlines()
    label.write_text("\n".join([f"{1 - int(lines[0][0])}{lines[0][1:]}", *lines[1:]]) + "\n")
    assert read_tile_sets(data).digest() != before


def test_labels_lie_in_the_twin_of_the_last_folder_of_images(tmp_path):
    picture = tmp_path / "images" / "of" / "images" / "val" / "a.b.png"
    assert label_path(picture) == tmp_path / "images" / "of" / "labels" / "val" / "a.b.txt"


def test_tiles_are_padded_with_white_to_the_grid():
    padded = to_grid(np.zeros((40, 33, 3), np.uint8))
    assert padded.shape == (64, 64, 3)
    assert not padded[:40, :33].any()
    assert (padded[40:] == 255).all()
    assert (padded[:, 33:] == 255).all()
