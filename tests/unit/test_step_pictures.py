"""The step that draws: every picture of every slide, whatever became of it, and what it says of itself."""

import importlib
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ercohort import schema
from ercohort.checksums import SLIDE_FILES, read_notes
from ercohort.errors import Status
from ercohort.files import read_json, write_json, write_table
from ercohort.record import SlideRecord, TissueRecord
from ercohort.simulate.slide import simulate_slide
from ercohort.slide import open_slide
from ercohort.slide.guarded import open_guarded
from ercohort.slide_score import RegionChoice
from ercohort.steps.export import PICTURES, draw_pictures
from tests.report_cohort import bad_summary, good_summary
from tests.slides import write_pyramid


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small simulated slide, as the steps before left it; its nuclei are the planted ones."""
    folder = tmp_path_factory.mktemp("made")
    truth = simulate_slide(folder / "s.tiff", width=600, height=500, percent_positive=30, seed=3)
    with open_slide(truth.path) as slide:
        info = slide.info
    SlideRecord(
        "S1", str(truth.path), Status.OK, info=info, tissue=TissueRecord(10, 10, (250, 250, 250), 0.07)
    ).write(folder / "slide.json")
    write_json(folder / "summary.json", good_summary("S1", 30))
    Image.fromarray(np.full((50, 60), 255, np.uint8)).save(folder / "tissue.png")
    nuclei = truth.read().with_columns(
        score=pl.lit(0.9), dab_od=pl.lit(0.3), hematoxylin_od=pl.lit(0.3), grade=pl.lit(1),
        region=pl.lit("tissue"), tile_id=pl.lit(0),
    )  # fmt: skip
    write_table(folder / "nuclei.parquet", nuclei, schema.NUCLEI)
    tiles = {name: [0] for name in schema.TILES} | {"core_x1": [600], "core_y1": [500]}
    write_table(folder / "tiles.parquet", pl.DataFrame(tiles), schema.TILES)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "S1")
    return tmp_path / "S1"


def pixels(folder, name="overlay.jpg"):
    return np.asarray(Image.open(folder / name)).astype(int)


def test_the_simulator_s_files_say_what_they_are_and_others_do_not(made, tmp_path, field):
    assert open_slide(made / "s.tiff").info.simulated
    with open_guarded(made / "s.tiff") as slide:
        assert slide.info.simulated
    assert not open_slide(write_pyramid(tmp_path / "other.tiff", field)).info.simulated
    record = SlideRecord.read(made / "slide.json")
    assert record.info is not None
    assert record.info.simulated
    older = read_json(made / "slide.json")
    del older["info"]["simulated"]
    write_json(tmp_path / "slide.json", older)
    assert SlideRecord.read(tmp_path / "slide.json").info is not None


def test_every_picture_is_drawn_noted_and_the_same_again_also_when_guarded(folder):
    draw_pictures(folder=folder)
    first = {name: (folder / name).read_bytes() for name in PICTURES}
    assert set(PICTURES) <= read_notes(folder).keys() & set(SLIDE_FILES)
    draw_pictures(folder=folder, guarded=True)
    assert {name: (folder / name).read_bytes() for name in PICTURES} == first


def test_pictures_of_a_simulated_slide_say_so(folder):
    draw_pictures(folder=folder)
    simulated = {name: pixels(folder, name) for name in PICTURES}
    record = read_json(folder / "slide.json")
    record["info"]["simulated"] = False
    write_json(folder / "slide.json", record)
    draw_pictures(folder=folder)
    for name, picture in simulated.items():
        other = pixels(folder, name)
        assert picture.shape == other.shape
        # The end of the line, "Research use only. Not for diagnosis.", stands on both.
        rows = slice(-60, -10)
        dark = [(one[rows, -500:] < 90).all(axis=2).sum() for one in (picture, other)]
        assert dark[0] == pytest.approx(dark[1], rel=0.1)
        assert dark[1] > 300
        assert (picture[rows, :-450] != other[rows, :-450]).any()


def test_a_slide_that_was_not_opened_has_a_card_for_every_picture(tmp_path):
    SlideRecord("S1", "gone.svs", Status.MISSING, "gone.svs: no such file").write(tmp_path / "slide.json")
    write_json(tmp_path / "summary.json", bad_summary("S1", "missing", "gone.svs: no such file"))
    draw_pictures(folder=tmp_path)
    assert {Image.open(tmp_path / name).size for name in PICTURES} == {(1200, 600)}
    assert set(PICTURES) <= read_notes(tmp_path).keys()


def test_regions_are_outlined_and_a_file_that_is_no_use_costs_no_picture(folder, tmp_path):
    draw_pictures(folder=folder)
    without = pixels(folder)
    ring = [[50, 50], [550, 50], [550, 450], [50, 450], [50, 50]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation"},
    }
    path = tmp_path / "roi.geojson"
    write_json(path, {"type": "FeatureCollection", "features": [feature]})
    draw_pictures(folder=folder, regions=RegionChoice(str(path)))
    assert (np.abs(pixels(folder) - without) > 60).any(axis=2).sum() > 5000
    path.write_text("no GeoJSON")
    draw_pictures(folder=folder, regions=RegionChoice(str(path)))
    np.testing.assert_array_equal(pixels(folder), without)


def test_pictures_show_what_the_score_counts_and_not_control_tissue(folder, tmp_path, monkeypatch):
    """The left half is control tissue, brown all over."""
    nuclei = pl.read_parquet(folder / "nuclei.parquet")
    is_left = (pl.col("x0") + pl.col("x1")) / 2 < 300
    nuclei = nuclei.with_columns(
        region=pl.when(is_left).then(pl.lit("Control")).otherwise(pl.lit("tissue")),
        label=pl.when(is_left).then(pl.lit("Positive")).otherwise(pl.lit("Negative")).cast(pl.Enum(schema.LABELS)),
        dab_od=pl.when(is_left).then(0.9).otherwise(0.1).cast(pl.Float32),
    )  # fmt: skip
    write_table(folder / "nuclei.parquet", nuclei, schema.NUCLEI)
    ring = [[0, 0], [300, 0], [300, 500], [0, 500], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "Control", "color": [0, 0, 0]}},
    }
    write_json(tmp_path / "roi.geojson", {"type": "FeatureCollection", "features": [feature]})
    shown = {}
    for module, name in (
        ("field_strip", "choose_informative"), ("pictures", "choose_fields"), ("heatmap", "count_bins"),
        ("od_histogram", "count_densities"),
    ):  # fmt: skip
        real = getattr(importlib.import_module(f"ercohort.{module}"), name)

        def note(*values, _real=real, _name=name, **named):
            shown[_name] = (*values, *named.values())
            return _real(*values, **named)

        monkeypatch.setattr(f"ercohort.{module}.{name}", note)
    draw_pictures(folder=folder, regions=RegionChoice(str(tmp_path / "roi.geojson")))
    n_counted = nuclei.filter(~is_left).height
    assert 10 < n_counted < nuclei.height
    assert {name: len(values[0]) for name, values in shown.items()} == dict.fromkeys(shown, n_counted)
    assert len(shown) == 4
