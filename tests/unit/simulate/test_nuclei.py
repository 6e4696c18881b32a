"""Nuclei of the simulator: equal in every window, boxed where they are drawn, positive as often as asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.simulate.look import random_look
from ercohort.simulate.nuclei import MAX_RADIUS, NUCLEUS, SPINDLE, TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.render import _draw_nuclei
from ercohort.simulate.scene import random_scene

SIDE = 1500.0


@pytest.fixture(scope="module")
def scene():
    return random_scene(3, SIDE, SIDE, 30.0)


@pytest.fixture(scope="module")
def look():
    return random_look(3)


@settings(max_examples=25, deadline=None)
@given(cut_x=st.floats(1.0, SIDE - 1.0), cut_y=st.floats(1.0, SIDE - 1.0))
def test_windows_that_tile_the_plane_hold_each_nucleus_once(scene, look, cut_x, cut_y):
    whole = nuclei_in(scene, look, 0.0, 0.0, SIDE, SIDE)
    quarters = [
        nuclei_in(scene, look, x0, y0, x1, y1)
        for x0, x1 in ((0.0, cut_x), (cut_x, SIDE))
        for y0, y1 in ((0.0, cut_y), (cut_y, SIDE))
    ]
    assert np.array_equal(
        np.sort(whole, order=["y", "x"]), np.sort(np.concatenate(quarters), order=["y", "x"])
    )


def test_share_of_positive_nuclei_is_the_one_asked_for(look):
    for percent in (0.0, 5.0, 40.0, 90.0, 100.0):
        found = nuclei_in(random_scene(5, 4000.0, 4000.0, percent), look, 0.0, 0.0, 4000.0, 4000.0)
        tumour = found[found["kind"] == TUMOUR]
        assert len(tumour) > 20_000
        assert 100.0 * tumour["positive"].mean() == pytest.approx(
            percent, abs=0.15 * min(percent, 100 - percent)
        )


def test_only_tumour_nuclei_are_positive_and_the_rest_is_there(scene, look):
    found = nuclei_in(scene, look, 0.0, 0.0, SIDE, SIDE)
    other = found[found["kind"] != TUMOUR]
    assert len(other) > 100
    assert other["positive"].sum() == 0
    assert (other["kind"] == SPINDLE).any()


def test_tumour_nuclei_have_the_size_and_density_of_breast_cancer(scene, look):
    found = nuclei_in(scene, look, 0.0, 0.0, SIDE, SIDE)
    tumour = found[found["kind"] == TUMOUR]
    diameter = 2.0 * np.sqrt(tumour["a"] * tumour["b"])
    assert np.percentile(diameter, 1) > 6.5
    assert np.percentile(diameter, 99) < 13.3
    assert boxes_of(found).min() > -MAX_RADIUS


@settings(max_examples=60, deadline=None)
@given(
    a=st.floats(3.0, 8.0), ratio=st.floats(1.0, 3.0), angle=st.floats(0.0, 3.14), phase=st.floats(0.0, 6.28),
    lobe2=st.floats(-0.06, 0.06), lobe3=st.floats(-0.1, 0.1),
    x=st.floats(20.0, 21.0), y=st.floats(20.0, 21.0),
)  # fmt: skip
def test_box_fits_what_is_drawn(a, ratio, angle, phase, lobe2, lobe3, x, y):
    nucleus = np.zeros(1, NUCLEUS)
    nucleus["x"], nucleus["y"], nucleus["a"], nucleus["b"], nucleus["angle"] = x, y, a, a / ratio, angle
    nucleus["phase"], nucleus["lobe2"], nucleus["lobe3"], nucleus["hematoxylin"] = phase, lobe2, lobe3, 1.0
    mpp = 0.1
    plane, dab = np.zeros((420, 420), np.float32), np.zeros((420, 420), np.float32)
    _draw_nuclei(plane, dab, 1, nucleus, 0, 0, mpp)
    rows, columns = np.nonzero(plane > 0.5)
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * mpp
    assert np.abs(drawn - boxes_of(nucleus)[0]).max() < 0.35  # µm: the soft edge and the pixel
