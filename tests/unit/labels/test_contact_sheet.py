"""The sheet shows the boxes that will be taught, in the colours of their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ercohort.geojson import class_colours
from ercohort.labels.contact_sheet import (
    CAPTION,
    GAP,
    LINE,
    MARGIN,
    PICTURE,
    TITLE,
    WIDTH,
    ShownTile,
    write_contact_sheet,
)
from ercohort.labels.training_tiles import Tile


def tile(boxes: list[list[float]], classes: list[int], ignored: list[list[float]] | None = None) -> Tile:
    return Tile(
        np.full((320, 320, 3), 230, np.uint8),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(ignored or [], np.float64).reshape(-1, 4),
    )


def near(picture: Image.Image, at: tuple[float, float], colour: tuple[int, int, int]) -> bool:
    """Whether the colour is within two pixels of a place."""
    x, y = round(at[0]), round(at[1])
    patch = np.asarray(picture)[y - 2 : y + 3, x - 2 : x + 3].astype(int)
    return bool((np.abs(patch - np.array(colour)).max(axis=2) < 40).any())


@pytest.mark.parametrize("names", [("Positive", "Negative"), ("Positive", "Weak", "Negative")])
def test_boxes_are_drawn_where_they_are_in_their_colours(tmp_path: Path, names: tuple[str, ...]) -> None:
    boxes = [[40.0 + 60 * k, 100.0, 80.0 + 60 * k, 130.0] for k in range(len(names))]
    shown = [
        ShownTile("train", "s1", 0, tile(boxes, list(range(len(names))))),
        ShownTile("train", "s2", 1, tile([], [], [[100, 100, 140, 140]])),
        ShownTile("val", "s3", 0, tile(boxes[:1], [len(names) - 1])),
    ]
    counts = {"train": dict.fromkeys(names, 12), "val": dict.fromkeys(names, 3)}
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, tiles=shown, counts=counts, n_tiles={"train": 20, "val": 4}, mpp=0.5)
    colours = class_colours(names)
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    assert picture.width == WIDTH
    scale, top = PICTURE / 320, TITLE + LINE + GAP // 2
    for box, name in zip(boxes, names, strict=True):
        for x, y in ((box[0], 115.0), (box[2], 115.0), (box[0] + 20, 100.0), (box[0] + 20, 130.0)):
            assert near(picture, (MARGIN + x * scale, top + y * scale), colours[name])
        assert not near(picture, (MARGIN + (box[0] + 20) * scale, top + 115 * scale), colours[name])
    second = top + PICTURE + CAPTION + GAP + GAP // 2 + LINE + GAP // 2
    assert near(picture, (MARGIN + 40 * scale, second + 115 * scale), colours[names[-1]])


def test_a_box_at_the_edge_keeps_its_four_sides(tmp_path: Path) -> None:
    edge = tile([[300.0, 300.0, 320.0, 320.0]], [0])
    path = tmp_path / "sheet.png"
    write_contact_sheet(
        path,
        tiles=[ShownTile("train", "s", 0, edge)],
        counts={"train": {"Positive": 1, "Negative": 0}},
        n_tiles={"train": 1},
        mpp=0.5,
    )
    red = class_colours(("Positive", "Negative"))["Positive"]
    top = TITLE + LINE + GAP // 2
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
        middle = round(310 / 320 * PICTURE)
        for inward in (0, 1):
            last = PICTURE - 1 - inward
            assert picture.getpixel((MARGIN + last, top + middle)) == red
            assert picture.getpixel((MARGIN + middle, top + last)) == red


def test_a_jpeg_of_many_tiles_is_light_enough_to_send(tmp_path: Path) -> None:
    shown = [
        ShownTile("train", "a-rather-long-slide-name" * 3, k, tile([[5, 5, 20, 20]], [1])) for k in range(8)
    ]
    path = tmp_path / "contact_sheet.jpg"
    write_contact_sheet(path, tiles=shown, counts={"train": {"Positive": 10**6, "Negative": 5}},
                        n_tiles={"train": 10**5}, mpp=0.25)  # fmt: skip
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.height > 2 * PICTURE
    assert path.stat().st_size < 3_000_000
    assert [file.name for file in tmp_path.iterdir()] == ["contact_sheet.jpg"]
