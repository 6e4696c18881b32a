"""Air bubbles: rims that close around an area, at any place, size and scale; and what only looks like one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort import bubbles
from ercohort.bubbles import find_bubbles
from tests.slides import Array, with_bubble

GLASS = (242.0, 240.0, 244.0)
HEMATOXYLIN, DAB = np.array([0.65, 0.70, 0.29]), np.array([0.27, 0.57, 0.78])


def tissue(side: int = 300, seed: int = 0, stain: np.ndarray = HEMATOXYLIN) -> Array:
    """Uneven stain, as an overview shows it at some 8 µm per pixel."""
    amount = np.random.default_rng(seed).gamma(4.0, 0.05, (side, side, 1))
    return (np.array(GLASS) * 10 ** (-amount * stain)).astype(np.uint8)


def painted(mask: np.ndarray, density: np.ndarray | float, picture: Array) -> Array:
    return np.where(mask[..., None], picture * 10 ** (-np.ones(3) * density), picture).astype(np.uint8)


def ring(least: float, most: float) -> np.ndarray:
    return (least < RADIUS) & (most > RADIUS)


ROWS, COLS = np.mgrid[:300, :300]
RADIUS = np.hypot(ROWS - 150, COLS - 150)


@given(
    scale=st.floats(2.0, 12.0), radius_um=st.floats(120.0, 500.0), x=st.floats(0.0, 1.0),
    y=st.floats(0.0, 1.0), seed=st.integers(0, 1000), stain=st.sampled_from([HEMATOXYLIN, DAB]),
)  # fmt: skip
def test_a_bubble_is_found_wherever_it_lies(scale, radius_um, x, y, seed, stain) -> None:
    """Also at every scale of the overview: finer ones are averaged, on coarser ones a rim is a pixel wide."""
    side = int(2 * (radius_um + 120) / scale) + 40
    room = side - 2 * (radius_um / scale + 6)
    centre = [radius_um / scale + 6 + share * room for share in (x, y)]
    picture = with_bubble(tissue(side, seed, stain), scale, (centre[0], centre[1]), radius_um, rim_um=25.0)
    found = find_bubbles(picture, GLASS, scale)
    rows, cols = np.mgrid[:side, :side]
    distance_um = np.hypot(cols - centre[0], rows - centre[1]) * scale
    assert found[distance_um < 0.5 * radius_um].all()
    assert not found[distance_um > radius_um + 3 * max(scale, 8.0)].any()


def test_it_is_the_area_of_the_bubble() -> None:
    found = find_bubbles(with_bubble(tissue(), 8.0, (150, 150), 400.0), GLASS, 8.0)
    assert found.sum() * 64 == pytest.approx(np.pi * 400.0**2, rel=0.1)


@pytest.mark.parametrize("stain", [HEMATOXYLIN, DAB], ids=["blue", "brown"])
def test_a_duct_is_no_bubble(stain: np.ndarray) -> None:
    """A ring of dense stain around a lumen has the colour of the stain."""
    duct = painted(ring(30, 33), 1.5 * stain, tissue())
    assert not find_bubbles(duct, GLASS, 8.0).any()


@pytest.mark.parametrize("density", [0.4, 0.8])
def test_blue_and_brown_together_are_grey_only_where_a_rim_goes_on(density: float) -> None:
    """Nuclei of both classes around a duct are no rim; a rim that some of them colour is one."""
    mixed = painted(ring(30, 33), density * (HEMATOXYLIN + DAB) / 1.27, tissue())
    assert not find_bubbles(mixed, GLASS, 8.0).any()
    assert find_bubbles(painted(ring(30, 33) & (ROWS > 130), 0.8, mixed), GLASS, 8.0).any()


@pytest.mark.parametrize("stain", [HEMATOXYLIN, DAB], ids=["blue", "brown"])
def test_a_bubble_over_dense_stain_is_one(stain: np.ndarray) -> None:
    assert find_bubbles(painted(ring(30, 33), 0.8, tissue(stain=stain)), GLASS, 8.0).any()


@pytest.mark.parametrize(
    "mask",
    [
        RADIUS < 3,
        ring(3, 5),
        ring(30, 33) & (ROWS > 120),
        ring(30, 60),
        abs(ROWS - 150) < 2,
        ring(30, 33) & (COLS < 160) | (abs(COLS - 160) < 2) & (RADIUS < 45) & (ROWS > 170),
    ],
    ids=["speck", "grain", "open arc", "thick ring", "straight line", "curve with a tail"],
)
def test_what_is_grey_and_dark_but_no_bubble(mask: np.ndarray) -> None:
    assert not find_bubbles(painted(mask, 0.8, tissue()), GLASS, 8.0).any()


def test_a_shape_with_dents_is_no_bubble() -> None:
    """A hair that lies in a loop, or ink around a lobed piece of tissue."""
    rows, cols = np.mgrid[:300, :300] - 150
    angle, radius = np.arctan2(rows, cols), np.hypot(rows, cols)
    edge = 45 * (1 + 0.5 * np.cos(3 * angle))
    assert not find_bubbles(painted(abs(radius - edge) < 2.5, 0.8, tissue()), GLASS, 8.0).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 1), (9, 9)])
def test_pictures_of_a_few_pixels(shape: tuple[int, int]) -> None:
    assert not find_bubbles(np.full((*shape, 3), 40, np.uint8), GLASS, 8.0).any()


def test_rows_are_worked_on_in_parts_that_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = with_bubble(tissue(), 8.0, (150, 150), 300.0)
    whole = find_bubbles(picture, GLASS, 8.0)
    assert whole.any()
    rims = bubbles._rims(bubbles._densities(picture, GLASS, 1), 10)
    for rows in (7, 40, 113):
        monkeypatch.setattr(bubbles, "_ROWS", rows)
        assert (bubbles._rims(bubbles._densities(picture, GLASS, 1), 10) == rims).all()
        assert (find_bubbles(picture, GLASS, 8.0) == whole).all()
