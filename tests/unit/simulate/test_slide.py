"""Simulated slides on disk: read by OpenSlide with the right scale, equal by seed, with their truth."""

import numpy as np
import openslide
import polars as pl
import pytest

from ercohort.errors import InputError
from ercohort.schema import LABELS, POSITIVE
from ercohort.simulate import simulate_cohort, simulate_slide, simulate_tile
from ercohort.simulate import slide as slide_module

SIZE = {"width": 1300, "height": 900}


def _pixels(path):
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "slide.tiff"
    return simulate_slide(path, **SIZE, percent_positive=40.0, seed=4, dab_strength=0.8)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_openslide_reads_a_pyramid_with_its_scale(tmp_path, mpp):
    simulate_slide(tmp_path / "s.tiff", **SIZE, mpp=mpp, percent_positive=10.0, seed=1)
    with openslide.OpenSlide(tmp_path / "s.tiff") as slide:
        assert slide.dimensions == (1300, 900)
        assert slide.level_count >= 3
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-4)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp, rel=1e-4)


def test_truth_has_its_columns_and_lies_on_the_slide(truth):
    table = truth.read()
    assert dict(table.schema) == slide_module.TRUTH
    assert truth.table_path.name == "slide.truth.parquet"
    assert len(table) == truth.n_positive + truth.n_negative > 300
    assert truth.n_positive == (table["label"] == POSITIVE).sum()
    assert truth.percent_positive == pytest.approx(40.0, abs=8.0)
    assert table["x0"].min() >= 0.0
    assert table["x1"].max() <= 1300.0
    assert table["y1"].max() <= 900.0
    assert ((table["x1"] - table["x0"]) > 0.0).all()


def test_pixels_in_the_boxes_have_the_colour_of_the_label(truth):
    image = _pixels(truth.path).astype(float)
    table = truth.read().with_columns(
        x=(pl.col("x0") + pl.col("x1")) / 2, y=(pl.col("y0") + pl.col("y1")) / 2
    )
    colour = image[table["y"].to_numpy().astype(int), table["x"].to_numpy().astype(int)]
    brown = colour[:, 0] > colour[:, 2]
    positive = (table["label"] == POSITIVE).to_numpy()
    assert brown[positive].mean() > 0.93
    assert brown[~positive].mean() < 0.05


def test_same_seed_same_slide_whatever_the_block_and_threads(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(slide_module, "_BLOCK_PX", 333)
    monkeypatch.setattr(slide_module, "_STRIP_PX", 101)
    again = simulate_slide(
        tmp_path / "again.tiff", **SIZE, percent_positive=40.0, seed=4, dab_strength=0.8, threads=3
    )
    assert np.array_equal(_pixels(again.path), _pixels(truth.path))
    assert again.read().equals(truth.read())


def test_glass_has_no_truth(tmp_path):
    truth = simulate_slide(tmp_path / "g.tiff", **SIZE, percent_positive=50.0, seed=1, tissue=False)
    assert truth.read().is_empty()
    assert np.isnan(truth.percent_positive)
    assert _pixels(truth.path).std() < 6.0


@pytest.mark.parametrize(
    ("change", "word"),
    [({"width": 0}, "width"), ({"mpp": 9.0}, "mpp"), ({"percent_positive": 130.0}, "percent_positive")],
)
def test_nonsense_is_refused_before_anything_is_written(tmp_path, change, word):
    values = {**SIZE, "mpp": 0.5, "percent_positive": 10.0, "seed": 1, **change}
    with pytest.raises(InputError, match=word):
        simulate_slide(tmp_path / "s.tiff", **values)
    assert list(tmp_path.iterdir()) == []


def test_cohort_holds_good_and_bad_slides(tmp_path):
    truths = simulate_cohort(tmp_path, width=900, height=700)
    sheet = pl.read_csv(tmp_path / "samples.tsv", separator="\t")
    assert sheet.columns == ["slide_id", "path", "block"]
    assert sheet["slide_id"].n_unique() == len(sheet) == 7
    exists = {row["slide_id"]: (tmp_path / row["path"]).is_file() for row in sheet.iter_rows(named=True)}
    assert [name for name, there in exists.items() if not there] == ["sim-missing"]
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(tmp_path / "sim-no-slide.tiff")
    shares = {truth.path.stem: truth.percent_positive for truth in truths}
    assert shares["sim-negative"] == 0.0
    assert 1.0 < shares["sim-low-positive"] < 10.0
    assert shares["sim-positive"] > 80.0
    assert np.isnan(shares["sim-no-tissue"])


def test_tiles_are_equal_by_seed_and_vary_in_scale():
    first, again, other = simulate_tile(1), simulate_tile(1), simulate_tile(2)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert first.image.shape == (320, 320, 3)
    assert first.mpp != other.mpp
    assert 0.4 <= first.mpp <= 0.6
    assert len(first.boxes) == len(first.positive)
    assert set(LABELS) == {"Positive", "Negative"}
