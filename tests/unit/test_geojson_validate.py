"""The rules of QuPath's reader, one broken at a time."""

import copy
import gzip
import json
import uuid
import zipfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ercohort.errors import GeoJSONError
from ercohort.geojson_validate import validate_geojson

IN_PROPERTIES = {"objectType", "classification", "measurements"}
BOX = [[[0, 0], [10, 0], [10, 8], [0, 8], [0, 0]]]


def feature(coordinates=BOX, kind="Polygon", **changes):
    value = {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {
            "objectType": "detection",
            "classification": {"name": "Positive", "color": [250, 62, 62]},
            "measurements": {"Detection probability": 0.9},
        },
    }
    for name, change in changes.items():
        (value["properties"] if name in {"objectType", "classification", "measurements"} else value)[name] = (
            change
        )
    return value


def collection(*features, **members):
    return {"type": "FeatureCollection", **members, "features": list(features)}


def check(tmp_path, value, **options):
    path = tmp_path / "n.geojson"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return validate_geojson(path, **options)


def refusal(tmp_path, value):
    with pytest.raises(GeoJSONError) as caught:
        check(tmp_path, value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_report_counts_objects_types_and_classes(tmp_path):
    negative = {"names": ["Tumor", "Negative"], "color": [90, 90, 180]}
    region = feature(objectType="annotation", classification="Region: Tumor")
    frame = {"origin": "qupath", "bounds_x": 5, "bounds_y": 6}
    report = check(
        tmp_path,
        collection(feature(), feature(), feature(classification=negative), region, coordinate_frame=frame),
    )
    assert (report.n_files, report.n_features) == (1, 4)
    assert report.n_by_object_type == {"detection": 3, "annotation": 1}
    assert report.n_by_class == {"Positive": 2, "Tumor: Negative": 1, "Region: Tumor": 1}
    assert report.frame == frame
    assert report.warnings == ()
    assert "4 objects" in report.summary()


@pytest.mark.parametrize(
    ("value", "types"),
    [
        (collection(), {}),
        ([feature(), feature()], {"detection": 2}),
        (feature(), {"detection": 1}),
        ({"type": "Polygon", "coordinates": BOX, "isEllipse": True}, {"annotation": 1}),
    ],
)
def test_every_top_level_that_qupath_reads(tmp_path, value, types):
    assert check(tmp_path, value).n_by_object_type == types


@pytest.mark.parametrize(
    ("kind", "coordinates"),
    [
        ("Point", [1, 2]),
        ("Point", [1, 2, 0]),
        ("MultiPoint", [[1, 2], [3, 4]]),
        ("LineString", [[1, 2], [3, 4]]),
        ("MultiLineString", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("Polygon", [[[0, 0], [9, 0], [0, 9], [0, 0]]]),
        ("Polygon", [*BOX, [[2, 2], [4, 2], [4, 4], [2, 2]]]),
        ("Polygon", [[[0, 0, 0], [9, 0, 0], [9, 9, 0], [0, 9, 0], [0, 0, 0]]]),
        ("MultiPolygon", [BOX, [[[20, 20], [30, 20], [30, 30], [20, 20]]]]),
    ],
)
def test_every_geometry_that_qupath_reads(tmp_path, kind, coordinates):
    assert check(tmp_path, collection(feature(coordinates, kind))).n_features == 1


@pytest.mark.parametrize(
    ("kind", "coordinates", "rule"),
    [
        ("GeometryCollection", [], "cannot read a GeometryCollection"),
        ("Circle", [1, 2], "Invalid value 'Circle'"),
        ("Point", [1], "length >= 2"),
        ("Point", ["1", "2"], "Expected `float`, got `str`"),
        ("LineString", [[1, 2]], "1 positions"),
        ("Polygon", [], "no coordinates"),
        ("Polygon", [[[0, 0], [9, 0], [0, 0]]], "3 positions"),
        ("Polygon", [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 1]]], "not closed"),
        ("Polygon", [[[0, 0], [9, 0], [9, 9], [0, 9]]], "not closed"),
        ("Polygon", [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]], "not simple"),
        ("Polygon", [[[0, 0], [9, 0], [9, 0], [0, 0], [0, 0]]], "not simple"),
        ("Polygon", [[[0, 0], [0.004, 0], [0.004, 9], [0, 9], [0, 0]]], "nothing of it is left"),
        ("Polygon", [*BOX, [[2, 2], [40, 2], [4, 4], [2, 2]]], "not simple"),
        ("MultiPolygon", [BOX, BOX], "not simple"),
    ],
)
def test_a_geometry_that_breaks_the_import_is_refused(tmp_path, kind, coordinates, rule):
    message = refusal(tmp_path, collection(feature(), feature(coordinates, kind)))
    assert "n.geojson: features[1].geometry" in message
    assert rule in message


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("axis", [0, 1])
def test_a_box_with_one_corner_moved_by_a_pixel_is_still_told_apart(tmp_path, index, axis):
    ring = copy.deepcopy(BOX)
    ring[0][index][axis] += 1
    if index in (0, 4):
        assert "not closed" in refusal(tmp_path, collection(feature(ring)))
    else:
        assert check(tmp_path, collection(feature(ring))).n_features == 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    text = json.dumps(collection(feature([[[0, 0], [9.5, 0], [9, 9], [0, 0]]]))).replace("9.5", number)
    assert refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("changes", "member", "rule"),
    [
        ({"id": "detection_0"}, ".id", "no UUID"),
        ({"id": 7}, ".id", "Expected `str`"),
        ({"objectType": "nucleus"}, ".properties.objectType", "unknown"),
        ({"classification": {"name": "Positive"}}, ".properties.classification", "no `color`"),
        (
            {"classification": {"color": [1, 2, 3]}},
            ".properties.classification",
            "neither `name` nor `names`",
        ),
        ({"classification": {"name": "a", "color": [1, 2]}}, ".properties.classification", "not 3 or 4"),
        ({"classification": {"name": "a", "color": [1, 2, 256]}}, ".properties.classification", "not 3 or 4"),
        ({"classification": {"name": "a", "color": -65536}}, ".properties.classification", "Expected"),
        ({"measurements": {"OD": "high"}}, ".properties.measurements", "no number"),
        ({"measurements": {"OD": None}}, ".properties.measurements", "got `null`"),
        ({"measurements": {"OD": {}}}, ".properties.measurements", "got `object`"),
        ({"type": "Nucleus"}, ".type", "Invalid value"),
        ({"geometry": None}, ".geometry", "got `null`"),
    ],
)
def test_a_member_that_qupath_drops_or_chokes_on_is_refused(tmp_path, changes, member, rule):
    others = [feature() for _ in range(5_000)]
    message = refusal(tmp_path, collection(*others, feature(**changes)))
    assert f"features[5000]{member}" in message
    assert rule in message
    assert ";" in message


def test_object_type_beside_properties_is_refused(tmp_path):
    wrong = feature()
    wrong["objectType"] = wrong["properties"].pop("objectType")
    assert "inside `properties` only" in refusal(tmp_path, collection(wrong))


def test_a_child_is_checked_like_its_parent(tmp_path):
    parent = feature(objectType="annotation")
    parent["properties"]["childObjects"] = [feature(), feature()]
    report = check(tmp_path, collection(parent))
    assert report.n_by_object_type == {"detection": 2, "annotation": 1}
    parent["properties"]["childObjects"][1]["id"] = "x"
    assert "features[0].properties.childObjects[1].id" in refusal(tmp_path, collection(parent))


def test_a_cells_nucleus_is_checked(tmp_path):
    cell = feature(
        objectType="cell", nucleusGeometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}
    )
    assert "features[0].nucleusGeometry" in refusal(tmp_path, collection(cell))


@pytest.mark.parametrize("value", [1.5, 3, "NaN", "-Infinity", "0.25"])
def test_measurements_that_qupath_reads(tmp_path, value):
    assert check(tmp_path, collection(feature(measurements={"OD": value}))).n_features == 1
    assert check(tmp_path, collection(feature(measurements=[{"name": "OD", "value": value}]))).n_features == 1


def test_what_qupath_accepts_but_a_person_should_know(tmp_path):
    bare = feature(classification={"name": "ER_positive", "color": [1, 2, 3]})
    del bare["id"], bare["properties"]["objectType"]
    old = feature()
    old["properties"]["object_type"] = old["properties"].pop("objectType")
    far = feature([[[-50, 0], [-40, 0], [-40, 9], [-50, 9], [-50, 0]]])
    report = check(tmp_path, collection(bare, bare, old, far), width=100, height=100)
    text = "\n".join(report.warnings)
    assert "class `ER_positive`: QuPath scores Positive" in text
    assert "2 objects have no id" in text
    assert "2 objects have no `objectType`" in text
    assert "1 objects name their type in `properties.object_type`" in text
    assert "1 objects lie wholly outside the picture" in text


def test_the_recorded_frame_gives_the_size_of_the_picture(tmp_path):
    frame = {"origin": "qupath", "width": 100, "height": 5}
    low = feature([[[0, 6], [9, 6], [9, 9], [0, 9], [0, 6]]])
    assert "wholly outside" in check(tmp_path, collection(low, coordinate_frame=frame)).warnings[0]
    assert check(tmp_path, collection(feature(), coordinate_frame=frame)).warnings == ()


@given(st.lists(st.uuids(), min_size=1, max_size=30, unique=True), st.booleans())
def test_a_repeated_id_is_found_wherever_it_is(tmp_path_factory, ids, repeat):
    path = tmp_path_factory.mktemp("ids") / "n.geojson.zip"
    last = ids[0] if repeat else uuid.UUID(int=ids[0].int ^ 1)
    assume(repeat or last not in ids)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.geojson", json.dumps(collection(*(feature(id=str(one)) for one in ids))))
        archive.writestr("b.geojson", json.dumps(collection(feature(id=str(last).upper()))))
    if repeat:
        with pytest.raises(
            GeoJSONError, match=r"b\.geojson: features\[0\]\.id: the same as that of .*a\.geojson"
        ):
            validate_geojson(path)
    elif last not in ids:
        assert validate_geojson(path).n_features == len(ids) + 1


def zipped(path, **contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in contents.items():
            archive.writestr(name.replace("_", "."), value if isinstance(value, bytes) else json.dumps(value))
    return path


def test_zip_entries_and_gzip_are_read(tmp_path):
    packed = gzip.compress(json.dumps(collection(feature())).encode())
    path = zipped(
        tmp_path / "n.zip", a_geojson=collection(feature()), b_json=[feature()], c_geojson_gz=packed
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("folder")
    assert validate_geojson(path).n_files == 3
    (tmp_path / "n.geojson.gz").write_bytes(packed)
    assert validate_geojson(tmp_path / "n.geojson.gz").n_features == 1


def test_an_entry_that_qupath_skips_silently_is_refused(tmp_path):
    path = zipped(tmp_path / "n.zip", a_geojson=collection(feature()), b_txt=collection(feature()))
    with pytest.raises(GeoJSONError, match=r"n\.zip: b\.txt: QuPath skips"):
        validate_geojson(path)
    path = zipped(tmp_path / "n.zip", a_geojson=collection(feature()), b_geojson=b'{"type": "Feat')
    with pytest.raises(GeoJSONError, match=r"n\.zip: b\.geojson: is no GeoJSON"):
        validate_geojson(path)


def test_entries_in_different_frames_are_refused(tmp_path):
    one, other = (collection(feature(), coordinate_frame={"origin": name}) for name in ("qupath", "slide"))
    with pytest.raises(GeoJSONError, match=r"b\.geojson: its frame"):
        validate_geojson(zipped(tmp_path / "n.zip", a_geojson=one, b_geojson=other))


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("n.geojson", b"", "is no GeoJSON"),
        ("n.geojson", b"{}", "no `type`"),
        ("n.geojson", b'{"type": "FeatureCollection"}', "no `features`"),
        ("n.geojson", b'{"type": "Topology"}', "Invalid value 'Topology'"),
        ("n.geojson", b"[1]", "features"),
        ("n.geojson", "{'type': 1}".encode("utf-16"), "is UTF-16, and JSON is UTF-8"),
        ("n.geojson.gz", b"no gzip", "cannot be unpacked"),
        ("n.zip", b"no zip", "is no zip"),
        ("n.txt", b"[]", "QuPath opens no file of this name"),
    ],
)
def test_what_is_no_geojson_is_refused_in_one_line(tmp_path, name, content, rule):
    if rule == "features":
        rule = r"Expected `object`, got `int`"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeoJSONError, match=rule) as caught:
        validate_geojson(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(GeoJSONError, match=r"none\.geojson: there is no such file"):
        validate_geojson(tmp_path / "none.geojson")


def test_a_damaged_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "n.zip", a_geojson=collection(*(feature() for _ in range(50))))
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(GeoJSONError, match="cannot be unpacked"):
        validate_geojson(path)
