"""Random numbers by place: even, independent of each other, and smooth where they should be."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.simulate.hashing import normal, uniform, value_noise


def test_uniform_is_even_and_uncorrelated():
    values = np.array([[uniform(7, x, y, 3) for x in range(-60, 60)] for y in range(-60, 60)])
    assert values.min() >= 0.0
    assert values.max() < 1.0
    counts = np.histogram(values, 20, (0.0, 1.0))[0]
    assert np.abs(counts - 720).max() < 5 * np.sqrt(720)
    for shifted in (values[:, 1:].ravel(), values[1:].ravel()[: values[:, 1:].size]):
        assert abs(np.corrcoef(values[:, :-1].ravel()[: shifted.size], shifted)[0, 1]) < 0.05


def test_normal_has_mean_zero_and_deviation_one():
    values = np.array([normal(1, x, 5, 10) for x in range(20_000)])
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1.0) < 0.03


@settings(deadline=None)
@given(x=st.floats(-1e5, 1e5), y=st.floats(-1e5, 1e5), wavelength=st.floats(1.0, 500.0))
def test_noise_is_smooth_and_bounded(x, y, wavelength):
    here = value_noise(11, x, y, wavelength, 2)
    near = value_noise(11, x + 0.001 * wavelength, y, wavelength, 2)
    assert 0.0 <= here <= 1.0
    assert abs(near - here) < 0.002 + 1e-6
