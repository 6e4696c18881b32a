"""Tiles with rare classes are drawn more often, by a known factor and never beyond the cap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort.training.balance import CAP, tile_weights


def _tile(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def test_equal_classes_are_drawn_alike():
    assert tile_weights([_tile(5, 5), _tile(10, 0), _tile(0, 10)], 2).tolist() == [1.0, 1.0, 1.0]


def test_a_rare_class_gets_the_square_root_of_what_it_lacks():
    weights = tile_weights([_tile(90, 0), _tile(0, 10)], 2)
    assert weights == pytest.approx([1.0, np.sqrt(1 / (2 * 0.1))])


def test_a_mixed_tile_gets_the_mean_over_its_nuclei():
    rare = np.sqrt(100 / (2 * 10))
    assert tile_weights([_tile(85, 0), _tile(5, 10)], 2)[1] == pytest.approx((5 + 10 * rare) / 15)


def test_no_tile_is_drawn_beyond_the_cap():
    assert tile_weights([_tile(100_000, 0), _tile(0, 1)], 2).tolist() == [1.0, CAP]


def test_tiles_without_nuclei_and_classes_without_tiles_are_allowed():
    assert tile_weights([_tile(3, 3, 0), _tile(), _tile(3, 3, 0)], 3).tolist() == [1.0, 1.0, 1.0]


@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=20))
def test_weights_lie_between_one_and_the_cap(counts):
    weights = tile_weights([_tile(*tile) for tile in counts], 3)
    assert weights.shape == (len(counts),)
    assert (weights >= 1.0 - 1e-12).all()
    assert (weights <= CAP + 1e-12).all()
