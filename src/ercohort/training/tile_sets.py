"""The tiles that training, calibration and parity read: one or more YOLO detection sets taken as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from ercohort.errors import InputError
from ercohort.files import atomic_path, read_json
from ercohort.labels.yolo_set import PICTURES, check_dataset

_GRID = 32
_DEFAULT_MPP = 0.5


@dataclass(frozen=True)
class TileSets:
    """One or more YOLO sets with the same classes and the same scale.

    Attributes
    ----------
    names
        Class names in the order of their numbers.
    train, val
        Pictures of the two splits, sorted by path within each set; `val` may be empty.
    mpp
        Scale of the tiles, µm per pixel.
    tile_px
        Side of the largest tile, pixels, rounded up to a multiple of 32.
    """

    names: tuple[str, ...]
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    mpp: float
    tile_px: int

    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over all labels and the names and sizes of all pictures."""
        digest = hashlib.sha256(repr((self.names, self.mpp, self.tile_px)).encode())
        for split in (self.train, self.val):
            for picture in split:
                label = label_path(picture)
                content = label.read_bytes() if label.is_file() else b""
                digest.update(repr((picture.name, picture.stat().st_size, content)).encode())
        return digest.hexdigest()[:16]

    def write_yaml(self, path: Path) -> Path:
        """Write the sets as the one YAML file, with lists of pictures beside it, that ultralytics reads."""
        content: dict[str, Any] = {"path": str(path.parent), "names": dict(enumerate(self.names))}
        # ultralytics insists on a validation split; without one it is never looked at.
        for split, pictures in (("train", self.train), ("val", self.val or self.train)):
            listing = path.with_name(f"{split}.txt")
            with atomic_path(listing) as temporary:
                temporary.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
            content[split] = listing.name
        with atomic_path(path) as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path


def read_tile_sets(data: Path | str | Sequence[Path | str]) -> TileSets:
    """Read and join YOLO sets.

    Parameters
    ----------
    data
        `data.yaml` files. A `recipe.json` beside one states the scale of its tiles as `mpp`; 0.5 without.

    Raises
    ------
    InputError
        A set is missing or not sound (`ercohort.labels.yolo_set.check_dataset`), or the sets differ in
        classes or scale.
    """
    paths = [Path(data)] if isinstance(data, (str, Path)) else [Path(item) for item in data]
    if not paths:
        raise InputError("no training set was given; name a data.yaml")
    found = [_read_one(path) for path in paths]
    first = found[0]
    for path, other in zip(paths[1:], found[1:], strict=True):
        if other.names != first.names:
            raise InputError(
                f"{path}: its classes are {', '.join(other.names)}, those of {paths[0]} are "
                f"{', '.join(first.names)}; sets that are used together need the same, in the same order"
            )
        if other.mpp != first.mpp:
            raise InputError(
                f"{path}: its tiles are at {other.mpp:g} µm per pixel, those of {paths[0]} at {first.mpp:g}; "
                "make both with the same `dataset.mpp`"
            )
    return TileSets(
        names=first.names,
        train=tuple(picture for one in found for picture in one.train),
        val=tuple(picture for one in found for picture in one.val),
        mpp=first.mpp,
        tile_px=max(one.tile_px for one in found),
    )


def _read_one(path: Path) -> TileSets:
    info = check_dataset(path)
    splits = yaml.safe_load(path.read_text(encoding="utf-8"))
    train, val = (
        _pictures(info.folder / splits[split]) if split in splits else () for split in ("train", "val")
    )
    side = max(max(Image.open(picture).size) for picture in train)
    return TileSets(info.names, train, val, _scale(path), -(-side // _GRID) * _GRID)


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.resolve().iterdir() if path.suffix.lower() in PICTURES))


def _scale(path: Path) -> float:
    """Scale of the tiles, from the recipe of labelled sets or that of made ones."""
    recipe = read_json(path.with_name("recipe.json")) if path.with_name("recipe.json").is_file() else {}
    return float(recipe.get("settings", recipe).get("mpp", _DEFAULT_MPP))


def label_path(picture: Path) -> Path:
    """Where YOLO keeps the boxes of a picture: the last `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")


def read_tile(picture: Path) -> NDArray[np.uint8]:
    """Read a tile as (height, width, 3) uint8 RGB."""
    return np.asarray(Image.open(picture).convert("RGB"))


def read_boxes(picture: Path, width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the boxes of a tile of this size.

    Returns
    -------
    boxes
        (N, 4) float32: x0, y0, x1, y1, pixels.
    labels
        (N,) class numbers.
    """
    label = label_path(picture)
    rows = np.zeros((0, 5))
    if label.is_file() and label.stat().st_size:
        rows = np.loadtxt(label, ndmin=2).reshape(-1, 5)
    centre, size = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height)
    return np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32), rows[:, 0].astype(np.int64)


def to_grid(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad a tile with white on the right and below to a square whose side is a multiple of 32 pixels."""
    side = -(-max(tile.shape[:2]) // _GRID) * _GRID
    padding = ((0, side - tile.shape[0]), (0, side - tile.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(tile, padding, constant_values=255))
