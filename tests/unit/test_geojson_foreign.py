"""Files as other tools write them: what QuPath would not take as meant is found, all of it, with its place.

The shapes are those that the tools' code writes; the numbers are made up here.
"""

from __future__ import annotations

import json
import re
import uuid
from itertools import pairwise
from typing import Any

import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ercohort.cli import app
from ercohort.errors import GeoJSONError
from ercohort.geojson_problems import MOST_ALIKE
from ercohort.geojson_validate import Report, validate_geojson
from tests.fuzz.hostile import changed_tree

NUCLEUS = shapely.Point(200, 300).buffer(6, 4)
RING = [[round(x, 2), round(y, 2)] for x, y in NUCLEUS.exterior.coords]
RED = [250, 62, 62]


def moved(dx: float) -> list[list[float]]:
    return [[x + dx, y] for x, y in RING]


def polygon(number: int = 0) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [moved(20 * number)]}


def own_id(number: int) -> str:
    return str(uuid.UUID(int=number + 1))


def features(n: int = 5, **properties: Any) -> list[dict[str, Any]]:
    return [
        {"type": "Feature", "id": own_id(k), "geometry": polygon(k), "properties": properties}
        for k in range(n)
    ]


def collection(features: list[Any], **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": features}


def check(tmp_path, value: Any) -> Report:
    path = tmp_path / "n.geojson"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return validate_geojson(path)


def problems(tmp_path, value: Any) -> list[str]:
    with pytest.raises(GeoJSONError) as caught:
        check(tmp_path, value)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(str(tmp_path / "n.geojson")) for line in lines)
    return [line.removeprefix(f"{tmp_path / 'n.geojson'}: ") for line in lines]


# --- QuPath's own, of any age ------------------------------------------------------------------------------


def qupath_0_2() -> list[dict[str, Any]]:
    """An array of features; the type stands in `id`, colours are packed, measurements are a list."""
    return [
        {
            "type": "Feature",
            "id": "PathDetectionObject",
            "geometry": polygon(0),
            "properties": {
                "classification": {
                    "parentClass": {"name": "Tumor", "colorRGB": -3670016},
                    "name": "Positive",
                    "colorRGB": -3140401,
                },
                "isLocked": False,
                "measurements": [{"name": "Nucleus: DAB OD mean", "value": 0.31}],
            },
        },
        {
            "type": "Feature",
            "id": "PathAnnotationObject",
            "geometry": polygon(1),
            "properties": {
                "classification": {"name": "Tumor", "colorRGB": -3670016},
                "isLocked": False,
                "measurements": [],
            },
        },
    ]


def test_qupath_0_2_is_read_as_it_was_meant(tmp_path):
    report = check(tmp_path, qupath_0_2())
    assert report.n_by_object_type == {"detection": 1, "annotation": 1}
    assert report.n_by_class == {"Tumor: Positive": 1, "Tumor": 1}
    text = "\n".join(report.warnings)
    assert "2 objects name their type in `id`, as QuPath did before 0.4" in text
    assert "2 objects have no id: QuPath cannot notice a second import" in text


def test_qupath_0_3_named_the_type_with_an_underscore(tmp_path):
    report = check(tmp_path, features(2, object_type="detection", isLocked=False))
    assert report.n_by_object_type == {"detection": 2}
    assert "2 objects name their type in `properties.object_type`, not `objectType`" in report.warnings


def test_qupath_0_4_to_0_6(tmp_path):
    cell = features(1, objectType="cell", measurements={"Nucleus: Area": 51.2, "Cell: Max": "NaN"})[0]
    cell["nucleusGeometry"] = polygon()
    region = features(2, objectType="annotation", name="1", classification={"name": "DCIS", "color": RED})[1]
    region["geometry"]["isEllipse"] = True
    region["properties"] |= {"color": [0, 128, 0], "isLocked": True, "metadata": {"by": "a person"}}
    report = check(tmp_path, collection([cell, region]))
    assert report.n_by_object_type == {"cell": 1, "annotation": 1}
    assert report.warnings == ()


# --- Networks and their exporters --------------------------------------------------------------------------


def test_type_beside_properties_and_ids_that_are_counters(tmp_path):
    """TIAToolbox: `objectType` in the feature, ids detection_0, ..., the probability a bare property."""
    nuclei = features(1_000, type="Positive", probability=0.93)
    for number, nucleus in enumerate(nuclei):
        nucleus |= {"id": f"detection_{number}", "objectType": "detection"}
    found = problems(tmp_path, collection(nuclei))
    assert "features[0].properties.type: 'Positive' is unknown: QuPath makes it an annotation" in found[0]
    assert f"and {1_000 - MOST_ALIKE:,} more like the last" in found
    ids = [line for line in found if "].id:" in line]
    assert [re.search(r"\[(\d+)\]", line)[1] for line in ids] == ["0", "1", "2"]
    assert "'detection_0' is no UUID, so QuPath drops it; write a UUID as text" in ids[0]
    del nuclei[0]["properties"]["type"]  # the features here share their properties
    assert "`properties` only; move it there" in problems(tmp_path, collection(nuclei))[0]


def test_classes_without_a_colour_and_outlines_that_are_not_closed(tmp_path):
    """What is written from StarDist's `coord` and from OpenCV's contours: no first point again at the end."""
    nuclei = features(4, objectType="detection", classification={"name": "Positive"})
    for nucleus in nuclei[1:]:
        nucleus["geometry"]["coordinates"][0].pop()
    found = problems(tmp_path, collection(nuclei))
    assert len(found) == 3 + 3 + 1
    assert "features[1].geometry: a ring is not closed; repeat its first position" in found[0]
    assert "features[0].properties.classification: it has no `color`, and QuPath refuses" in found[3]
    assert found[-1] == "and 1 more like the last"


def test_contours_through_shapely_without_anything_of_qupath(tmp_path):
    """Cellpose masks, contoured, and `shapely.geometry.mapping`: tuples, no id, no object type."""
    nuclei = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(NUCLEUS), "properties": {"cell_id": k}}
        for k in range(3)
    ]
    report = check(tmp_path, collection(nuclei))
    assert report.n_by_object_type == {"annotation": 3}
    assert "3 objects have no `objectType`: QuPath makes annotations of them" in report.warnings
    for geometry in (NUCLEUS.exterior, shapely.GeometryCollection([NUCLEUS])):
        nuclei[1]["geometry"] = shapely.geometry.mapping(geometry)
        found = problems(tmp_path, collection(nuclei))
        assert len(found) == 1
        assert re.match(r"features\[1\]\.geometry.*(LinearRing|GeometryCollection).*; ", found[0])


def test_a_bare_geometry_becomes_one_annotation(tmp_path):
    """`json.dumps(shapely.geometry.mapping(...))` of all nuclei at once, and CellViT's outlines by class."""
    nuclei = shapely.MultiPolygon([shapely.Polygon(moved(20 * k)) for k in range(200)])
    report = check(tmp_path, shapely.geometry.mapping(nuclei))
    assert report.n_by_object_type == {"annotation": 1}
    assert "annotations of more than 100 parts: QuPath counts each as one object" in "\n".join(
        report.warnings
    )


def test_geopandas_writes_a_crs_and_classes_as_text(tmp_path):
    """LazySlide: the classification is a column of JSON texts; GeoPandas adds a CRS and nulls."""
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    text = json.dumps({"name": "Positive", "color": RED})
    nuclei = features(2, objectType="detection", classification=text)
    found = problems(tmp_path, collection(nuclei, name="nuclei", crs=crs))
    assert "features[0].properties.classification: it is JSON within a text" in found[0]
    nuclei = features(2, objectType="detection", classification="Positive", name=None)
    found = problems(tmp_path, collection(nuclei, crs=crs))
    assert "features[0].properties.name: it is null, and QuPath refuses the whole file" in found[0]
    nuclei = features(2, objectType="detection", classification="Positive")
    assert "states a `crs`" in check(tmp_path, collection(nuclei, crs=crs)).warnings[0]


def test_features_without_properties_as_the_standard_allows(tmp_path):
    nuclei = features(2)
    nuclei[1]["properties"] = None
    found = problems(tmp_path, collection(nuclei))
    assert found == [
        "features[1].properties: it is null, and QuPath refuses the whole file; "
        'write {"objectType": ...}, or leave it out'
    ]


def test_numbers_that_python_writes_and_json_does_not_have(tmp_path):
    nuclei = features(3, objectType="detection", measurements={"Probability": float("nan")})
    nuclei[2]["geometry"]["coordinates"][0][1][0] = float("inf")
    found = problems(tmp_path, collection(nuclei))
    assert any("features[0].properties.measurements: a number is NaN" in line for line in found)
    assert any("features[2].geometry: a number is infinite" in line for line in found)
    assert check(tmp_path, collection(features(2, name="NaN", objectType="detection"))).n_features == 2


@pytest.mark.parametrize(
    ("start", "rule"),
    [("\ufeff".encode(), "begins with a byte order mark"), ("\ufeff".encode("utf-16-le"), "is UTF-16")],
)
def test_what_windows_editors_put_before_the_text(tmp_path, start, rule):
    content = json.dumps(collection(features(1, objectType="detection")))
    encoding = "utf-8" if len(start) == 3 else "utf-16-le"
    assert problems(tmp_path, start + content.encode(encoding))[0].startswith(rule)


def test_coco_is_no_geojson(tmp_path):
    """SAHI's own export is COCO: a list of boxes."""
    found = problems(tmp_path, [{"image_id": 1, "bbox": [200, 300, 12, 12], "score": 0.9, "category_id": 0}])
    assert "features[0]" in found[0] or "[0]" in found[0]
    assert "no `type`" in problems(tmp_path, {"images": [], "annotations": []})[0]


@pytest.mark.parametrize(
    ("scale", "shift", "rule"),
    [
        (1 / 4000, 0, "between 0 and 1: fractions of the picture"),
        (1 / 4000, -4, "less than a pixel wide: degrees or millimetres"),
    ],
)
def test_outlines_that_are_no_pixels(tmp_path, scale, shift, rule):
    nuclei = features(4, objectType="annotation")
    for nucleus in nuclei:
        nucleus["geometry"]["coordinates"] = [
            [[x * scale + shift, y * scale] for x, y in ring] for ring in nucleus["geometry"]["coordinates"]
        ]
    found = problems(tmp_path, collection(nuclei))
    assert rule in found[-1]
    assert "write full-resolution pixels" in found[-1]


def test_points_that_are_degrees(tmp_path):
    places = [[-73.98513, 40.74844], [-0.12764, 51.50735], [2.352219, 48.85661], [139.69171, 35.68949]]
    nuclei = [
        {"type": "Feature", "id": own_id(k), "geometry": {"type": "Point", "coordinates": place}}
        for k, place in enumerate(places)
    ]
    assert "degrees, not pixels" in problems(tmp_path, collection(nuclei))[0]
    framed = collection(nuclei) | {"coordinate_frame": {"width": 200, "height": 100}}
    assert check(tmp_path, framed).n_features == 4  # whoever states a size writes pixels
    small = [[12.5, 30.25], [40.75, 8.0], [90.5, 77.5]]  # a small picture
    for nucleus, place in zip(nuclei, small, strict=False):
        nucleus["geometry"]["coordinates"] = place
    assert check(tmp_path, collection(nuclei[:3])).n_features == 3


# --- All at once -------------------------------------------------------------------------------------------


def test_many_kinds_of_problems_are_listed_at_once(tmp_path):
    nuclei = features(8, objectType="detection")
    nuclei = json.loads(json.dumps(nuclei))  # each its own properties
    nuclei[0]["id"] = "nucleus-1"
    nuclei[1]["properties"]["objectType"] = "nucleus"
    nuclei[2]["properties"]["classification"] = {"name": "Positive"}
    a, b, c, d = [[0, 0], [9, 9], [9, 0], [0, 9]]
    nuclei[3]["geometry"]["coordinates"] = [[a, b, c, d, a]]
    nuclei[4]["geometry"]["coordinates"][0].pop()
    nuclei[5]["geometry"] = {"type": "GeometryCollection", "geometries": []}
    nuclei[6]["properties"]["measurements"] = {"OD": "high"}
    nuclei[7]["id"] = nuclei[6]["id"]
    found = problems(tmp_path, collection(nuclei))
    assert {int(re.match(r"features\[(\d)\]", line)[1]) for line in found} == set(range(8))
    assert all("; " in line for line in found)  # each with its cure
    assert len(found) == 8


def test_the_command_names_every_file_and_fails(tmp_path):
    for name, kind in (("good", "detection"), ("bad", "nucleus"), ("worse", "Nuclei")):
        (tmp_path / f"{name}.geojson").write_text(json.dumps(collection(features(2, objectType=kind))))
    files = [str(tmp_path / f"{name}.geojson") for name in ("bad", "good", "worse")]
    result = CliRunner().invoke(app, ["validate-geojson", *files])
    assert result.exit_code == 1
    assert "good.geojson: 2 objects" in result.output
    said = str(result.exception)  # `main` prints it
    assert "bad.geojson: features[1].properties.objectType: 'nucleus' is unknown" in said
    assert "worse.geojson: features[0].properties.objectType: 'Nuclei' is unknown" in said
    assert CliRunner().invoke(app, ["validate-geojson", files[1]]).exit_code == 0


# --- Against an oracle that shares no code -----------------------------------------------------------------

KINDS = {"detection", "annotation", "cell", "tile", "tmaCore", "root"}
SOUND = collection(
    [
        *features(3, objectType="detection", classification={"name": "Positive", "color": RED}, name="n"),
        {"type": "Feature", "id": own_id(9), "geometry": {"type": "Point", "coordinates": [4, 900.5]}},
    ]
)
SOUND["features"][0]["properties"] = {
    "objectType": "annotation",
    "measurements": {"OD": 0.5},
    "childObjects": [{"type": "Feature", "id": own_id(8), "geometry": polygon(7)}],
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def oracle_geometry(geometry: Any) -> bool:
    """Whether JTS would make this Polygon or Point, and keep something of it on a grid of 0.01."""
    if not isinstance(geometry, dict):
        return False
    places = geometry.get("coordinates")
    if geometry.get("type") == "Point":
        return isinstance(places, list) and len(places) >= 2 and all(map(is_number, places[:2]))
    if geometry.get("type") != "Polygon" or not isinstance(places, list) or not places:
        return False
    for ring in places:
        if not isinstance(ring, list) or len(ring) < 4:
            return False
        if not all(isinstance(p, list) and len(p) >= 2 and all(map(is_number, p[:2])) for p in ring):
            return False
        if ring[0][:2] != ring[-1][:2]:
            return False
    shape = shapely.Polygon([p[:2] for p in places[0]], [[p[:2] for p in ring] for ring in places[1:]])
    return bool(shape.is_valid and shape.area > 0)


def oracle_feature(feature: Any, ids: list[str]) -> bool:
    """Whether QuPath would read this object, and as what it is meant to be."""
    if not isinstance(feature, dict) or feature.get("type", "Feature") != "Feature":
        return False  # QuPath does not ask for the word, but another one says that it is something else
    if "id" in feature:
        if not isinstance(feature["id"], str) or not re.fullmatch(
            "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", feature["id"]
        ):
            return False
        ids.append(feature["id"].lower())
    if not oracle_geometry(feature.get("geometry")):
        return False
    properties = feature.get("properties", {})
    if not isinstance(properties, dict) or not isinstance(properties.get("name", ""), str):
        return False
    kind = properties.get("objectType", "detection")
    if not isinstance(kind, str) or kind not in KINDS:
        return False
    classification = properties.get("classification")
    if isinstance(classification, dict):
        color = classification.get("color")
        if not isinstance(color, list) or len(color) not in (3, 4):
            return False
        if not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
            return False
        if not isinstance(classification.get("name"), str) or not classification["name"]:
            return "names" in classification
    elif classification is not None and not isinstance(classification, str):
        return False
    measurements = properties.get("measurements", {})
    if isinstance(measurements, dict) and not all(map(is_number, measurements.values())):
        return any(isinstance(value, str) for value in measurements.values())
    children = properties.get("childObjects", [])
    return not isinstance(children, list) or all(oracle_feature(child, ids) for child in children)


def oracle(value: Any) -> bool:
    """Whether QuPath would read all of this collection as it is meant."""
    ids: list[str] = []
    objects = value.get("features") if isinstance(value, dict) else value
    if not isinstance(objects, list) or (
        isinstance(value, dict) and value.get("type") != "FeatureCollection"
    ):
        return isinstance(value, dict) and value.get("type") in (
            "Feature", "Point", "Polygon", "MultiPoint", "LineString", "MultiLineString", "MultiPolygon",
        )  # fmt: skip
    sound = all([oracle_feature(feature, ids) for feature in objects])
    return sound and all(one != other for one, other in pairwise(sorted(ids)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(changed_tree(SOUND))
def test_any_change_is_sound_by_the_oracle_or_found(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("oracle") / "n.geojson"
    try:
        content = json.dumps(tree).encode()
        finite = json.loads(content) == tree
    except (ValueError, OverflowError):
        return
    assume(b"\\ud" not in content)  # half a character: Java takes it, JSON does not
    path.write_bytes(content)
    if finite and oracle(tree):
        validate_geojson(path)
        return
    with pytest.raises(GeoJSONError) as caught:
        validate_geojson(path)
    assert all("; " in line or "more like" in line for line in str(caught.value).split("\n"))


@settings(max_examples=100, deadline=None)
@given(
    st.permutations(range(4)),
    st.floats(-1e6, 1e6).map(round),
    st.dictionaries(st.text("abcXYZ_", min_size=3, max_size=8), st.integers() | st.text(), max_size=3),
)
def test_what_does_not_matter_to_qupath_is_taken(tmp_path_factory, order, shift, foreign):
    tree = json.loads(json.dumps(SOUND))
    tree["features"] = [tree["features"][k] | {f"own_{key}": v for key, v in foreign.items()} for k in order]
    for feature in tree["features"]:
        if feature["geometry"]["type"] == "Polygon":
            ring = feature["geometry"]["coordinates"][0]
            feature["geometry"]["coordinates"] = [[[x + shift, y + shift] for x, y in ring]]
    assert oracle(tree)
    path = tmp_path_factory.mktemp("harmless") / "n.geojson"
    path.write_text(json.dumps(tree))
    assert validate_geojson(path).n_features == 5
