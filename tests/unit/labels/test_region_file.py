"""Regions and nuclei as a file that QuPath opens."""

import json
import uuid

import numpy as np
import polars as pl

from ercohort import schema
from ercohort.geojson_validate import validate_geojson
from ercohort.labels.annotations import read_labels
from ercohort.labels.region_file import region_of, write_regions
from tests.unit.labels.test_regions import slide as slide_info

BOX = ("x0", "y0", "x1", "y1")
CLASSES = {"Positive": "Positive", "Negative": "Negative"}


def nuclei(boxes, labels=None, scores=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    columns = dict(zip(BOX, boxes.T, strict=True)) | {"score": scores or [0.9] * n}
    columns |= {"label": labels or ["Positive"] * n, "dab_od": [0.5] * n, "hematoxylin_od": [0.25] * n}
    return pl.DataFrame(columns).select(
        pl.col(name).cast(kind) for name, kind in schema.NUCLEI.items() if name in columns
    )


def write(path, regions, table, info=None, *, frame="qupath", slide_id="S1"):
    regions = np.asarray(regions, np.int64).reshape(-1, 4)
    info = info or slide_info(4000, 3000, bounds=(300, 200, 3000, 2500))
    n = write_regions(path, regions, table, slide_id=slide_id, info=info, frame=frame, made={"seed": 1})
    content = json.loads(path.read_text())
    assert n == len(content["features"]) == validate_geojson(path).n_features
    assert validate_geojson(path).warnings == ()
    return content


def test_a_file_is_exactly_what_qupath_reads(tmp_path):
    table = nuclei([[410.25, 300.5, 426.75, 318.126]], ["Negative"], [0.87654321])
    content = write(tmp_path / "a.geojson", [[400, 300, 800, 700]], table)
    region, nucleus = content["features"]
    ids = [uuid.UUID(feature.pop("id")) for feature in (region, nucleus)]
    assert [item.version for item in ids] == [5, 5]
    assert region == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[100, 100], [500, 100], [500, 500], [100, 500], [100, 100]]],
        },
        "properties": {
            "objectType": "annotation",
            "name": "region 1",
            "classification": {"name": "Region*", "color": [0, 0, 180]},
        },
    }
    ring = [[110.25, 100.5], [126.75, 100.5], [126.75, 118.13], [110.25, 118.13], [110.25, 100.5]]
    assert nucleus == {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring], "isEllipse": True},
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
    assert content["slide_id"] == "S1"
    assert content["prelabel"] == {"seed": 1}


def test_the_slides_frame_keeps_its_origin(tmp_path):
    content = write(tmp_path / "a.geojson", [[400, 300, 800, 700]], nuclei([]), frame="slide")
    assert content["features"][0]["geometry"]["coordinates"][0][0] == [400, 300]
    assert content["coordinate_frame"] == {
        "origin": "slide", "bounds_x": 300, "bounds_y": 200, "width": 4000, "height": 3000,
    }  # fmt: skip


def test_nuclei_belong_to_a_region_by_their_centre_and_stay_whole(tmp_path):
    regions = [[400, 300, 800, 700], [800, 300, 1200, 700]]
    boxes = [
        [390, 400, 412, 420],  # centre 401: inside, hangs out
        [385, 400, 414, 420],  # centre 399.5: outside
        [790, 500, 810, 520],  # centre on the border of two: the right one
        [1190, 500, 1210, 520],  # centre on the last edge: outside
    ]
    assert region_of(nuclei(boxes), np.array(regions)).tolist() == [0, -1, 1, -1]
    content = write(tmp_path / "a.geojson", regions, nuclei(boxes))
    corners = [feature["geometry"]["coordinates"][0][0] for feature in content["features"][2:]]
    assert corners == [[90.0, 200.0], [490.0, 300.0]]


def test_equal_input_gives_equal_bytes_and_ids_that_never_repeat(tmp_path):
    regions = [[400, 300, 800, 700]]
    twins = nuclei([[500, 500, 520, 520], [500, 500, 520, 520], [500.001, 500, 520, 520]])
    files = [tmp_path / f"{name}.geojson" for name in "ab"]
    for file in files:
        write(file, regions, twins)
    assert files[0].read_bytes() == files[1].read_bytes()
    ids = {feature["id"] for feature in write(files[0], regions, twins)["features"]}
    others = {feature["id"] for feature in write(files[1], regions, twins, slide_id="S2")["features"]}
    assert len(ids | others) == 8


def test_a_box_without_width_and_a_density_without_value_are_written_so_that_qupath_reads_them(tmp_path):
    table = nuclei([[500, 500, 500, 520]]).with_columns(pl.lit(float("nan"), pl.Float32).alias("dab_od"))
    content = write(tmp_path / "a.geojson", [[400, 300, 800, 700]], table)
    measurements = content["features"][1]["properties"]["measurements"]
    assert list(measurements) == ["Detection probability", "Nucleus: Hematoxylin OD mean"]


def test_the_import_of_labels_reads_back_the_same_regions_and_boxes(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.uniform(410, 780, (60, 2)).round(2)
    boxes = np.concatenate([corners, corners + rng.uniform(8, 20, (60, 2)).round(2)], axis=1)
    table = nuclei(boxes, rng.choice(schema.LABELS, 60).tolist())
    info = slide_info(4000, 3000, bounds=(300, 200, 3000, 2500))
    regions = np.array([[400, 300, 800, 810], [1000, 300, 1400, 700]])
    for frame in ("qupath", "slide"):
        path = tmp_path / f"{frame}.geojson"
        write(path, regions, table, info, frame=frame)
        labels = read_labels(path, classes=CLASSES, ignore=["Ignore*"], info=info, frame=frame)
        inside = region_of(table, regions) == 0
        assert np.array_equal(labels.regions, regions)
        assert np.allclose(labels.boxes, boxes[inside], atol=0.011)
        assert labels.labels.tolist() == table["label"].cast(pl.String).filter(pl.Series(inside)).to_list()
        assert labels.n_outside == 0
