"""Tiles teach exactly what was labelled: the region alone, every nucleus, no ignored one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.labels.annotations import SlideLabels, in_regions
from ercohort.labels.training_tiles import PAD, cut_tile, lay_out_windows, paint_over, yolo_lines
from ercohort.slide import SlideInfo, open_slide
from tests import slides

NAMES = ("Positive", "Negative")


class Plain:
    """A slide whose pixel (x, y) is x mod 251, y mod 251, 7; at any scale the corner's pixel."""

    def __init__(self, mpp: float = 0.5) -> None:
        self.info = SlideInfo(
            path="s.svs", vendor="aperio", width=4000, height=3000, mpp=mpp, mpp_source="file",
            level_dimensions=((4000, 3000),), level_downsamples=(1.0,), bounds=(0, 0, 4000, 3000),
            has_bounds=False, background=(255, 255, 255), reader="vips", file_bytes=1,
        )  # fmt: skip

    def read(
        self, x: int, y: int, w: int, h: int, *, size: tuple[int, int] | None = None
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert size is not None
        xs = np.arange(size[0]) * w // size[0] + x
        ys = np.arange(size[1]) * h // size[1] + y
        grid = np.broadcast_arrays(xs[None] % 251, ys[:, None] % 251, np.array([[7]]))
        return np.stack(grid, axis=-1).astype(np.uint8)


def labels_of(
    regions: list[list[float]],
    boxes: list[list[float]],
    names: list[str],
    ignored: list[list[float]] | None = None,
) -> SlideLabels:
    return SlideLabels(
        regions=np.array(regions, np.float64).reshape(-1, 4),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(names, np.str_),
        is_point=np.zeros(len(boxes), bool),
        ignored=np.array(ignored or [], np.float64).reshape(-1, 4),
        n_outside=0,
    )


@pytest.mark.parametrize(
    ("region", "corners"),
    [
        ([100, 200, 420, 520], [(100, 200)]),  # one tile, exactly
        ([100, 200, 740, 520], [(100, 200), (420, 200)]),  # two, side by side
        ([100, 200, 600, 520], [(100, 200), (280, 200)]),  # two that overlap
        ([100, 200, 300, 301], [(40, 91)]),  # smaller: in the middle of a tile
        ([100.6, 200, 420.2, 520], [(100, 200), (101, 200)]),  # outwards to whole pixels: 321 px
    ],
)
def test_tiles_cover_a_region(region: list[float], corners: list[tuple[int, int]]) -> None:
    windows = lay_out_windows(np.array([region]), slide_mpp=0.5, mpp=0.5, tile_px=320)
    assert [(window.x, window.y) for window in windows] == corners
    assert {window.side for window in windows} == {320}


@given(
    st.tuples(*[st.floats(0, 2000)] * 2), st.tuples(*[st.floats(40, 1500)] * 2),
    st.sampled_from([0.23, 0.2525, 0.5, 0.8]), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_round_trip_every_nucleus_comes_back_within_half_a_pixel(
    corner: tuple[float, float], size: tuple[float, float], mpp: float, seed: int
) -> None:
    """Boxes -> tiles -> YOLO text -> level-0 pixels; nuclei at its edge are cut where the region ends."""
    region = [*corner, corner[0] + size[0], corner[1] + size[1]]
    rng = np.random.default_rng(seed)
    centres = np.array(corner) + rng.random((40, 2)) * np.array(size)
    sides = rng.uniform(4, 15, (40, 2)) / mpp
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    boxes = boxes[in_regions(boxes, np.array([region]))[:, 0]]
    names = [NAMES[k % 2] for k in range(len(boxes))]
    labels = labels_of([region], boxes.tolist(), names)
    best = np.full(len(boxes), np.inf)
    windows = lay_out_windows(labels.regions, slide_mpp=mpp, mpp=0.5, tile_px=320)
    for window in windows:
        tile = cut_tile(Plain(mpp), window, labels, NAMES, tile_px=320)
        for line in yolo_lines(tile).splitlines():
            label, x, y, w, h = (float(word) for word in line.split())
            back = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * window.side
            back += np.array([window.x, window.y, window.x, window.y])
            assert x - w / 2 + 1e-6 >= 0
            assert y + h / 2 <= 1 + 1e-6
            same = np.array([name == NAMES[int(label)] for name in names])
            limit = np.array(window.inside, np.float64)
            cut = np.concatenate(
                [np.maximum(boxes[:, :2], limit[:2]), np.minimum(boxes[:, 2:], limit[2:])], 1
            )
            error = np.where(same, np.abs(cut - back).max(axis=1), np.inf)
            assert error.min() <= 0.5
            best = np.minimum(best, error)
    assert best.max(initial=0.0) <= 0.5  # every nucleus is on a tile


def test_pixels_outside_the_region_are_grey_and_the_rest_is_the_slide() -> None:
    labels = labels_of([[100, 200, 200, 260]], [[195, 230, 215, 250]], ["Negative"])
    labels_inside = labels_of([[100, 200, 200, 260]], [[185, 230, 205, 250]], ["Negative"])
    (window,) = lay_out_windows(labels.regions, slide_mpp=0.5, mpp=0.5, tile_px=320)
    tile = cut_tile(Plain(), window, labels_inside, NAMES, tile_px=320)
    assert (window.x, window.y) == (-10, 70)
    inside = tile.image[130:190, 110:210]
    assert inside[0, 0].tolist() == [100, 200, 7]
    assert inside[59, 99].tolist() == [199, 259 % 251, 7]
    outside = np.ones((320, 320), bool)
    outside[130:190, 110:210] = False
    assert (tile.image[outside] == PAD).all()
    assert tile.boxes.tolist() == [[195, 160, 210, 180]]  # cut where the region ends
    assert tile.classes.tolist() == [1]
    assert len(cut_tile(Plain(), window, labels, NAMES, tile_px=320).boxes) == 0  # its centre is outside


def test_a_nucleus_cut_by_a_tile_is_labelled_where_enough_of_it_shows() -> None:
    box = [[412, 300, 428, 316]]  # 8 of 16 px on either side of x = 420
    labels = labels_of([[100, 200, 740, 520]], box, ["Positive"])
    first, second = lay_out_windows(labels.regions, slide_mpp=0.5, mpp=0.5, tile_px=320)
    assert cut_tile(Plain(), first, labels, NAMES, tile_px=320).boxes.tolist() == [[312, 100, 320, 116]]
    assert cut_tile(Plain(), second, labels, NAMES, tile_px=320).boxes.tolist() == [[0, 100, 8, 116]]
    labels = labels_of([[100, 200, 740, 520]], [[414, 300, 430, 316]], ["Positive"])  # 6 of 16: 37 %
    assert len(cut_tile(Plain(), first, labels, NAMES, tile_px=320).boxes) == 0
    assert len(cut_tile(Plain(), second, labels, NAMES, tile_px=320).boxes) == 1


def test_ignored_nuclei_take_the_colour_around_them_and_spare_labelled_ones() -> None:
    image = np.full((80, 80, 3), 200, np.uint8)
    image[30:50, 30:50] = (60, 40, 30)  # ignored
    image[30:50, 50:70] = (90, 90, 160)  # labelled, in contact
    ignored, kept = np.array([[30.0, 30.0, 50.0, 50.0]]), np.array([[50.0, 30.0, 70.0, 50.0]])
    result = paint_over(image, ignored, kept)
    assert result[40, 40].tolist() == [200, 200, 200]
    assert (result[31:49, 57:63] == image[31:49, 57:63]).all()
    assert (result[:28] == 200).all()
    crowded = paint_over(image, np.array([[0.0, 0.0, 80.0, 80.0]]), kept)
    assert (crowded[40, 60] == image[40, 60]).all()


def test_scales_other_than_the_slides_own(field: slides.Array, slide_folder: Path) -> None:
    """A tile at 1 µm per pixel of a slide at 0.5 holds twice the length, at half the size."""
    path = slides.write_pyramid(slide_folder / "scale.tiff", field, compression="deflate")
    labels = labels_of([[100, 100, 740, 740]], [[300, 400, 320, 424]], ["Positive"])
    (window,) = lay_out_windows(labels.regions, slide_mpp=0.5, mpp=1.0, tile_px=320)
    with open_slide(path) as slide:
        tile = cut_tile(slide, window, labels, NAMES, tile_px=320)
    assert tile.image.shape == (320, 320, 3)
    assert tile.boxes.tolist() == [[100, 150, 110, 162]]
    exact = field[100:740, 100:740].reshape(320, 2, 320, 2, 3).mean(axis=(1, 3))
    assert np.abs(tile.image - exact).mean() < 1.0
