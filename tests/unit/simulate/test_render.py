"""Pixels of the simulator: the same in every block, at every scale, and of the colour the truth says."""

import numpy as np
import pytest

from ercohort.simulate.look import random_look
from ercohort.simulate.nuclei import LYMPHOCYTE, TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import random_scene


@pytest.fixture(scope="module", params=[1, 8])
def slide(request):
    return random_scene(request.param, 600.0, 600.0, 50.0), random_look(request.param)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.4972])
def test_blocks_of_any_size_give_the_same_pixels(slide, mpp):
    scene, look = slide
    whole = render_block(scene, look, 200, 300, 400, 300, mpp)
    assert whole.std() > 5.0
    for width, height in ((400, 97), (131, 300), (64, 64)):
        for y in range(0, 300, height):
            for x in range(0, 400, width):
                w, h = min(width, 400 - x), min(height, 300 - y)
                block = render_block(scene, look, 200 + x, 300 + y, w, h, mpp)
                assert np.array_equal(block, whole[y : y + h, x : x + w])


def test_two_scales_show_the_same_tissue(slide):
    scene, look = slide
    fine = render_block(scene, look, 400, 400, 800, 800, 0.25).astype(float)
    coarse = render_block(scene, look, 200, 200, 400, 400, 0.5).astype(float)
    halved = fine.reshape(400, 2, 400, 2, 3).mean((1, 3))
    assert np.abs(halved - coarse).mean() < 6.0
    assert np.corrcoef(halved.ravel(), coarse.ravel())[0, 1] > 0.93


def test_positive_nuclei_are_brown_and_negative_ones_blue(slide):
    scene, look = slide
    mpp = 0.5
    image = render_block(scene, look, 0, 0, 1200, 1200, mpp).astype(float)
    nuclei = nuclei_in(scene, look, 10.0, 10.0, 590.0, 590.0)
    tumour = nuclei[nuclei["kind"] == TUMOUR]
    assert len(tumour) > 200
    colour = image[(tumour["y"] / mpp).astype(int), (tumour["x"] / mpp).astype(int)]
    density = -np.log10((colour + 1.0) / (np.array(look.glass) + 1.0))
    stains = np.linalg.lstsq(np.array([look.hematoxylin, look.dab]).T, density.T, rcond=None)[0]
    positive = tumour["positive"] == 1
    assert np.mean(stains[1][positive] > 0.12) > 0.97
    assert np.mean(stains[1][~positive] < 0.12) > 0.97
    assert np.mean(stains[0][~positive] > stains[1][~positive]) > 0.97


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_nuclei_lie_where_the_truth_says_to_the_pixel(slide, mpp):
    scene, look = slide
    side = round(600.0 / mpp)
    grey = render_block(scene, look, 0, 0, side, side, mpp).astype(float).mean(-1)
    nuclei = nuclei_in(scene, look, 20.0, 20.0, 580.0, 580.0)
    boxes = boxes_of(nuclei[nuclei["kind"] == TUMOUR]) / mpp
    total = np.pad(grey.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def brightness(dx: int, dy: int) -> float:
        x0, y0, x1, y1 = (np.round(boxes).astype(int) + np.array([dx, dy, dx, dy])).T
        inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        return float((inside / ((x1 - x0) * (y1 - y0))).mean())

    shifts = [(dx, dy) for dx in range(-3, 4) for dy in range(-3, 4)]
    assert min(shifts, key=lambda shift: brightness(*shift)) == (0, 0)


def test_lymphocytes_are_drawn(slide):
    scene, look = slide
    nuclei = nuclei_in(scene, look, 10.0, 10.0, 590.0, 590.0)
    cells = nuclei[nuclei["kind"] == LYMPHOCYTE]
    assert len(cells) > 5
    image = render_block(scene, look, 0, 0, 1200, 1200, 0.5).astype(float).mean(-1)
    at_cells = image[(cells["y"] / 0.5).astype(int), (cells["x"] / 0.5).astype(int)]
    assert np.median(at_cells) < np.mean(look.glass) - 30.0


def test_glass_without_tissue_is_empty():
    scene, look = random_scene(1, 300.0, 300.0, 50.0, tissue=False), random_look(1)
    image = render_block(scene, look, 0, 0, 600, 600, 0.5).astype(float)
    assert np.abs(image.mean((0, 1)) - look.glass).max() < 1.5
    assert image.min() > min(look.glass) - 30.0
    assert len(nuclei_in(scene, look, 0.0, 0.0, 300.0, 300.0)) == 0


def test_another_seed_is_another_slide():
    first, second = (
        render_block(random_scene(seed, 300.0, 300.0, 50.0), random_look(seed), 200, 200, 200, 200, 0.5)
        for seed in (1, 2)
    )
    assert not np.array_equal(first, second)
