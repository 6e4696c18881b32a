"""A set holds every nucleus in its split, and a set that would mislead is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ercohort.config import Config
from ercohort.errors import InputError
from ercohort.labels.yolo_set import check_dataset, new_folder
from ercohort.sheet import Sample
from ercohort.slide import open_slide
from ercohort.steps.dataset import build_labelled_dataset, find_label_files

NAMES = ("Positive", "Negative")


def feature(box: list[float], label: str, kind: str) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind, "classification": {"name": label, "color": [1, 2, 3]}},
    }


def save_labels(path: Path, seed: int, classes: tuple[str, ...] = NAMES, n: int = 30) -> np.ndarray[Any, Any]:
    """Two regions with `n` nuclei each on a slide of 1501 x 1103 px; returns the nuclei."""
    rng = np.random.default_rng(seed)
    regions = [[50, 60, 450, 420], [700, 300, 900, 500]]
    nuclei = []
    for x0, y0, x1, y1 in regions:
        for k in range(n):
            x, y = rng.uniform(x0 + 12, x1 - 12), rng.uniform(y0 + 12, y1 - 12)
            nuclei.append(feature([x - 9, y - 8, x + 9, y + 8], classes[k % len(classes)], "detection"))
    features = [*(feature(region, "Region*", "annotation") for region in regions), *nuclei]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return np.array([item["geometry"]["coordinates"][0][0] for item in nuclei])


@pytest.fixture(scope="module")
def made(deflate_pyramid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of four slides of three patients, all the same picture under other names."""
    folder = tmp_path_factory.mktemp("set")
    samples = cohort(folder, deflate_pyramid)
    for seed, slide_id in enumerate(["a1", "a2", "b1", "c1"]):
        save_labels(folder / "labels" / f"{slide_id}.geojson", seed)
    config = Config.model_validate({"dataset": {"split_by": "patient", "test_share": 0.3}})
    done: list[tuple[int, int]] = []
    info = build_labelled_dataset(
        config=config, samples=samples, labels=folder / "labels", output=folder / "dataset",
        progress=lambda *step: done.append(step),
    )  # fmt: skip
    assert done == [(k, 20) for k in range(1, 21)]
    assert info.folder == folder / "dataset"
    return folder


def cohort(folder: Path, slide: Path) -> dict[str, Sample]:
    samples = {}
    for slide_id, patient in (("a1", "A"), ("a2", "A"), ("b1", "B"), ("c1", "C")):
        copy = folder / f"{slide_id}.tiff"
        shutil.copyfile(slide, copy)
        samples[slide_id] = Sample(slide_id, str(copy), None, {"patient": patient})
    return {**samples, "unlabelled": Sample("unlabelled", "gone.svs", None, {"patient": ""})}


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made / "dataset", tmp_path / "dataset"))


def test_a_set_holds_every_nucleus_once_and_no_patient_twice(made: Path) -> None:
    folder = made / "dataset"
    info = check_dataset(folder / "data.yaml")
    assert info.names == NAMES
    assert sum(info.images.values()) == 20
    assert sorted(slide for split in info.slides.values() for slide in split) == ["a1", "a2", "b1", "c1"]
    assert any({"a1", "a2"} <= set(split) for split in info.slides.values())
    counts = json.loads((folder / "counts.json").read_text())
    assert sum(split["nuclei"]["Positive"] for split in counts["splits"].values()) == 4 * 30
    for split, boxes in info.boxes.items():
        assert counts["splits"][split]["boxes"] == boxes
    with open(folder / "counts.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["slide_id"], row["group"], row["n_class_Positive"]) for row in rows] == [
        ("a1", "A", "30"), ("a2", "A", "30"), ("b1", "B", "30"), ("c1", "C", "30"),
    ]  # fmt: skip
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["groups"] == {"a1": "A", "a2": "A", "b1": "B", "c1": "C"}
    assert recipe["settings"]["split_by"] == "patient"
    assert (folder / "contact_sheet.jpg").stat().st_size > 50_000
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


def test_pictures_and_boxes_of_the_set_lie_on_the_slide(made: Path) -> None:
    """`tiles.csv` leads from a box of the set back to the nucleus that a person drew."""
    folder = made / "dataset"
    drawn = json.loads((made / "labels" / "b1.geojson").read_text())["features"][2:]
    rings = np.array([item["geometry"]["coordinates"][0] for item in drawn])
    nuclei = np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1)
    with open(folder / "tiles.csv") as handle:
        rows = [row for row in csv.DictReader(handle) if row["slide_id"] == "b1"]
    n_whole = 0
    with open_slide(made / "b1.tiff") as slide:
        for row in rows:
            text = (folder / "labels" / row["split"] / f"{row['name']}.txt").read_text()
            x0, y0, side = int(row["x"]), int(row["y"]), int(row["side"])
            picture = np.asarray(Image.open(folder / "images" / row["split"] / f"{row['name']}.png"))
            assert (picture[160, 160] == slide.read(x0 + 160, y0 + 160, 1, 1)[0, 0]).all()
            for line in text.splitlines():
                x, y, w, h = (float(word) * side for word in line.split()[1:])
                back = np.array([x0 + x - w / 2, y0 + y - h / 2, x0 + x + w / 2, y0 + y + h / 2])
                if (
                    x - w / 2 > 0.01
                    and x + w / 2 < side - 0.01
                    and y - h / 2 > 0.01
                    and y + h / 2 < side - 0.01
                ):
                    assert np.abs(nuclei - back).max(axis=1).min() < 0.01
                    n_whole += 1
    assert len(rows) == 5
    assert n_whole >= 60


def test_the_set_is_the_same_from_the_same_input(made: Path, tmp_path: Path) -> None:
    samples = {key: Sample(key, str(made / f"{key}.tiff"), None, {"patient": key[0].upper()})
               for key in ("a1", "a2", "b1", "c1")}  # fmt: skip
    config = Config.model_validate({"dataset": {"split_by": "patient", "test_share": 0.3}})
    again = tmp_path / "again"
    again.mkdir()
    (again / "stale.txt").write_text("of an older set")
    build_labelled_dataset(config=config, samples=samples, labels=made / "labels", output=again)
    first = {path.relative_to(made / "dataset"): path.read_bytes()
             for path in (made / "dataset").rglob("*") if path.is_file()}  # fmt: skip
    second = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert first == second


def spoil_class(folder: Path) -> None:
    for file in (folder / "labels" / "train").glob("*.txt"):
        file.write_text(
            "".join(line for line in file.read_text().splitlines(True) if not line.startswith("0"))
        )


def spoil_split(folder: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        file = min((folder / kind / "train").glob(f"*.{suffix}"))
        shutil.copyfile(file, folder / kind / "val" / file.name.replace("_t0", "_t9"))


def spoil_patient(folder: Path) -> None:
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["groups"] = dict.fromkeys(recipe["groups"], "one patient")
    (folder / "recipe.json").write_text(json.dumps(recipe))


def spoil_label(folder: Path) -> None:
    min((folder / "labels" / "val").glob("*.txt")).unlink()


def spoil_box(folder: Path) -> None:
    min((folder / "labels" / "val").glob("*.txt")).write_text("2 0.5 0.5 0.1 0.1\n")


def spoil_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "images" / "val")


def spoil_names(folder: Path) -> None:
    values = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**values, "names": {0: "Positive", 1: "Strong"}}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_class, "class Positive has no nucleus in train; label some, or remove it"),
        (spoil_split, "slide .* is in train and val, so its scores would flatter; make the data set again"),
        (spoil_patient, "slides .* and .* of one patient are in"),
        (spoil_label, "no such file, and its picture would count as background"),
        (spoil_box, "line 1: '2 0.5 0.5 0.1 0.1' is no box of 2 classes"),
        (spoil_pictures, "images/val holds no pictures"),
        (spoil_names, "the classes Positive, Strong must be unique, one of them Negative"),
        (shutil.rmtree, "no such file; make the data set first: snakemake dataset"),
    ],
)
def test_a_set_that_would_mislead_is_refused(dataset: Path, spoil: Any, message: str) -> None:
    spoil(dataset)
    with pytest.raises(InputError, match=message) as caught:
        check_dataset(dataset / "data.yaml")
    assert "\n" not in str(caught.value)


def test_sets_with_a_path_and_a_list_of_names_are_read_too(dataset: Path) -> None:
    """As Ultralytics' own and other tools write them."""
    values = yaml.safe_load((dataset / "data.yaml").read_text())
    elsewhere = dataset.parent / "other.yaml"
    elsewhere.write_text(yaml.safe_dump({**values, "path": str(dataset), "names": list(NAMES)}))
    assert check_dataset(elsewhere).boxes == check_dataset(dataset / "data.yaml").boxes
    assert check_dataset(elsewhere).folder == dataset


def build(folder: Path, slide: Path, **settings: Any) -> None:
    config = Config.model_validate({"dataset": {"validation_share": 0.0, **settings}})
    samples = {"s1": Sample("s1", str(slide))}
    build_labelled_dataset(
        config=config, samples=samples, labels=folder / "labels", output=folder / "dataset"
    )


def test_bad_labels_leave_the_older_set_as_it_was(deflate_pyramid: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "old.txt").write_text("kept")
    save_labels(tmp_path / "labels" / "s1.geojson", 1, ("Positive",))
    with pytest.raises(InputError, match="class Negative has no nucleus in the training slides; label some"):
        build(tmp_path, deflate_pyramid)
    with pytest.raises(InputError, match="cannot fill 2 splits"):
        build(tmp_path, deflate_pyramid, validation_share=0.2)
    with pytest.raises(InputError, match="the classes Tumour must be unique, one of them Negative"):
        build(tmp_path, deflate_pyramid, classes={"Positive": "Tumour"})
    with pytest.raises(InputError, match=r"slide s1 has labels, but .*gone.svs: no such file"):
        build(tmp_path, tmp_path / "gone.svs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "labels"]
    assert (tmp_path / "dataset" / "old.txt").read_text() == "kept"


def test_one_slide_without_validation_and_three_classes(deflate_pyramid: Path, tmp_path: Path) -> None:
    save_labels(tmp_path / "labels" / "s1.geojson.zip", 1)  # replaced below; only makes the folder
    (tmp_path / "labels" / "s1.geojson.zip").unlink()
    save_labels(tmp_path / "labels" / "s1.geojson", 1, ("3+", "1+", "Negative", "Ignore*"), n=40)
    build(tmp_path, deflate_pyramid, classes={"3+": "Positive", "1+": "Weak", "Negative": "Negative"})
    info = check_dataset(tmp_path / "dataset" / "data.yaml")
    assert info.names == ("Positive", "Weak", "Negative")
    assert list(info.images) == ["train"]
    counts = json.loads((tmp_path / "dataset" / "counts.json").read_text())
    assert counts["splits"]["train"]["nuclei"] == {"Positive": 20, "Weak": 20, "Negative": 20}
    assert counts["slides"][0]["ignored"] == 20


def test_a_flat_picture_is_read_from_its_pyramid(deflate_pyramid: Path, tmp_path: Path) -> None:
    save_labels(tmp_path / "labels" / "s1.geojson", 1)
    config = Config.model_validate({"dataset": {"validation_share": 0.0}})
    arguments = {
        "config": config,
        "samples": {"s1": Sample("s1", "flat.png", 0.5)},
        "labels": tmp_path / "labels",
    }
    converted = tmp_path / "converted.tif"
    shutil.copyfile(deflate_pyramid, converted)
    info = build_labelled_dataset(**arguments, output=tmp_path / "set", readable={"s1": converted})
    assert info.images == {"train": 5}
    (tmp_path / "converted.json").write_text(
        json.dumps({"status": "unreadable", "message": "flat.png: cut short"})
    )
    with pytest.raises(InputError, match=r"slide s1 has labels, but flat.png: cut short"):
        build_labelled_dataset(**arguments, output=tmp_path / "set", readable={"s1": converted})


def test_label_files_are_matched_to_the_sheet(tmp_path: Path) -> None:
    samples = {key: Sample(key, f"{key}.svs") for key in ("case-1", "case-2")}
    with pytest.raises(InputError, match=r"holds no <slide_id>.geojson; run snakemake prelabel, correct"):
        find_label_files(tmp_path / "none", samples)
    for name in ("case-2.geojson", "case-1.geojson.gz", "notes.txt", ".hidden.geojson"):
        (tmp_path / name).touch()
    assert list(find_label_files(tmp_path, samples)) == ["case-1", "case-2"]
    (tmp_path / "case-1.geojson").touch()
    with pytest.raises(InputError, match="is of the same slide; keep one"):
        find_label_files(tmp_path, samples)
    (tmp_path / "Case-1.geojson").touch()
    with pytest.raises(
        InputError, match=r"Case-1.geojson: the sheet has no slide 'Case-1'; did you mean case-1"
    ):
        find_label_files(tmp_path, samples)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "set"
    with new_folder(target) as fresh:
        (fresh / "a").touch()
    with pytest.raises(FileNotFoundError), new_folder(target) as fresh:
        (fresh / "b" / "no such folder").touch()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert [path.name for path in target.parent.iterdir()] == ["set"]
    with new_folder(target) as fresh:
        (fresh / "c").touch()
    assert [path.name for path in target.iterdir()] == ["c"]
