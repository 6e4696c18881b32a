"""Slides with as much tissue and as many nuclei as asked for."""

import numpy as np
import pytest

from ercohort.errors import InputError
from ercohort.simulate import simulate_slide
from ercohort.simulate.density import cover, crowd
from ercohort.simulate.look import random_look
from ercohort.simulate.nuclei import MIN_TISSUE, TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.scene import random_scene, tissue_at

WIDTH, HEIGHT = 3000.0, 2000.0


def tissue_share(scene):
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (WIDTH, HEIGHT), (20_000, 2))
    return np.mean([tissue_at(scene, x, y) >= MIN_TISSUE for x, y in points])


@pytest.mark.parametrize("seed", [1, 3, 5])
@pytest.mark.parametrize("share", [0.1, 0.49, 0.9])
def test_tissue_covers_the_share_asked_for(seed, share):
    scene = random_scene(seed, WIDTH, HEIGHT, 40.0)
    assert tissue_share(cover(scene, WIDTH, HEIGHT, share)) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("per_mm2", [500.0, 5_000.0, 11_700.0, 15_600.0])
def test_nuclei_lie_as_densely_as_asked_for(seed, per_mm2):
    scene = cover(random_scene(seed, WIDTH, HEIGHT, 40.0), WIDTH, HEIGHT, 0.8)
    scene, look = crowd(scene, random_look(seed), per_mm2)
    found = nuclei_in(scene, look, 0.0, 0.0, WIDTH, HEIGHT)
    n = (found["kind"] == TUMOUR).sum()
    assert n / (0.8 * WIDTH * HEIGHT / 1e6) == pytest.approx(per_mm2, rel=0.03)


def test_crowded_nuclei_hardly_overlap():
    scene, look = crowd(random_scene(3, WIDTH, HEIGHT, 40.0), random_look(3), 15_600.0)
    found = nuclei_in(scene, look, 1000.0, 800.0, 1300.0, 1100.0)
    boxes = boxes_of(found[found["kind"] == TUMOUR])
    low, high = (
        np.maximum(boxes[:, None, :2], boxes[None, :, :2]),
        np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
    )
    both = np.clip(high - low, 0, None).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    iou = both / (area[:, None] + area[None] - both)
    np.fill_diagonal(iou, 0.0)
    assert iou.max() < 0.5
    assert (iou.max(1) > 0.3).mean() < 0.01


@pytest.mark.parametrize("share", [0.0, -0.1, 0.999, 2.0])
def test_tissue_that_cannot_be_is_refused(share):
    with pytest.raises(InputError, match="tissue cannot cover"):
        cover(random_scene(1, WIDTH, HEIGHT, 40.0), WIDTH, HEIGHT, share)


@pytest.mark.parametrize("per_mm2", [0.0, 20_000.0, float("nan")])
def test_a_density_that_cannot_be_is_refused_with_what_can(per_mm2):
    with pytest.raises(InputError, match=r"give \d+ to 1\d,\d+"):
        crowd(random_scene(1, WIDTH, HEIGHT, 40.0), random_look(1), per_mm2)


def test_glass_cannot_be_covered():
    with pytest.raises(InputError, match="tissue cannot cover"):
        cover(random_scene(1, WIDTH, HEIGHT, 40.0, tissue=False), WIDTH, HEIGHT, 0.5)


def test_a_dense_slide_is_written_with_its_truth(tmp_path):
    size = {"width": 1600, "height": 1200, "percent_positive": 40.0, "seed": 3}
    plain = simulate_slide(tmp_path / "plain.tiff", **size)
    dense = simulate_slide(tmp_path / "dense.tiff", **size, tissue_share=0.5, nuclei_per_mm2=12_000.0)
    assert len(dense.read()) == pytest.approx(0.5 * 1600 * 1200 * 0.25e-6 * 12_000, rel=0.05)
    assert len(dense.read()) > 1.5 * len(plain.read())
    assert dense.percent_positive == pytest.approx(40.0, abs=8.0)
