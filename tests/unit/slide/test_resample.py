"""Resampling: known answers on flat, linear and random pictures."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ercohort.slide.resample import resample
from tests.slides import halve


def resampled(
    source: np.ndarray, start: tuple[float, float], step: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    out = np.full((size[1], size[0], 3), 7, np.uint8)
    resample(source, start, step, out)
    return out


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8)


def test_step_one_copies(noise: np.ndarray) -> None:
    out = resampled(noise, (5, 7), (1, 1), (40, 30))
    np.testing.assert_array_equal(out, noise[7:37, 5:45])


def test_step_two_is_the_mean_of_four(noise: np.ndarray) -> None:
    out = resampled(noise, (4, 6), (2, 2), (30, 20))
    np.testing.assert_array_equal(out, halve(noise[6:46, 4:64]))


def test_half_pixel_start_is_the_mean_of_neighbours(noise: np.ndarray) -> None:
    out = resampled(noise, (2.5, 0), (1, 1), (10, 10))
    wide = noise.astype(np.float64)
    np.testing.assert_allclose(out, (wide[:10, 2:12] + wide[:10, 3:13]) / 2, atol=0.51)


def test_step_one_and_a_half_weighs_parts_of_pixels() -> None:
    source = np.zeros((1, 6, 3), np.uint8)
    source[0, :, :] = np.array([0, 30, 60, 90, 120, 150])[:, None]
    out = resampled(source, (0, 0), (1.5, 1), (4, 1))
    expected = [(0 + 15) / 1.5, (15 + 60) / 1.5, (90 + 60) / 1.5, (60 + 150) / 1.5]
    np.testing.assert_allclose(out[0, :, 0], expected, atol=0.51)


def area_means(
    source: np.ndarray, start: tuple[float, float], step: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """Means over the area of each output pixel, by the definition, in float64."""

    def shares(first: float, width: float, n: int, pixels: int) -> np.ndarray:
        low = (first + width * np.arange(n))[:, None]
        edge = np.arange(pixels)
        return np.clip(np.minimum(edge + 1, low + width) - np.maximum(edge, low), 0, None) / width

    down = shares(start[1], step[1], size[1], source.shape[0])
    across = shares(start[0], step[0], size[0], source.shape[1])
    return np.einsum("ir,jc,rck->ijk", down, across, source.astype(np.float64), optimize=True)


steps = st.one_of(st.just(2.0), st.sampled_from([1.0, 1.9786, 3.0, 4.0]), st.floats(1.0, 4.5))
starts = st.one_of(st.integers(0, 12).map(float), st.floats(0, 12))


@settings(max_examples=150, deadline=None)
@given(
    start=st.tuples(starts, starts),
    step=st.tuples(steps, steps),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_shrinking_is_the_mean_over_the_area(
    start: tuple[float, float], step: tuple[float, float], size: tuple[int, int]
) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (54, 56, 3), dtype=np.uint8)
    exact = area_means(picture, start, step, size)
    # Half a level of rounding, and the weights below a millionth that are left out.
    assert np.abs(resampled(picture, start, step, size) - exact).max() < 0.5 + 1e-3


@example(x=2, y=0, size=(30, 1))  # one pixel beyond the right edge
@example(x=0, y=5, size=(1, 30))  # and beyond the lower one
@settings(max_examples=60, deadline=None)
@given(x=st.integers(-2, 30), y=st.integers(-2, 30), size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_halving_is_the_general_kernel_to_the_bit(x: int, y: int, size: tuple[int, int]) -> None:
    """Also where the window reaches over the picture's edge, which the short way leaves to the general."""
    picture = np.random.default_rng(4).integers(0, 256, (64, 61, 3), dtype=np.uint8)
    nearly_two = np.nextafter(2.0, 3.0)  # not 2, so not the short way
    np.testing.assert_array_equal(
        resampled(picture, (x, y), (2.0, 2.0), size),
        resampled(picture, (x, y), (nearly_two, nearly_two), size),
    )


def test_part_of_a_larger_array_can_be_filled(noise: np.ndarray) -> None:
    for step in (1.0, 1.7, 2.0, 3.3):
        wide = np.full((30, 40, 3), 9, np.uint8)
        resample(noise, (1, 2), (step, step), wide[5:15, 7:19])
        np.testing.assert_array_equal(wide[5:15, 7:19], resampled(noise, (1, 2), (step, step), (12, 10)))
        wide[5:15, 7:19] = 9
        assert (wide == 9).all()


@settings(max_examples=60, deadline=None)
@given(start=st.floats(2, 12), step=st.floats(0.3, 5.0), value=st.integers(0, 255), n=st.integers(1, 12))
def test_flat_stays_flat(start: float, step: float, value: int, n: int) -> None:
    source = np.full((90, 90, 3), value, np.uint8)
    assert (resampled(source, (start, start), (step, step), (n, n)) == value).all()


@settings(max_examples=60, deadline=None)
@given(x=st.floats(2, 20), y=st.floats(2, 20), step=st.floats(0.3, 6.0))
def test_a_ramp_is_read_where_it_is(x: float, y: float, step: float) -> None:
    """Pixel i's value is the ramp at the centre of what it covers: start + (i + 1/2) step."""
    rows, cols = np.mgrid[0:110, 0:110]
    source = np.stack([cols * 2, rows * 2, cols + rows], axis=2).astype(np.uint8)
    out = resampled(source, (x, y), (step, step), (12, 12)).astype(float)
    across = x + (np.arange(12) + 0.5) * step - 0.5
    down = y + (np.arange(12) + 0.5) * step - 0.5
    assert np.abs(out[..., 0] - 2 * across[None, :]).max() < 0.5 + 2 * 0.13  # rounding + parts of pixels
    assert np.abs(out[..., 1] - 2 * down[:, None]).max() < 0.5 + 2 * 0.13
    assert np.abs(out[..., 2] - across[None, :] - down[:, None]).max() < 0.5 + 2 * 0.13
