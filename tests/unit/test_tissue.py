"""Tissue and glass on simulated slides of 2 µm per pixel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ercohort.config import TissueSettings
from ercohort.errors import InputError
from ercohort.slide import open_slide
from ercohort.tissue import (
    Tissue,
    _densities,
    _density_of,
    _piece_means,
    _texture,
    _widen,
    find_tissue,
    load_tissue_mask,
    no_tissue,
    save_tissue,
)
from tests import slides

MPP = 2.0
WIDTH, HEIGHT = 1600, 1200
GLASS = (241, 240, 242)

HAEMATOXYLIN = (0.65, 0.70, 0.29)
DAB = (0.27, 0.57, 0.78)

Region = NDArray[np.bool_]


def island(cx: int = 800, cy: int = 600, rx: int = 450, ry: int = 330) -> Region:
    rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray(((cols - cx) / rx) ** 2 + ((rows - cy) / ry) ** 2 < 1)


def stain(
    picture: slides.Array,
    where: Region,
    vector: tuple[float, ...],
    stroma: float,
    nuclei: float,
    seed: int = 1,
) -> slides.Array:
    """Lay stroma and nuclei (optical densities) over a picture, by Beer and Lambert."""
    seeds = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.012
    nucleus = ndimage.binary_dilation(seeds, iterations=2)
    density = np.where(where, stroma + nuclei * nucleus, 0.0)
    light = 10 ** -(density[..., None] * np.array(vector) / max(vector))
    return (picture * light).round().astype(np.uint8)


def empty() -> slides.Array:
    return slides.glass(WIDTH, HEIGHT, GLASS)


Finder = Callable[..., Tissue]


@pytest.fixture
def find(tmp_path: Path) -> Finder:
    def run(picture: slides.Array, slide_mpp: float = MPP, **settings: float) -> Tissue:
        path = slides.write_pyramid(tmp_path / "a.tiff", picture, slide_mpp)
        with open_slide(path) as slide:
            return find_tissue(slide, TissueSettings(**settings))

    return run


def shrunk(where: Region, tissue: Tissue) -> Region:
    """Return a level-0 region at the scale of the mask: the pixels that lie in it altogether."""
    image = Image.fromarray(where.astype(np.uint8) * 255).resize(
        tissue.mask.shape[::-1], Image.Resampling.BOX
    )
    return np.asarray(image) == 255


def assert_found(tissue: Tissue, where: Region) -> None:
    """The mask holds the tissue, and reaches no further than the margin, closing and blur explain."""
    inner, outer = shrunk(where, tissue), ~shrunk(~where, tissue)
    reach = ndimage.distance_transform_edt(~outer) * 8.0
    assert tissue.mask[inner].mean() > 0.999
    assert not tissue.mask[reach > 40 + 32].any()


@pytest.mark.parametrize(
    ("vector", "stroma", "nuclei"),
    [
        pytest.param(HAEMATOXYLIN, 0.03, 0.25, id="pale haematoxylin"),
        pytest.param(HAEMATOXYLIN, 0.06, 0.0, id="pale stroma without nuclei"),
        pytest.param(HAEMATOXYLIN, 0.10, 0.6, id="haematoxylin"),
        pytest.param(DAB, 0.05, 0.4, id="weak DAB"),
        pytest.param(DAB, 0.8, 1.5, id="dense DAB"),
    ],
)
def test_every_staining_is_tissue(
    vector: tuple[float, ...], stroma: float, nuclei: float, find: Finder
) -> None:
    where = island()
    tissue = find(stain(empty(), where, vector, stroma, nuclei))
    assert_found(tissue, where)
    assert tissue.area_mm2 == pytest.approx(where.sum() * MPP**2 / 1e6, rel=0.06)
    np.testing.assert_allclose(tissue.background, GLASS, atol=1.5)


@pytest.mark.parametrize("glass", [(255, 255, 255), (250, 249, 251), (232, 230, 226), (205, 204, 210)])
def test_the_colour_of_glass_is_found(glass: tuple[int, int, int], find: Finder) -> None:
    where = island()
    tissue = find(stain(slides.glass(WIDTH, HEIGHT, glass), where, HAEMATOXYLIN, 0.08, 0.5))
    np.testing.assert_allclose(tissue.background, glass, atol=2)
    assert_found(tissue, where)


def test_a_sliver_of_glass_is_enough(find: Finder) -> None:
    where = np.ones((HEIGHT, WIDTH), bool)
    where[:, :80] = False
    tissue = find(stain(empty(), where, HAEMATOXYLIN, 0.08, 0.5))
    np.testing.assert_allclose(tissue.background, GLASS, atol=2)
    assert tissue.mask[:, 16:].all()  # 20 px of glass, less the margin


def test_a_field_that_is_all_tissue(find: Finder) -> None:
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    tissue = find(stain(empty(), everywhere, DAB, 0.25, 0.8))
    assert tissue.mask.all()
    assert all(220 <= value <= 255 for value in tissue.background)


@pytest.mark.parametrize("side", [40, 80, 160])
def test_a_tiny_field_is_not_too_small_a_piece(side: int, find: Finder) -> None:
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    picture = stain(empty(), everywhere, HAEMATOXYLIN, 0.1, 0.7)[:side, :side]
    assert find(np.ascontiguousarray(picture), 1.0).mask.all()


def dust(picture: slides.Array) -> slides.Array:
    spots = np.random.default_rng(5).random((HEIGHT, WIDTH)) < 2e-5
    spots = ndimage.binary_dilation(spots, iterations=8)
    return np.where(spots[..., None], 90, picture).astype(np.uint8)


def vignette(picture: slides.Array) -> slides.Array:
    rows, cols = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return (picture * (1 - 0.07 * (rows**2 + cols**2))[..., None]).astype(np.uint8)


def coarse_grain(picture: slides.Array) -> slides.Array:
    grain = np.random.default_rng(7).normal(0, 2.0, (HEIGHT // 4, WIDTH // 4, 3))
    return np.clip(picture + np.kron(grain, np.ones((4, 4, 1))), 0, 255).astype(np.uint8)


def stripes(picture: slides.Array) -> slides.Array:
    return (picture - 6 * ((np.arange(WIDTH) // 200) % 2)[:, None].astype(np.uint8)).astype(np.uint8)


@pytest.mark.parametrize("artefact", [np.copy, dust, vignette, stripes, coarse_grain])
def test_glass_alone_is_no_tissue(artefact: Callable[[slides.Array], slides.Array], find: Finder) -> None:
    tissue = find(artefact(empty()))
    assert not tissue.mask.any()
    assert tissue.area_mm2 == 0
    np.testing.assert_allclose(tissue.background, GLASS, atol=8)


@pytest.mark.parametrize("artefact", [dust, vignette, stripes, coarse_grain])
def test_artefacts_do_not_make_the_glass_tissue(
    artefact: Callable[[slides.Array], slides.Array], find: Finder
) -> None:
    where = island()
    tissue = find(artefact(stain(empty(), where, HAEMATOXYLIN, 0.08, 0.5)))
    assert tissue.mask[shrunk(where, tissue)].mean() > 0.999
    assert tissue.mask.mean() < where.mean() + 0.12


def test_a_pen_line_stays_a_line(find: Finder) -> None:
    picture = stain(empty(), island(), HAEMATOXYLIN, 0.08, 0.5)
    picture[60:110] = (40, 60, 160)
    assert find(picture).mask.mean() < island().mean() + 0.12


def test_black_surroundings_are_no_tissue(find: Finder) -> None:
    where = island()
    picture = stain(empty(), where, HAEMATOXYLIN, 0.05, 0.3)
    picture[:, :200] = 0
    picture[1000:, :] = (3, 2, 4)
    tissue = find(picture)
    assert_found(tissue, where)
    np.testing.assert_allclose(tissue.background, GLASS, atol=2)


def test_transparent_surroundings_are_no_tissue(tmp_path: Path) -> None:
    """White around darker glass: the glass is not tissue for that, nor is the white the glass."""
    where = island()
    picture = stain(slides.glass(WIDTH, HEIGHT, (228, 227, 230)), where, HAEMATOXYLIN, 0.06, 0.4)
    path = slides.write_scn(tmp_path / "a.scn", picture, offset=(700, 500), canvas=(4000, 3000), mpp=MPP)
    with open_slide(path) as slide:
        tissue = find_tissue(slide, TissueSettings())
    np.testing.assert_allclose(tissue.background, (228, 227, 230), atol=2)
    whole = np.zeros((3000, 4000), bool)
    whole[500 : 500 + HEIGHT, 700 : 700 + WIDTH] = where
    assert_found(tissue, whole)


def test_blank_fill_of_a_file_without_bounds_is_not_the_glass(find: Finder) -> None:
    where = island()
    picture = stain(slides.glass(WIDTH, HEIGHT, (228, 227, 230)), where, HAEMATOXYLIN, 0.06, 0.4)
    picture[:, :250] = 255
    tissue = find(picture)
    np.testing.assert_allclose(tissue.background, (228, 227, 230), atol=2)
    assert_found(tissue, where)


def test_glass_as_white_as_the_fill_is_glass(find: Finder) -> None:
    where = island()
    tissue = find(stain(np.full((HEIGHT, WIDTH, 3), 255, np.uint8), where, HAEMATOXYLIN, 0.06, 0.4))
    np.testing.assert_allclose(tissue.background, (255, 255, 255), atol=3)
    assert_found(tissue, where)


def test_fluorescence_has_no_tissue_in_our_sense(find: Finder) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[island()] = (2, 1, 60)
    picture[island(rx=60, ry=60)] = (4, 2, 230)
    assert not find(picture).mask.any()
    grey = np.repeat(picture[..., 2:], 3, axis=2)
    assert not find(grey).mask.any()


def test_settings_have_their_say(find: Finder) -> None:
    picture = stain(empty(), island(), HAEMATOXYLIN, 0.06, 0.0)
    assert not find(picture, min_od=0.2).mask.any()
    small = stain(empty(), island(rx=80, ry=60), HAEMATOXYLIN, 0.1, 0.5)  # 0.06 mm²
    assert find(small, min_area_mm2=0.03).mask.any()
    assert not find(small, min_area_mm2=0.10).mask.any()
    narrow, wide = find(picture, margin_um=0.0), find(picture, margin_um=200.0)
    assert narrow.area_mm2 == wide.area_mm2
    assert wide.mask.sum() > narrow.mask.sum() * 1.3
    assert find(picture, mpp=16.0).mask.shape == (150, 200)


def test_the_mask_of_an_enormous_slide_is_coarser(find: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = stain(empty(), island(), HAEMATOXYLIN, 0.06, 0.3)
    fine = find(picture)
    monkeypatch.setattr("ercohort.tissue.MAX_MASK_PX", fine.mask.size // 4)
    coarse = find(picture)
    assert coarse.mask.size <= fine.mask.size // 4
    assert coarse.downsample_x == pytest.approx(2 * fine.downsample_x)
    assert coarse.area_mm2 == pytest.approx(fine.area_mm2, rel=0.03)


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.4, 1.5, 5.0, 7.3])
def test_the_mask_is_widened_by_a_disk(radius: float) -> None:
    mask = np.random.default_rng(7).random((90, 70)) < 0.004
    expected = ndimage.distance_transform_edt(~mask) <= radius
    assert (_widen(mask, radius) == expected).all()


@pytest.mark.parametrize("band", [1, 16, 33])
def test_pieces_are_measured_band_by_band_as_at_once(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(120, 256, (70, 50, 3), dtype=np.uint8)
    pieces, n = ndimage.label(rng.random((70, 50)) < 0.5)
    density_of, shown = _density_of((240.0, 238.0, 241.0)), rng.random((70, 50)) < 0.9
    density = _densities(picture, density_of, shown).max(axis=2)
    monkeypatch.setattr("ercohort.tissue._BAND", band)
    means = _piece_means(pieces, n, picture, density_of, shown, density)[1:]
    index = np.arange(1, n + 1)
    layers = [*np.moveaxis(_densities(picture, density_of, shown), 2, 0), _texture(density)]
    expected = np.stack([ndimage.mean(layer, pieces, index) for layer in layers], axis=1)
    assert means == pytest.approx(expected, abs=1e-5)


def test_parts_that_cannot_be_read_are_tried(tmp_path: Path) -> None:
    """Their tiles fail and are counted, where leaving them out would hide them."""
    picture = stain(empty(), island(rx=200, ry=150), HAEMATOXYLIN, 0.08, 0.5)
    whole = slides.write_levels(tmp_path / "a.tiff", [picture], MPP, tile=256)
    damaged = slides.damage_tile(whole, tmp_path / "b.tiff", 0)
    with open_slide(whole) as slide, open_slide(damaged) as broken:
        sound, tissue = find_tissue(slide, TissueSettings()), find_tissue(broken, TissueSettings())
    assert tissue.mask[:60, :60].all()
    assert not sound.mask[:60, :60].any()
    assert tissue.area_mm2 == pytest.approx(sound.area_mm2, rel=0.02)


def test_mask_and_slide_have_one_frame(find: Finder) -> None:
    tissue = find(empty()[:1117, :1333])
    rows, cols = tissue.mask.shape
    assert cols * tissue.downsample_x == pytest.approx(1333)
    assert rows * tissue.downsample_y == pytest.approx(1117)
    assert tissue.thumbnail.shape == (rows, cols, 3)


def test_saved_masks_come_back(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((37, 53)) < 0.5
    found = mask & (np.random.default_rng(1).random((37, 53)) < 0.5)
    tissue = replace(no_tissue(), mask=mask, found=found, thumbnail=slides.glass(53, 37))
    save_tissue(tissue, tmp_path / "x" / "tissue.png", tmp_path / "x" / "thumbnail.jpg")
    np.testing.assert_array_equal(load_tissue_mask(tmp_path / "x" / "tissue.png", margin=True), mask)
    np.testing.assert_array_equal(load_tissue_mask(tmp_path / "x" / "tissue.png", margin=False), found)
    assert Image.open(tmp_path / "x" / "thumbnail.jpg").size == (53, 37)
    assert not no_tissue().mask.any()


def test_a_broken_mask_says_so(tmp_path: Path) -> None:
    (tmp_path / "tissue.png").write_bytes(b"no PNG")
    with pytest.raises(InputError, match="not a tissue mask"):
        load_tissue_mask(tmp_path / "tissue.png", margin=True)
