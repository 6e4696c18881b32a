"""A detection set in the form of Ultralytics' YOLO: pictures, boxes as text, `data.yaml`.

`images/<split>/<slide_id>__r<region>_t<tile>.png` has its boxes in `labels/<split>/` under the same name, a
line each: class, centre and size as shares of the picture. `data.yaml` names no `path`, so its own folder is
the root wherever the set is moved (`ultralytics.data.utils.check_det_dataset`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from ercohort.errors import InputError
from ercohort.files import hold, read_json, remove_left_over
from ercohort.labels.splits import SPLITS
from ercohort.labels.training_tiles import Tile, yolo_lines
from ercohort.schema import positive_mask

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})

_TILE_NAME = re.compile(r"(?P<slide>.+)__r\d+_t\d+")


@dataclass(frozen=True)
class DatasetInfo:
    """What a sound data set holds.

    Parameters
    ----------
    folder
        The folder that its pictures are relative to.
    names
        Classes, in the order of their numbers.
    images
        Pictures by split.
    boxes
        Boxes by split and class.
    slides
        Slides by split; a picture that is of no slide (drawn, repainted) counts as one.
    """

    folder: Path
    names: tuple[str, ...]
    images: dict[str, int]
    boxes: dict[str, dict[str, int]]
    slides: dict[str, tuple[str, ...]]

    def summary(self) -> str:
        """One line for a person."""
        parts = []
        for split, n_images in self.images.items():
            counts = ", ".join(f"{count:,} {name}" for name, count in self.boxes[split].items())
            parts.append(f"{split}: {n_images:,} tiles of {len(self.slides[split]):,} slides, {counts}")
        return "; ".join(parts)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place when the block ends without error.

    A folder that was there before is replaced as a whole, or left as it was.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(final)
    work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    handle = os.open(work, os.O_RDONLY | os.O_CLOEXEC)
    hold(handle)
    fresh, old = work / "new", work / "old"
    fresh.mkdir()
    try:
        yield fresh
        if final.exists():
            final.rename(old)
        try:
            fresh.rename(final)
        except BaseException:
            if old.exists():
                old.rename(final)
            raise
    finally:
        os.close(handle)
        shutil.rmtree(work, ignore_errors=True)


def write_tile(folder: Path, split: str, name: str, tile: Tile) -> None:
    """Write one picture (lossless) and its boxes."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile.image).save(folder / "images" / split / f"{name}.png", compress_level=1)
    (folder / "labels" / split / f"{name}.txt").write_text(yolo_lines(tile), encoding="utf-8")


def write_data_yaml(folder: Path, names: Sequence[str]) -> Path:
    """Write `data.yaml` for the splits that have pictures."""
    values: dict[str, Any] = {
        split: f"images/{split}" for split in SPLITS if (folder / "images" / split).is_dir()
    }
    values["names"] = dict(enumerate(names))
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def check_class_names(names: Sequence[str], source: str) -> None:
    """Refuse classes that no detector can have: one must be negative, and at least one other positive.

    Raises
    ------
    InputError
        Names the source and the classes.
    """
    n_positive = int(positive_mask(names).sum())
    if len(set(names)) != len(names) or n_positive != len(names) - 1 or not n_positive:
        raise InputError(
            f"{source}: the classes {', '.join(names) or '(none)'} must be unique, one of them Negative and "
            "at least one other; correct dataset.classes"
        )


def check_dataset(path: str | os.PathLike[str]) -> DatasetInfo:
    """Check a data set before a detector is trained on it.

    Parameters
    ----------
    path
        Its `data.yaml`.

    Raises
    ------
    InputError
        One line: a file is missing or cannot be read, a box is none, training lacks a class, or a slide, or a
        group of slides that belong together (`recipe.json`), is in two splits.
    """
    file = Path(path)
    values = _read_yaml(file)
    names = _names(file, values)
    check_class_names(names, str(file))
    folder = file.parent / str(values.get("path") or "")  # an absolute `path` stands for itself
    if "train" not in values:
        raise InputError(f"{file}: names no `train`; {_MAKE_AGAIN}")
    images: dict[str, int] = {}
    boxes: dict[str, dict[str, int]] = {}
    slides: dict[str, tuple[str, ...]] = {}
    for split in (split for split in SPLITS if values.get(split)):
        pictures = _pictures(file, folder / str(values[split]))
        counts: Counter[int] = Counter()
        for picture in pictures:
            counts.update(_read_boxes(_label_file(picture), len(names)))
        images[split] = len(pictures)
        boxes[split] = {name: counts[number] for number, name in enumerate(names)}
        slides[split] = tuple(sorted({_slide_of(picture.stem) for picture in pictures}))
    for name, count in boxes["train"].items():
        if not count:
            raise InputError(
                f"{file}: class {name} has no nucleus in train; label some, or remove it from dataset.classes"
            )
    _check_apart(file, slides)
    return DatasetInfo(folder, names, images, boxes, slides)


_MAKE_AGAIN = "make the data set again: snakemake dataset"


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; make the data set first: snakemake dataset") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: must hold `key: value` lines; {_MAKE_AGAIN}")
    return values


def _names(file: Path, values: dict[str, Any]) -> tuple[str, ...]:
    names = values.get("names")
    if isinstance(names, list):
        return tuple(str(name) for name in names)
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))):
        raise InputError(f"{file}: `names` must number the classes from 0; {_MAKE_AGAIN}")
    return tuple(str(names[number]) for number in range(len(names)))


def _pictures(file: Path, folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
    if not found:
        raise InputError(f"{file}: {folder} holds no pictures; {_MAKE_AGAIN}")
    return found


def _label_file(picture: Path) -> Path:
    """Find the text beside a picture as Ultralytics does: the last folder `images` becomes `labels`."""
    parts = list(picture.parts)
    where = len(parts) - 1 - parts[::-1].index("images") if "images" in parts else None
    if where is not None:
        parts[where] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_boxes(file: Path, n_classes: int) -> list[int]:
    """Check the boxes of one picture; return their classes."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file, and its picture would count as background; {_MAKE_AGAIN}"
        ) from None
    classes = []
    for number, line in enumerate(lines, start=1):
        try:
            label, x, y, width, height = (float(word) for word in line.split())
        except ValueError:
            label, x, y, width, height = -1.0, 0.0, 0.0, 0.0, 0.0
        if label not in range(n_classes) or not (
            0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1
        ):
            raise InputError(
                f"{file}, line {number}: {line!r} is no box of {n_classes} classes; {_MAKE_AGAIN}"
            )
        classes.append(int(label))
    return classes


def _slide_of(name: str) -> str:
    found = _TILE_NAME.fullmatch(name)
    return found["slide"] if found else name


def _check_apart(file: Path, slides: dict[str, tuple[str, ...]]) -> None:
    """Refuse a slide, or a group of slides, of which parts are in two splits."""
    recipe = file.parent / "recipe.json"
    groups = read_json(recipe).get("groups", {}) if recipe.is_file() else {}
    splits: dict[str, set[str]] = defaultdict(set)
    for split, members in slides.items():
        for slide in members:
            splits[slide].add(split)
    for slide, found in sorted(splits.items()):
        if len(found) > 1:
            raise InputError(
                f"{file}: slide {slide} is in {' and '.join(sorted(found))}, so its scores would flatter; "
                f"{_MAKE_AGAIN}"
            )
    of_group: dict[str, dict[str, str]] = defaultdict(dict)
    for slide, found in sorted(splits.items()):
        of_group[groups.get(slide, slide)].setdefault(min(found), slide)
    for group, first in of_group.items():
        if len(first) > 1:
            raise InputError(
                f"{file}: slides {' and '.join(first.values())} of {group} are in {' and '.join(first)}, "
                f"so the scores would flatter; {_MAKE_AGAIN}"
            )
