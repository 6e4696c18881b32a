"""The QuPath file: what it holds, where it lands, and that it never changes without reason."""

import json
import uuid
import zipfile
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import GeoJSONSettings
from ercohort.errors import GeoJSONError
from ercohort.files import write_table
from ercohort.geojson import COLOURS, class_colours, write_geojson
from ercohort.geojson_validate import validate_geojson
from ercohort.slide import SlideInfo, open_slide
from tests.colour_vision import VISION, least_distance
from tests.slides import write_scn

INFO = SlideInfo(
    path="slide.svs",
    vendor="aperio",
    width=40_000,
    height=30_000,
    mpp=0.25,
    mpp_source="file",
    level_dimensions=((40_000, 30_000),),
    level_downsamples=(1.0,),
    bounds=(300, 200, 20_000, 10_000),
    has_bounds=True,
    background=(255, 255, 255),
    reader="openslide",
    file_bytes=1,
)


def nuclei(boxes, labels=None, **columns):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    values = {
        "score": np.full(n, 0.9),
        "label": labels or ["Positive"] * n,
        "dab_od": np.full(n, 0.5),
        "hematoxylin_od": np.full(n, 0.25),
        "grade": np.zeros(n),
        "region": [""] * n,
        "tile_id": np.zeros(n),
        **columns,
    }
    table = pl.DataFrame({name: boxes[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))} | values)
    return table.select(pl.col(name).cast(dtype) for name, dtype in schema.NUCLEI.items())


def random_nuclei(n, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(300, 9_000, (n, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (n, 2))])
    return nuclei(boxes, rng.choice(schema.LABELS, n).tolist(), score=rng.uniform(0.4, 1, n))


def write(table, path, slide_id="S1", info=INFO, **settings):
    return write_geojson(table, path, slide_id=slide_id, info=info, settings=GeoJSONSettings(**settings))


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def features(path):
    return [feature for entry in entries(path).values() for feature in entry["features"]]


def test_a_feature_is_exactly_what_qupath_reads(tmp_path):
    table = nuclei([[1300.25, 1200.5, 1316.75, 1218.126]], ["Negative"], score=[0.87654321])
    write(table, tmp_path / "n.geojson.zip")
    (feature,) = features(tmp_path / "n.geojson.zip")
    assert uuid.UUID(feature.pop("id")).version == 8
    assert feature == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [
                    [1000.25, 1000.5],
                    [1016.75, 1000.5],
                    [1016.75, 1018.13],
                    [1000.25, 1018.13],
                    [1000.25, 1000.5],
                ]
            ],
            "isEllipse": True,
        },
        "properties": {
            "objectType": "detection",
            "classification": {"name": "Negative", "color": [112, 112, 225]},
            "measurements": {
                "Detection probability": 0.8765,
                "Nucleus: DAB OD mean": 0.5,
                "Nucleus: Hematoxylin OD mean": 0.25,
            },
        },
    }


@pytest.mark.parametrize(
    ("labels", "colours"),
    [
        (["Negative", "Positive"], [COLOURS["Negative"], COLOURS["Positive"]]),
        (["Strong", "Weak", "negative"], [COLOURS["Positive"], (255, 255, 0), COLOURS["Negative"]]),
        (["Weak", "Tumor: Positive", "Negative"], [(255, 255, 0), COLOURS["Positive"], COLOURS["Negative"]]),
        (["1+", "2+", "3+", "Negative"], [(255, 255, 0), (255, 187, 62), (250, 62, 62), (112, 112, 225)]),
    ],
)
def test_classes_keep_the_colours_that_qupath_gives_them(labels, colours):
    assert class_colours(labels) == dict(zip(labels, colours, strict=True))


def test_sixteen_classes_have_sixteen_colours():
    for first in ("Positive", "3+", "Other"):
        labels = [first, *(f"Class {number}" for number in range(14)), "Negative"]
        assert len(set(class_colours(labels).values())) == 16


@pytest.mark.parametrize("vision", VISION)
def test_the_first_classes_are_told_apart_with_any_colour_blindness(vision):
    colours = list(class_colours(["Positive", "Weak", "Moderate", "Mixed", "Negative"]).values())
    assert least_distance(colours, vision) > 25  # 2 is just visible, 10 at a glance


def test_a_file_has_the_classes_of_its_table(tmp_path):
    classes = ["Weak", "Tumor: Positive", "Negative"]
    table = nuclei([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]])
    table = table.with_columns(pl.Series("label", classes, dtype=pl.Enum(classes)))
    write_table(tmp_path / "n.parquet", table, schema.with_classes(schema.NUCLEI, classes))
    write(tmp_path / "n.parquet", tmp_path / "n.geojson.zip")
    report = validate_geojson(tmp_path / "n.geojson.zip")
    assert report.n_by_class == dict.fromkeys(classes, 1)
    written = [feature["properties"]["classification"] for feature in features(tmp_path / "n.geojson.zip")]
    assert written == [{"name": name, "color": list(c)} for name, c in class_colours(classes).items()]


def test_the_frame_is_recorded_and_only_qupaths_subtracts_the_bounds(tmp_path):
    table = nuclei([[1300, 1200, 1316, 1216]])
    firsts = {}
    for frame in ("qupath", "slide"):
        write(table, tmp_path / f"{frame}.geojson.zip", frame=frame)
        (entry,) = entries(tmp_path / f"{frame}.geojson.zip").values()
        firsts[frame] = entry["features"][0]["geometry"]["coordinates"][0][0]
        assert entry["slide_id"] == "S1"
        assert entry["notice"].startswith("Research use only")
        assert {key: entry["coordinate_frame"][key] for key in ("origin", "bounds_x", "bounds_y")} == {
            "origin": frame,
            "bounds_x": 300,
            "bounds_y": 200,
        }
    assert firsts == {"qupath": [1000, 1000], "slide": [1300, 1200]}


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_measurement_without_a_value_is_left_out(tmp_path, missing):
    table = nuclei([[0, 0, 9, 9]] * 2, dab_od=[missing, 0.1], hematoxylin_od=[missing, missing])
    write(table, tmp_path / "n.geojson.zip")
    first, second = (
        feature["properties"]["measurements"] for feature in features(tmp_path / "n.geojson.zip")
    )
    assert list(first) == ["Detection probability"]
    assert list(second) == ["Detection probability", "Nucleus: DAB OD mean"]


def test_without_any_measurement_the_json_stays_valid(tmp_path):
    table = nuclei([[0, 0, 9, 9]], score=[None], dab_od=[None], hematoxylin_od=[None])
    write(table, tmp_path / "n.geojson.zip")
    assert features(tmp_path / "n.geojson.zip")[0]["properties"]["measurements"] == {}


def test_entries_are_capped_and_keep_the_order(tmp_path):
    table = random_nuclei(2_500)
    assert write(table, tmp_path / "n.geojson.zip", features_per_file=1_000, frame="slide") == 2_500
    parts = entries(tmp_path / "n.geojson.zip")
    assert {name: len(part["features"]) for name, part in parts.items()} == {
        "S1-001.geojson": 1_000,
        "S1-002.geojson": 1_000,
        "S1-003.geojson": 500,
    }
    x = [feature["geometry"]["coordinates"][0][0][0] for feature in features(tmp_path / "n.geojson.zip")]
    np.testing.assert_allclose(x, table["x0"].to_numpy(), atol=0.0051)


def test_a_slide_without_nuclei_has_one_empty_entry(tmp_path):
    assert write(nuclei([]), tmp_path / "n.geojson.zip") == 0
    assert [part["features"] for part in entries(tmp_path / "n.geojson.zip").values()] == [[]]
    assert validate_geojson(tmp_path / "n.geojson.zip").n_features == 0


def test_a_parquet_file_gives_the_same_bytes_as_its_table_on_every_run(tmp_path):
    table = random_nuclei(20_000)
    write_table(tmp_path / "nuclei.parquet", table, schema.NUCLEI)
    write(table, tmp_path / "a.geojson.zip", features_per_file=9_000)
    write(tmp_path / "nuclei.parquet", tmp_path / "b.geojson.zip", features_per_file=9_000)
    assert (tmp_path / "a.geojson.zip").read_bytes() == (tmp_path / "b.geojson.zip").read_bytes()


def test_a_nucleus_keeps_its_id_in_any_order_frame_and_split(tmp_path):
    table = random_nuclei(3_000)
    write(table, tmp_path / "a.geojson.zip", frame="slide")
    write(table.reverse(), tmp_path / "b.geojson.zip", features_per_file=1_000)
    ids = [feature["id"] for feature in features(tmp_path / "a.geojson.zip")]
    assert ids == [feature["id"] for feature in features(tmp_path / "b.geojson.zip")][::-1]
    assert len(set(ids)) == 3_000


def test_ids_are_the_ones_that_earlier_versions_wrote(tmp_path):
    write(nuclei([[1300.25, 1200.5, 1316.75, 1218.12]]), tmp_path / "n.geojson.zip")
    assert features(tmp_path / "n.geojson.zip")[0]["id"] == "65b5d2ac-07e7-8b9b-bf91-fab8ca6ffbe9"


def test_another_slide_gives_other_ids(tmp_path):
    for slide_id in ("S1", "S2"):
        write(random_nuclei(100), tmp_path / f"{slide_id}.geojson.zip", slide_id)
    first, second = (
        {feature["id"] for feature in features(tmp_path / f"{slide_id}.geojson.zip")}
        for slide_id in ("S1", "S2")
    )
    assert not first & second


def test_identical_boxes_get_different_ids_across_entries(tmp_path):
    table = pl.concat([random_nuclei(1_200), random_nuclei(1_200)])
    write(table, tmp_path / "n.geojson.zip", features_per_file=1_000)
    assert len({feature["id"] for feature in features(tmp_path / "n.geojson.zip")}) == 2_400
    assert validate_geojson(tmp_path / "n.geojson.zip").n_features == 2_400


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-500, 250_000, width=32),
    y=st.floats(-500, 250_000, width=32),
    width=st.floats(0, 100, width=32),
    height=st.floats(0, 100, width=32),
)
def test_any_finite_box_is_a_ring_that_qupath_accepts(tmp_path_factory, x, y, width, height):
    path = tmp_path_factory.mktemp("box") / "n.geojson.zip"
    write(nuclei([[x, y, x + width, y + height]]), path, frame="slide")
    assert validate_geojson(path).n_features == 1
    (ring,) = features(path)[0]["geometry"]["coordinates"]
    assert np.ptp(ring, axis=0).min() > 0.09
    assert abs(ring[0][0] - x) <= 0.006


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_box_that_is_not_finite_is_refused_and_nothing_is_left(tmp_path, bad):
    boxes = np.tile([10.0, 10, 20, 20], (1_500, 1))
    boxes[1_203, 2] = bad
    with pytest.raises(GeoJSONError, match=r"slide S1: nucleus 1203 has the box"):
        write(nuclei(boxes), tmp_path / "n.geojson.zip", features_per_file=1_000)
    assert list(tmp_path.iterdir()) == []


def test_names_are_escaped(tmp_path):
    write(nuclei([]), tmp_path / "n.geojson.zip", slide_id='a"b\\c')
    (entry,) = entries(tmp_path / "n.geojson.zip").values()
    assert entry["slide_id"] == 'a"b\\c'


def test_geojson_lands_on_the_pixels_that_qupath_shows(tmp_path):
    """QuPath crops to the bounds: its pixel (x, y) is level-0 pixel (x + bounds-x, y + bounds-y)."""
    picture = np.full((768, 1024, 3), 235, np.uint8)
    planted = [(100, 60), (700, 500), (984, 728)]
    for x, y in planted:
        picture[y : y + 24, x : x + 24] = (60, 30, 20)
    path = write_scn(tmp_path / "slide.scn", picture, offset=(300, 200), canvas=(2000, 1500))
    with open_slide(path) as slide:
        info = slide.info
        assert info.bounds == (300, 200, 1024, 768)
        shown = slide.read(*info.bounds)  # what QuPath shows
    boxes = [[x + 300, y + 200, x + 324, y + 224] for x, y in planted]
    write(nuclei(boxes), tmp_path / "n.geojson.zip", info=info)
    for feature in features(tmp_path / "n.geojson.zip"):
        (x0, y0), _, (x1, y1), *_ = np.asarray(feature["geometry"]["coordinates"][0], int)
        assert shown[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].max() < 100
        around = shown[max(y0 - 8, 0) : y1 + 8, max(x0 - 8, 0) : x1 + 8].mean(axis=2) < 140
        assert around.sum() == pytest.approx(24 * 24, rel=0.05)


def test_no_bounds_means_one_frame(tmp_path):
    info = replace(INFO, bounds=(0, 0, 40_000, 30_000), has_bounds=False)
    for frame in ("qupath", "slide"):
        write(random_nuclei(50), tmp_path / f"{frame}.geojson.zip", info=info, frame=frame)
    first, second = (
        [feature["geometry"] for feature in features(tmp_path / f"{frame}.geojson.zip")]
        for frame in ("qupath", "slide")
    )
    assert first == second
