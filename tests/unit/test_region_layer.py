"""Regions on the pictures: which are drawn, where, and that their kinds differ in more than colour."""

import numpy as np
import pytest
import shapely
from PIL import Image

from ercohort.canvas import APART, DENSITY_RAMP, INK, LEFT_OUT, PERCENT_RAMP, REGION, REGION_EDGE, colour_ramp
from ercohort.region_layer import draw_roi, outline_tissue, roi_key
from ercohort.roi import make_roi
from ercohort.strokes import _dashes
from tests.colour_vision import VISION, least_distance

SIZE = (4000, 3000)


def drawn(roi, **more):
    picture = Image.new("RGB", (1000, 750), (200, 200, 200))
    draw_roi(picture, roi, (0, 0), 0.25, **more)
    return np.asarray(picture)


def dark_along(picture, row, start, stop, colour):
    return (picture[row - 2 : row + 3, start:stop] == colour).all(axis=2).any(axis=0).mean()


def test_a_region_is_a_whole_line_one_apart_is_dashed_and_what_is_left_out_is_hatched():
    roi = make_roi(
        [("tumour", shapely.box(400, 400, 1600, 2400)), ("Control", shapely.box(2400, 400, 3600, 1200))],
        [shapely.box(2400, 1800, 3600, 2600)],
        size=SIZE,
        apart=["Control"],
    )
    picture = drawn(roi)
    assert dark_along(picture, 600, 110, 390, REGION_EDGE) == 1  # the tumour's lower edge
    assert 0.35 < dark_along(picture, 300, 610, 890, REGION_EDGE) < 0.65  # the control's
    inside = (picture[470:630, 620:880] == INK).all(axis=2).mean()
    assert 0.1 < inside < 0.3
    assert (picture[320:440, 420:580] == 200).all()
    assert [mark for _, mark in roi_key(roi)] == [REGION, APART, LEFT_OUT]
    bare = drawn(roi, bare=True)
    assert (bare[470:630, 620:880] == 200).all()


def test_names_stay_inside_the_picture():
    roi = make_roi([("A long name of a region", shapely.box(3800, 0, 4000, 100))], [], size=SIZE)
    picture = drawn(roi)
    dark = np.argwhere((picture == INK).all(axis=2))
    assert len(dark) > 200
    assert dark[:, 1].max() < 998
    assert dark[:, 0].min() > 2


def test_holes_of_what_is_left_out_are_not_hatched():
    ring = shapely.box(400, 400, 3600, 2600).difference(shapely.box(1200, 1000, 2800, 2000))
    roi = make_roi([], [ring], size=SIZE)
    picture = drawn(roi)
    assert (picture[270:480, 320:680] == 200).all()
    assert (picture[120:230, 320:680] == INK).all(axis=2).any()
    assert not (picture == REGION_EDGE).all(axis=2).any()
    assert roi_key(roi) == [("Left out", LEFT_OUT)]  # nobody drew the rest of the slide as a region


def test_the_border_of_the_tissue_is_drawn_but_not_that_of_the_picture():
    mask = np.zeros((30, 40), bool)
    mask[10:, 10:] = True
    picture = Image.new("RGB", (400, 300), (255, 255, 255))
    outline_tissue(picture, mask, (0, 0, 40, 30))
    dark = np.argwhere(np.asarray(picture)[..., 0] < 200)
    assert dark.min(axis=0).tolist() == pytest.approx([100, 100], abs=4)
    assert not (np.asarray(picture)[-3:, 150:, 0] < 200).any()


@pytest.mark.parametrize("vision", VISION)
def test_the_steps_of_the_heatmap_are_told_apart_with_any_colour_blindness(vision):
    for ramp, least in ((PERCENT_RAMP, 28), (DENSITY_RAMP, 15)):
        steps = colour_ramp(np.linspace(0, 1, 5), ramp).tolist()
        assert least_distance(steps, vision) > least


def ragged(n):
    """Give a ring of n corners as a brush draws it, far larger than a picture."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = 50_000 + np.random.default_rng(0).uniform(-40, 40, n)
    return np.column_stack([radius * np.cos(angle) - 49_500, radius * np.sin(angle) + 320])


def test_of_a_large_outline_only_the_dashes_of_the_picture_are_drawn():
    path = ragged(40_000)
    strokes = _dashes(path, 16, (640, 640))
    assert 10 < len(strokes) < 200
    whole = _dashes(path, 16, (10**6, 10**6))
    assert len(whole) > 2 * len(strokes)
    near = [s for s in whole if any(-16 <= x <= 656 and -16 <= y <= 656 for x, y in s)]
    assert near
    assert all(stroke in strokes for stroke in near)


def test_dashes_keep_their_length_and_their_corners():
    strokes = _dashes(np.array([[0.0, 0], [25, 0], [25, 30]]), 10, (100, 100))
    assert strokes == [[(0, 0), (10, 0)], [(20, 0), (25, 0), (25, 5)], [(25, 15), (25, 25)]]
