"""Focus, ink, thickness, stains and clipping of a simulated slide, sound and with each fault put into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from ercohort import quality
from ercohort.config import QualitySettings, ScoreSettings, TissueSettings
from ercohort.errors import SlideError, Status
from ercohort.quality import QualityRecord, is_ink, measure_quality, sharpness
from ercohort.quality_flags import judge_slide, qc_flags
from ercohort.record import SlideRecord
from ercohort.simulate.look import random_look
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import random_scene
from ercohort.slide import open_slide
from ercohort.slide_score import RegionChoice
from ercohort.stain_vectors import DAB, DEFAULT_VECTORS, HEMATOXYLIN
from ercohort.steps.tissue import mask_tissue
from ercohort.tissue import find_tissue
from tests import slides

SEED, MPP, WIDTH, HEIGHT = 11, 0.5, 2048, 1536
LOOK = random_look(SEED)


def render(*, percent_positive: float = 40.0, **look: float) -> slides.Array:
    scene = random_scene(SEED, WIDTH * MPP, HEIGHT * MPP, percent_positive)
    return render_block(scene, replace(LOOK, **look), 0, 0, WIDTH, HEIGHT, MPP)


@pytest.fixture(scope="module")
def picture() -> slides.Array:
    return render()


Measure = Callable[..., QualityRecord]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    def run(picture: slides.Array, mpp: float = 8.0) -> QualityRecord:
        path = slides.write_pyramid(tmp_path / "a.tiff", picture, MPP)
        with open_slide(path) as slide:
            return measure_quality(slide, find_tissue(slide, TissueSettings(mpp=mpp)))

    return run


def flags(record: QualityRecord) -> str | None:
    """Return the flags of a slide on which nothing was counted."""
    slide = SlideRecord("a", "a.tiff", Status.OK, quality=record)
    row = {"n_tiles": 10, "n_tiles_failed": 0}
    return qc_flags(
        judge_slide(slide, row, None, QualitySettings(), ScoreSettings(), detector_mpp=0.5, n_dropped=0)
    )


def blurred(picture: slides.Array, um: float) -> slides.Array:
    sigma = um / MPP
    return np.asarray(ndimage.gaussian_filter(picture, (sigma, sigma, 0)))


def noisy(picture: slides.Array) -> slides.Array:
    noise = np.random.default_rng(1).normal(0, 4, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def stroke(picture: slides.Array, colour: tuple[int, int, int]) -> slides.Array:
    """Draw a stroke of 300 µm across the slide; ink lets some of the tissue through."""
    light = picture.astype(np.float32)
    light[500:1100] *= np.array(colour) / 255
    return light.astype(np.uint8)


def folded(picture: slides.Array, layers: int) -> slides.Array:
    """Lay more layers of the tissue upon each other in a band of 150 µm."""
    light = picture / np.array(LOOK.glass)
    light[700:1000] **= layers
    return (light * LOOK.glass).clip(0, 255).astype(np.uint8)


def exposed(picture: slides.Array, factor: float) -> slides.Array:
    return (picture * np.float32(factor)).clip(0, 255).astype(np.uint8)


def darkened(picture: slides.Array) -> slides.Array:
    """Raise the contrast until what is stained is black, as in some published fields."""
    return ((picture.astype(np.float32) - 175) * 3).clip(0, 255).astype(np.uint8)


def half(picture: slides.Array) -> slides.Array:
    return np.concatenate([blurred(picture, 4.0)[:, : WIDTH // 2], picture[:, WIDTH // 2 :]], axis=1)


def bubble(picture: slides.Array) -> slides.Array:
    return slides.with_bubble(picture, MPP, (1000, 700), 150.0)


BLUE, GREEN, RED, BLACK = (20, 60, 190), (20, 120, 60), (220, 30, 40), (55, 52, 54)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (np.copy, None),
        (lambda picture: blurred(picture, 0.5), None),
        (noisy, None),
        (lambda picture: blurred(picture, 3.0), "out_of_focus"),
        (lambda picture: noisy(blurred(picture, 3.0)), "out_of_focus"),
        (lambda picture: noisy(blurred(picture, 10.0)), "out_of_focus"),
        (half, "out_of_focus"),
        (lambda picture: stroke(picture, BLUE), "pen"),
        (lambda picture: stroke(picture, GREEN), "pen"),
        (lambda picture: stroke(picture, RED), "pen"),
        (lambda picture: stroke(picture, BLACK), "pen"),
        (lambda picture: folded(picture, 5), "folds"),
        (bubble, "bubbles"),
        (lambda picture: exposed(picture, 1.5), "saturated"),
        (lambda picture: exposed(picture, 0.8), None),
        (darkened, "saturated"),
    ],
    ids=[
        "sound", "soft", "noise", "blurred", "blurred-noise", "lost", "half-blurred", "blue", "green", "red",
        "black", "fold", "bubble", "overexposed", "dim", "black-nuclei",
    ],
)  # fmt: skip
def test_each_fault_raises_its_flag_and_no_other(fault, expected, picture, measure) -> None:
    assert flags(measure(fault(picture))) == expected


def without_counterstain() -> slides.Array:
    weak = {
        name: 0.1 * getattr(LOOK, name)
        for name in ("hematoxylin_strength", "stroma_hematoxylin", "cytoplasm_hematoxylin")
    }
    return render(**weak)


def test_a_slide_that_was_not_counterstained_is_flagged(measure: Measure) -> None:
    assert flags(measure(without_counterstain())) == "faint_counterstain"


def test_a_slide_without_brown_asks_for_the_control(picture: slides.Array, measure: Measure) -> None:
    assert flags(measure(render(percent_positive=0.0))) == "no_dab"


def test_a_slide_that_is_dark_all_over_is_not_folded(picture: slides.Array, measure: Measure) -> None:
    glass = np.array(LOOK.glass)
    dark = (np.clip(picture / glass, 0, 1) ** 4 * glass).astype(np.uint8)
    assert measure(dark).thick_share < QualitySettings().folds


def test_the_share_out_of_focus_is_that_of_the_tissue(picture: slides.Array, measure: Measure) -> None:
    least = QualitySettings().least_sharpness
    patches = measure(half(picture)).patches
    left = [patch.sharpness < least for patch in patches if patch.x < WIDTH / 2 - 200]
    right = [patch.sharpness < least for patch in patches if patch.x > WIDTH / 2 + 200]
    assert len(left) > 5
    assert len(right) > 5
    assert all(left)
    assert not any(right)


def test_patches_lie_in_tissue_all_over_the_slide_and_in_the_order_of_the_file(
    picture: slides.Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "N_PATCHES", 16)
    path = slides.write_pyramid(tmp_path / "a.tiff", picture, MPP)
    with open_slide(path) as slide:
        tissue = find_tissue(slide, TissueSettings())
        patches = measure_quality(slide, tissue).patches
    centres = np.array([(patch.y, patch.x) for patch in patches])
    assert len(centres) == 16
    assert [tuple(centre) for centre in centres] == sorted({tuple(centre) for centre in centres})
    found = np.argwhere(tissue.found) * (tissue.downsample_y, tissue.downsample_x)
    for axis in (0, 1):
        quartiles = np.quantile(found[:, axis], [0.25, 0.5, 0.75])
        share = np.bincount(np.searchsorted(quartiles, centres[:, axis]), minlength=4) / len(centres)
        assert share.min() > 0.1
    inside = [
        tissue.found[int(y / tissue.downsample_y) + dy, int(x / tissue.downsample_x) + dx]
        for y, x in centres
        for dy in (-4, 4)
        for dx in (-4, 4)
    ]
    assert np.mean(inside) > 0.8


class Damaged:
    """A slide of which some windows cannot be read."""

    def __init__(self, slide, fails: Callable[[int], bool]) -> None:
        self.info = slide.info
        self._slide, self._fails, self.n_asked = slide, fails, 0

    def read(self, *window: int, mpp: float) -> NDArray[np.uint8]:
        self.n_asked += 1
        if self._fails(self.n_asked):
            raise SlideError(Status.UNREADABLE, "cannot be decoded")
        return self._slide.read(*window, mpp=mpp)


@pytest.mark.parametrize(
    ("fails", "n_asked", "n_patches"),
    [(lambda n: n in (2, 5), 12, 10), (lambda n: n > 5, 9, 5), (lambda n: True, 4, 0)],
)
def test_a_damaged_slide_is_measured_where_it_can_be_read(
    fails, n_asked, n_patches, picture, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(quality, "N_PATCHES", 12)
    path = slides.write_pyramid(tmp_path / "a.tiff", picture, MPP)
    with open_slide(path) as slide:
        tissue = find_tissue(slide, TissueSettings())
        damaged = Damaged(slide, fails)
        record = measure_quality(damaged, tissue)
    assert (damaged.n_asked, len(record.patches)) == (n_asked, n_patches)
    assert record.pen_share == 0.0
    assert (record.hematoxylin_od is None) == (n_patches == 0)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_focus_is_judged_at_one_scale_whatever_the_slides(mpp: float, picture, tmp_path) -> None:
    fine = picture if mpp == MPP else picture[:768, :1024].repeat(2, axis=0).repeat(2, axis=1)
    path = slides.write_pyramid(tmp_path / "a.tiff", fine, mpp)
    with open_slide(path) as slide:
        found = find_tissue(slide, TissueSettings())
        values = [patch.sharpness for patch in measure_quality(slide, found).patches]
    assert np.median(values) == pytest.approx(0.165, rel=0.15)


def densest(picture: slides.Array) -> NDArray[np.float32]:
    """Return the patch of a picture with the most contrast, (256, 256)."""
    patches = [
        picture[y : y + 256, x : x + 256, 1] for y in range(0, HEIGHT, 256) for x in range(0, WIDTH, 256)
    ]
    return max(patches, key=np.std).astype(np.float32)


PATCH = densest(render())


@settings(deadline=None, max_examples=40)
@given(contrast=st.floats(0.5, 1.0), brightness=st.floats(0.0, 100.0))
def test_sharpness_knows_neither_contrast_nor_brightness(contrast: float, brightness: float) -> None:
    value = sharpness(PATCH * np.float32(contrast) + np.float32(brightness))
    assert value == pytest.approx(sharpness(PATCH), rel=0.15)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.6, 5.0), st.floats(0.3, 5.0))
def test_the_more_blur_the_less_sharpness(first: float, more: float) -> None:
    values = [sharpness(ndimage.gaussian_filter(PATCH, sigma)) for sigma in (first, first + more)]
    assert values[1] < values[0]


@pytest.mark.parametrize("noise", [2.0, 4.0])
def test_noise_is_not_taken_for_sharpness(noise: float) -> None:
    soft = ndimage.gaussian_filter(PATCH, 6.0)
    values = soft + np.random.default_rng(1).normal(0, noise, soft.shape).astype(np.float32)
    assert sharpness(values) == pytest.approx(sharpness(soft), abs=0.002)


@pytest.mark.parametrize(
    "patch",
    [np.full((256, 256), 240.0), np.random.default_rng(1).normal(200, 3, (256, 256)), np.zeros((20, 256))],
    ids=["even", "noise", "tiny"],
)
def test_a_patch_that_shows_nothing_is_not_out_of_focus(patch: NDArray[np.float64]) -> None:
    assert sharpness(patch.astype(np.float32)) is None


@settings(deadline=None, max_examples=40)
@given(
    cyan=st.floats(0.0, 1.0),
    amounts=st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 1.0)),
)
def test_no_mixture_of_stains_is_coloured_ink(cyan, amounts) -> None:
    """Black is left out: enough of any stain is black, but never over a whole square of 64 µm."""
    purple, blue, dab, eosin = (0.65, 0.70, 0.29), (0.87, 0.46, 0.22), (0.27, 0.57, 0.78), (0.07, 0.99, 0.11)
    hematoxylin = (1 - cyan) * np.array(purple) + cyan * np.array(blue)
    brown, pink = amounts[1] * np.array(dab), amounts[2] * np.array(eosin)
    density = (amounts[0] * hematoxylin + brown + pink * (amounts[1] < 0.1)).astype(np.float32)
    black = density.min() > 0.5 and density.min() > 0.8 * density.max()
    assert not is_ink(density) or black


def test_nothing_is_measured_on_glass(measure: Measure) -> None:
    nothing = QualityRecord((), None, None, None, None, None)
    assert measure(slides.glass(800, 600)) == nothing
    assert flags(nothing) is None


def test_the_tissue_step_notes_what_it_measured(
    picture: slides.Array, measure: Measure, tmp_path: Path
) -> None:
    marked = stroke(picture, GREEN)
    expected = measure(marked)
    path = str(tmp_path / "a.tiff")
    mask_tissue(slide_id="a", path=path, readable=path, mpp=None, settings=TissueSettings(), folder=tmp_path)
    assert SlideRecord.read(tmp_path / "slide.json").quality == expected


@pytest.mark.parametrize("mpp", [1.0, 2.0, 4.0, 8.0, 10.0])
def test_thickness_is_the_same_at_every_scale_of_the_mask(measure, picture, mpp):
    sound, fold = measure(picture, mpp).thick_share, measure(folded(picture, 5), mpp).thick_share
    assert sound < 0.01
    assert fold == pytest.approx(measure(folded(picture, 5)).thick_share, rel=0.35)
    assert fold > 0.03


def test_a_mask_too_coarse_to_tell_faults_from_nuclei_says_nothing(measure, picture):
    found = measure(bubble(folded(stroke(picture, BLACK), 5)), 32.0)
    assert (found.pen_share, found.thick_share, found.bubble_share) == (None, None, None)
    assert found.patches


def test_the_counterstain_is_measured_with_the_vectors_of_the_slide(measure, picture, tmp_path):
    with open_slide(slides.write_pyramid(tmp_path / "b.tiff", picture, MPP)) as slide:
        tissue = find_tissue(slide, TissueSettings())
        swapped = replace(DEFAULT_VECTORS, hematoxylin=DAB, dab=HEMATOXYLIN, source="estimate")
        other = measure_quality(slide, tissue, swapped)
    assert other.dab_od > 1.3 * measure(picture).dab_od or other.dab_od < 0.7 * measure(picture).dab_od


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([], "pen"),
        ([("Tumor", (0, 0, WIDTH, HEIGHT))], "pen"),
        ([("Ignore*", (0, 450, WIDTH, 1150))], None),
        ([("Tumor", (0, 0, WIDTH, 450))], None),
        ([("Control", (0, 450, WIDTH, 1150))], None),
        ([("Tumor", (0, 0, WIDTH, 450)), ("Other", (0, 450, WIDTH, 1100))], None),
    ],
    ids=["none", "all", "left out", "beside it", "control", "apart"],
)
def test_what_no_region_has_raises_no_flag(picture, tmp_path, drawn, expected) -> None:
    path = slides.write_pyramid(tmp_path / "a.tiff", stroke(picture, GREEN), MPP)
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.box(*box)),
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [0, 0, 0]}},
        }
        for name, box in drawn
    ]
    (tmp_path / "roi.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    mask_tissue(
        slide_id="a",
        path=str(path),
        readable=str(path),
        mpp=None,
        settings=TissueSettings(),
        folder=tmp_path,
        regions=RegionChoice(str(tmp_path / "roi.geojson") if drawn else None),
    )
    record = SlideRecord.read(tmp_path / "slide.json")
    assert record.quality is not None
    assert flags(record.quality) == expected
    # The mask, and with it the area that QuPath shows, are the whole slide's still.
    assert record.tissue is not None
    assert record.tissue.area_mm2 > 0.45


def test_a_file_of_regions_that_is_no_use_changes_nothing(picture, tmp_path) -> None:
    path = slides.write_pyramid(tmp_path / "a.tiff", picture, MPP)
    (tmp_path / "roi.geojson").write_text('{"type": "FeatureCollection", "features": 7}')
    for file in (None, str(tmp_path / "roi.geojson")):  # a file that is no use is the merge's to report
        mask_tissue(
            slide_id="a", path=str(path), readable=str(path), mpp=None, settings=TissueSettings(),
            folder=tmp_path, regions=RegionChoice(file),
        )  # fmt: skip
        quality = SlideRecord.read(tmp_path / "slide.json").quality
        assert quality is not None
        assert quality.patches
