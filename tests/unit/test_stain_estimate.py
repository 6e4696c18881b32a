"""Stain vectors of a slide: known ones come back, and what cannot be estimated is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ercohort.config import Config, StainSettings, TissueSettings
from ercohort.errors import SlideError, Status
from ercohort.record import SlideRecord
from ercohort.run import run_slide
from ercohort.simulate.look import SlideLook, random_look
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import random_scene
from ercohort.slide import open_slide
from ercohort.stain import measure, stain_matrix
from ercohort.stain_estimate import (
    MAX_FAILED,
    ImplausibleError,
    degrees_between,
    estimate_vectors,
    vectors_of,
)
from ercohort.stain_vectors import DAB, DEFAULT_VECTORS, HEMATOXYLIN, StainVectors
from ercohort.steps.tissue import mask_tissue
from ercohort.tissue import find_tissue
from tests.slides import write_pyramid
from tests.tiny_onnx import write_detector

SIDE = 1000.0
OTHERS = (
    ((0.80, 0.55, 0.22), (0.32, 0.50, 0.80)),
    ((0.55, 0.78, 0.30), (0.22, 0.62, 0.75)),
)  # fmt: skip


def look_of(seed: int, hematoxylin: tuple[float, ...], dab: tuple[float, ...]) -> SlideLook:
    own = random_look(seed)
    one, other = (np.array(stain) / np.linalg.norm(stain) for stain in (hematoxylin, dab))
    return replace(own, hematoxylin=tuple(one), dab=tuple(other), dab_strength=max(0.5, own.dab_strength))


def field(look: SlideLook, seed: int, percent_positive: float) -> np.ndarray:
    scene = random_scene(seed, SIDE, SIDE, percent_positive)
    return render_block(scene, look, 200, 200, 600, 600, 1.0)


@pytest.mark.parametrize(("hematoxylin", "dab"), [(HEMATOXYLIN, DAB), *OTHERS])
@pytest.mark.parametrize(("seed", "percent_positive"), [(0, 40.0), (1, 10.0), (3, 80.0)])
def test_known_vectors_come_back(hematoxylin, dab, seed, percent_positive):
    look = look_of(seed, hematoxylin, dab)
    found = vectors_of(field(look, seed, percent_positive).reshape(-1, 3), look.glass)
    assert found.source == "estimate"
    assert degrees_between(found.hematoxylin, hematoxylin) < 3
    assert degrees_between(found.dab, dab) < 6
    if dab != DAB:  # nearer than the defaults, or it would be of no use
        assert degrees_between(found.hematoxylin, hematoxylin) < degrees_between(HEMATOXYLIN, hematoxylin)
        assert degrees_between(found.dab, dab) < degrees_between(DAB, dab)


def mixed(n: int, hematoxylin: tuple[float, ...], dab: tuple[float, ...], brown: int) -> np.ndarray:
    """Give n blue and some brown pixels of these stains, on white glass."""
    rng = np.random.default_rng(0)
    amounts = np.zeros((n + brown, 2))
    amounts[:n, 0], amounts[n:, 1] = rng.uniform(0.3, 0.8, n), rng.uniform(0.5, 1.0, brown)
    stains = np.array([np.array(stain) / np.linalg.norm(stain) for stain in (hematoxylin, dab)])
    return np.clip(np.rint(255 * 10 ** -(amounts @ stains)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (mixed(50_000, HEMATOXYLIN, DAB, 300), "too little DAB to estimate from: 300 of 50,300 pixels"),
        (mixed(300, HEMATOXYLIN, DAB, 50_000), "too little haematoxylin to estimate from: 300 of"),
        (np.full((9_000, 3), 255, np.uint8), "too little haematoxylin to estimate from: 0 of 0 pixels"),
        (mixed(20_000, (0.52, 0.66, 0.52), (0.42, 0.64, 0.60), 20_000), "degrees apart, too few"),
        (mixed(20_000, (1.0, 0.0, 0.1), DAB, 20_000), "degrees from the usual one"),
    ],
)
def test_what_cannot_be_estimated_is_said(pixels, reason):
    with pytest.raises(ImplausibleError, match=reason):
        vectors_of(pixels, (255.0, 255.0, 255.0))


def test_pure_colours_come_back_exactly():
    found = vectors_of(mixed(30_000, *OTHERS[0], 2_000), (255.0, 255.0, 255.0))
    assert degrees_between(found.hematoxylin, OTHERS[0][0]) < 1
    assert degrees_between(found.dab, OTHERS[0][1]) < 1


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """A slide of other stains, and one without a brown nucleus; glass all around."""
    folder = tmp_path_factory.mktemp("stained")
    for name, percent in (("other", 40.0), ("negative", 0.0)):
        look = look_of(0, *OTHERS[0])
        look = look if percent else replace(look, negative_dab=0.0, cytoplasm_dab=0.0)
        picture = np.empty((1000, 1000, 3), np.uint8)
        picture[:] = np.rint(look.glass)
        picture[200:800, 200:800] = field(look, 0, percent)
        write_pyramid(folder / f"{name}.tif", picture)
    return folder


def find(slides: Path, name: str, folder: Path, vectors: str) -> StainVectors:
    folder.mkdir(exist_ok=True)
    path = str(slides / f"{name}.tif")
    mask_tissue(
        slide_id=name, path=path, readable=path, mpp=1.0, settings=TissueSettings(), folder=folder,
        stain=StainSettings(vectors=vectors),
    )  # fmt: skip
    record = SlideRecord.read(folder / "slide.json")
    assert record.tissue is not None
    return record.tissue.stain


def test_slide_json_holds_the_vectors_and_where_they_come_from(slides, tmp_path):
    found = find(slides, "other", tmp_path / "a", "estimate")
    assert found.source == "estimate"
    assert degrees_between(found.hematoxylin, OTHERS[0][0]) < 3
    assert degrees_between(found.dab, OTHERS[0][1]) < 6
    assert find(slides, "other", tmp_path / "b", "estimate") == found  # the same on every run
    assert find(slides, "other", tmp_path / "c", "default") == DEFAULT_VECTORS
    without = find(slides, "negative", tmp_path / "d", "estimate")
    assert (without.hematoxylin, without.dab, without.source) == (HEMATOXYLIN, DAB, "default")
    assert "too little DAB" in without.message


def test_a_damaged_slide_does_not_keep_its_reader_busy(slides):
    with open_slide(slides / "other.tif", mpp=1.0) as slide:
        tissue = find_tissue(slide, TissueSettings())
        tried = []

        def fail(*place, **more):
            tried.append(place)
            raise SlideError(Status.UNREADABLE, "damaged")

        slide.read = fail
        found = estimate_vectors(slide, tissue)
    assert len(tried) == MAX_FAILED
    assert (found.source, found.message) == ("default", "no window of the tissue could be read")


def test_what_the_margin_and_damage_add_to_the_mask_is_not_sampled(slides):
    with open_slide(slides / "other.tif", mpp=1.0) as slide:
        tissue = find_tissue(slide, TissueSettings(margin_um=0))
        everywhere = replace(tissue, mask=np.ones_like(tissue.mask))
        assert estimate_vectors(slide, everywhere) == estimate_vectors(slide, tissue)


def test_a_record_of_an_earlier_version_has_the_default_vectors(slides, tmp_path):
    find(slides, "other", tmp_path, "default")
    values = json.loads((tmp_path / "slide.json").read_text())
    del values["tissue"]["stain"]
    (tmp_path / "slide.json").write_text(json.dumps(values))
    assert SlideRecord.read(tmp_path / "slide.json").tissue.stain == DEFAULT_VECTORS


def test_nuclei_are_measured_with_them_and_the_table_says_so(slides, tmp_path):
    model = write_detector(tmp_path / "er.onnx")
    rows, density = {}, {}
    for vectors in ("default", "estimate"):
        config = Config(model=str(model), precision="f32", stain={"vectors": vectors}, detect={"score": 0.3})
        made = run_slide(
            str(slides / "other.tif"), tmp_path / vectors, config, mpp=1.0, gpu=0, report=lambda *_: None
        )
        rows[vectors] = made.row
        density[vectors] = pl.read_parquet(made.folder / "nuclei.parquet").select("dab_od", "hematoxylin_od")
    assert rows["default"]["stain_vectors"] == "default"
    assert rows["estimate"]["stain_vectors"].startswith("estimate: haematoxylin 0.")
    assert rows["estimate"]["n_nuclei"] == rows["default"]["n_nuclei"] > 0
    assert not np.allclose(density["default"].to_numpy(), density["estimate"].to_numpy(), atol=0.01)
    summary = json.loads((tmp_path / "estimate" / "summary.json").read_text())
    assert summary["row"]["stain_vectors"] == rows["estimate"]["stain_vectors"]


def test_planted_amounts_of_other_stains_come_back():
    vectors = StainVectors(*OTHERS[0], source="estimate")
    stains = stain_matrix(vectors)[:2]
    image = np.empty((40, 40, 3), np.uint8)
    image[:] = np.round(255 * 10 ** -(np.array([0.3, 0.6]) @ stains))
    dab_od, hematoxylin_od = measure(image, np.array([[5, 5, 30, 30]], np.float32), (255.0,) * 3, vectors)
    assert abs(dab_od[0] - 0.6) < 0.012
    assert abs(hematoxylin_od[0] - 0.3) < 0.012
