"""Virtual IHC: eosin gone, nuclei repainted where the outlines say so, boxes from the outlines."""

import numpy as np
import pytest

from ercohort.errors import InputError
from ercohort.training.virtual_ihc import (
    _background,
    _elongation,
    _random_stain,
    read_outlined_tile,
    unmix,
    virtual_ihc_tile,
)


@pytest.fixture(scope="module")
def sources(outlined):
    return [read_outlined_tile(path) for path in sorted(outlined.glob("*.jpg"))]


def test_unmix_tells_hematoxylin_from_eosin(sources):
    hematoxylin, eosin = unmix(sources[0].image)
    inside, outside = (40, 40), (10, 70)
    assert hematoxylin[inside] > 5.0 * max(float(hematoxylin[outside]), 0.01)
    assert eosin[outside] > 0.2


def test_outlines_are_read_in_pixels(sources):
    outline = sources[0].outlines[0]
    assert outline.shape == (24, 2)
    assert outline.mean(0) == pytest.approx([40.0, 40.0], abs=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_positive_nuclei_are_brown_and_negative_ones_blue(sources, seed):
    tile = virtual_ihc_tile(sources, seed, percent_positive=50.0)
    assert len(tile.boxes) == len(tile.positive) > 20
    centre = ((tile.boxes[:, :2] + tile.boxes[:, 2:]) / 2).astype(int)
    colour = tile.image[centre[:, 1], centre[:, 0]].astype(float)
    # Relative to the ground, because the glass may be warm.
    warmth = colour[:, 0] - colour[:, 2]
    assert warmth[tile.positive].mean() > warmth[~tile.positive].mean() + 15.0
    assert 0.3 < tile.positive.mean() < 0.7


def test_boxes_enclose_the_nuclei(sources):
    tile = virtual_ihc_tile(sources, 3, percent_positive=0.0)
    grey = tile.image.astype(float).mean(-1)
    inside = np.zeros(grey.shape, bool)
    for x0, y0, x1, y1 in np.round(tile.boxes).astype(int):
        inside[max(y0, 0) : y1, max(x0, 0) : x1] = True
    assert grey[inside].mean() < grey[~inside].mean() - 10.0
    whole = (tile.boxes[:, 2:] - tile.boxes[:, :2]).max(1)
    # Discs of 24 to 40 px at 0.25 µm are 9 to 26 px at 0.38 to 0.66 µm.
    assert np.median(whole) == pytest.approx(32.0 * 0.25 / tile.mpp, rel=0.15)


def test_same_seed_same_tile_and_scale_varies(sources):
    first, again = virtual_ihc_tile(sources, 5), virtual_ihc_tile(sources, 5)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    scales = [virtual_ihc_tile(sources, seed).mpp for seed in range(12)]
    assert 0.38 <= min(scales) < 0.47
    assert 0.55 < max(scales) <= 0.66


def test_a_nucleus_that_nobody_outlined_leaves_only_a_shadow(sources):
    texture, eosin = unmix(sources[0].image)
    rng = np.random.default_rng(1)
    stain = _random_stain(rng, 0.0)
    pale, _ = _background(texture, np.zeros_like(eosin), stain, rng)
    nucleus, ground = (40, 40), (10, 70)
    assert texture[nucleus] - texture[ground] > 0.8
    assert (pale[nucleus] - pale[ground]) / (stain.background * stain.hematoxylin) < 0.3


def test_spindles_are_told_by_their_shape():
    phi = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    assert _elongation(np.stack([9.0 * np.cos(phi), 3.0 * np.sin(phi)], 1)) == pytest.approx(3.0)


def test_missing_outlines_are_named(outlined, tmp_path):
    path = tmp_path / "alone.jpg"
    path.write_bytes(next(outlined.glob("*.jpg")).read_bytes())
    with pytest.raises(InputError, match=r"alone\.txt: outlines of alone\.jpg are missing"):
        read_outlined_tile(path)
    (tmp_path / "alone.txt").write_text("0 0.1 0.2 0.3 0.4\n")
    with pytest.raises(InputError, match="line 1"):
        read_outlined_tile(path)
