"""Resampling: known answers on flat, linear and random pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
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
