"""What a person exports from QuPath is read as it was meant, or refused in one line with the cure."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import GeoJSONSettings
from ercohort.errors import InputError
from ercohort.geojson import write_geojson
from ercohort.labels.annotations import SlideLabels, in_regions, read_labels
from ercohort.labels.region_file import write_regions
from ercohort.slide import SlideInfo

CLASSES = {"Positive": "Positive", "Negative": "Negative"}
IGNORE = ("Ignore*", "Other")


def info(bounds: tuple[int, int, int, int] = (0, 0, 2000, 1500), mpp: float = 0.5) -> SlideInfo:
    return SlideInfo(
        path="s.svs",
        vendor="aperio",
        width=3000,
        height=2500,
        mpp=mpp,
        mpp_source="file",
        level_dimensions=((3000, 2500),),
        level_downsamples=(1.0,),
        bounds=bounds,
        has_bounds=True,
        background=(255, 255, 255),
        reader="vips",
        file_bytes=1,
    )


def box(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]}


def feature(
    geometry: dict[str, Any], label: str | None, kind: str = "detection", **more: Any
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": kind, **more}
    if label is not None:
        properties["classification"] = {"name": label, "color": [1, 2, 3]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def region(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return feature(box(x0, y0, x1, y1), "Region*", "annotation", name="region 1")


def collection(*features: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **more}


def save(folder: Path, content: Any, name: str = "s1.geojson") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def read(folder: Path, *features: dict[str, Any], **options: Any) -> SlideLabels:
    options = {"classes": CLASSES, "ignore": IGNORE, "info": info(), **options}
    return read_labels(save(folder, collection(*features)), **options)


AREA = region(100, 100, 500, 400)


def test_every_kind_of_object_becomes_its_box(tmp_path: Path) -> None:
    blob = {"type": "Polygon", "coordinates": [[[210, 200], [220, 205], [214, 219], [203, 208], [210, 200]]]}
    parts = {"type": "MultiPolygon", "coordinates": [box(300, 300, 306, 306)["coordinates"],
                                                     box(308, 302, 312, 310)["coordinates"]]}  # fmt: skip
    cell = {
        **feature(box(140, 140, 170, 180), "Negative", "cell"),
        "nucleusGeometry": box(150, 150, 160, 162),
    }
    found = read(
        tmp_path,
        AREA,
        feature(box(110, 110, 130, 125), "Positive"),
        feature(blob, "Negative", "annotation"),
        feature({**box(400, 300, 420, 318), "isEllipse": True}, "Positive", "annotation"),
        feature(parts, "Positive"),
        cell,
        feature({"type": "Point", "coordinates": [250, 260]}, "Positive", "annotation"),
        feature({"type": "MultiPoint", "coordinates": [[330, 340], [350, 360]]}, "Negative", "annotation"),
    )
    assert found.regions.tolist() == [[100, 100, 500, 400]]
    assert found.boxes.tolist() == [
        [110, 110, 130, 125],
        [203, 200, 220, 219],
        [400, 300, 420, 318],
        [300, 300, 312, 310],
        [150, 150, 160, 162],
        [241, 251, 259, 269],  # 9 µm at 0.5 µm per pixel
        [321, 331, 339, 349],
        [341, 351, 359, 369],
    ]
    assert found.labels.tolist() == ["Positive", "Negative", "Positive", "Positive", "Negative", "Positive",
                                     "Negative", "Negative"]  # fmt: skip
    assert found.is_point.tolist() == [False] * 5 + [True] * 3
    assert found.n_outside == 0
    assert found.ignored.shape == (0, 4)


def test_a_nucleus_belongs_to_a_region_by_its_centre_half_open(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        AREA,
        feature(box(95, 95, 105, 105), "Positive"),  # centre on the first corner: in
        feature(box(495, 200, 505, 210), "Positive"),  # centre on the far edge: out
        feature(box(494, 200, 505, 210), "Negative"),  # half a pixel before it: in
        feature(box(600, 600, 610, 610), "Positive"),
    )
    assert found.boxes.tolist() == [[95, 95, 105, 105], [494, 200, 505, 210]]
    assert found.n_outside == 2


def test_classes_are_looked_up_by_whole_name_then_by_leaf(tmp_path: Path) -> None:
    square = box(200, 200, 210, 210)
    classes = {"Positive": "Positive", "Tumor: Positive": "Tumour positive", "1+": "Weak"}
    nested, text = feature(square, None), feature(square, None)
    nested["properties"]["classification"] = {"names": ["Stroma", "Positive"], "color": [0, 0, 0]}
    text["properties"]["classification"] = "Tumor: 1+"
    found = read(tmp_path, AREA, feature(square, "Tumor: Positive"), nested, text,
                 feature(square, "Tumor: Other"), classes=classes)  # fmt: skip
    assert found.labels.tolist() == ["Tumour positive", "Positive", "Weak"]
    assert found.ignored.tolist() == [[200, 200, 210, 210]]


def test_ignored_nuclei_are_no_truth_and_tissue_outlines_say_nothing(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        AREA,
        feature(box(200, 200, 210, 210), "Ignore*"),
        feature(box(0, 0, 1900, 1400), "Tumor", "annotation"),
        ignore=(*IGNORE, "Tumor"),
    )
    assert found.ignored.tolist() == [[200, 200, 210, 210]]
    assert len(found.boxes) == 0


def test_regions_without_a_class_and_nested_objects(tmp_path: Path) -> None:
    plain = feature(box(100, 100, 500, 400), None, "annotation",
                    childObjects=[feature(box(200, 200, 210, 210), "Positive")])  # fmt: skip
    bare = {"type": "Feature", "geometry": box(500, 100, 900, 400)}  # shares an edge only
    found = read(tmp_path, plain, bare)
    assert found.regions.tolist() == [[100, 100, 500, 400], [500, 100, 900, 400]]
    assert found.boxes.tolist() == [[200, 200, 210, 210]]


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz", "a.geojson.zip"])
def test_every_container_that_qupath_writes(tmp_path: Path, name: str) -> None:
    content = [AREA, feature(box(200, 200, 210, 210), "Positive")]
    raw = json.dumps(content).encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("one.geojson", json.dumps(content[0]))
            archive.writestr("two.geojson", json.dumps(collection(content[1])))
    else:
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    found = read_labels(tmp_path / name, classes=CLASSES, ignore=IGNORE, info=info())
    assert found.boxes.tolist() == [[200, 200, 210, 210]]


def test_qupath_coordinates_are_relative_to_the_bounds(tmp_path: Path) -> None:
    shifted = info(bounds=(300, 200, 2000, 1500))
    nucleus = feature(box(200, 200, 210, 210), "Positive")
    in_qupath = read(tmp_path, AREA, nucleus, info=shifted)
    assert in_qupath.regions.tolist() == [[400, 300, 800, 600]]
    assert in_qupath.boxes.tolist() == [[500, 400, 510, 410]]
    in_slide = read(tmp_path, AREA, nucleus, info=shifted, frame="slide")
    assert in_slide.boxes.tolist() == [[200, 200, 210, 210]]
    stated = collection(AREA, nucleus, coordinate_frame={"origin": "slide", "width": 3000, "height": 2500})
    path = save(tmp_path, stated)
    by_file = read_labels(path, classes=CLASSES, ignore=IGNORE, info=shifted, frame="qupath")
    assert by_file.boxes.tolist() == [[200, 200, 210, 210]]


BOW_TIE = {"type": "Polygon", "coordinates": [[[200, 200], [220, 220], [220, 200], [200, 220], [200, 200]]]}
SLANTED = {"type": "Polygon", "coordinates": [[[200, 200], [300, 210], [290, 300], [190, 290], [200, 200]]]}
LINE = {"type": "LineString", "coordinates": [[200, 200], [220, 220]]}

BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "wrong class": (
        [AREA, feature(box(200, 210, 215, 225), "positve")],
        r"s1.geojson: features\[1\] at x 200, y 210 px: class 'positve' is unknown; "
        r"did you mean `Positive`\? Correct it in QuPath, or add it to dataset.classes or dataset.ignore",
    ),
    "far class": ([AREA, feature(box(200, 210, 215, 225), "Vessel")], "'Vessel' is unknown; correct it"),
    "no class": (
        [AREA, feature(box(200, 210, 215, 225), None)],
        r"features\[1\] at x 200, y 210 px: it has no class; set one in QuPath \(Positive, Negative, Ig",
    ),
    "crosses itself": (
        [AREA, feature(BOW_TIE, "Positive")],
        r"features\[1\]: its outline crosses itself at x 210.0, y 210.0 px; draw it again in QuPath",
    ),
    "no region": ([feature(box(200, 210, 215, 225), "Positive")], r"no region; in QuPath draw a rectangle"),
    "slanted region": ([feature(SLANTED, "Region*", "annotation")], "no upright rectangle"),
    "outline without class": ([feature(SLANTED, None, "annotation")], "it has no class"),
    "overlap": ([AREA, region(490, 300, 900, 900)], r"features\[1\].*overlaps that of features\[0\]"),
    "region off slide": ([region(1800, 100, 2100, 400)], "outside the slide of 2000 x 1500 px; name"),
    "nucleus off slide": ([AREA, feature(box(2100, 5, 2110, 15), "Positive")], "lies outside the slide"),
    "forgotten class": ([AREA, feature(box(200, 200, 220, 222), None, "annotation")], "10 µm is too small"),
    "merged nuclei": ([AREA, feature(box(100, 100, 400, 300), "Positive")], "150 µm wide, too wide"),
    "ignored area": ([AREA, feature(box(100, 100, 400, 300), "Ignore*")], "too wide for a nucleus; split it"),
    "line": ([AREA, feature(LINE, "Positive")], "a line is no nucleus"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_labels_are_one_line_with_the_cure(tmp_path: Path, case: str) -> None:
    features, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, *features)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "s1.geojson") in str(caught.value)


def test_a_file_that_names_the_size_of_another_slide(tmp_path: Path) -> None:
    frame = {"origin": "qupath", "width": 900, "height": 700}
    path = save(tmp_path, collection(AREA, coordinate_frame=frame))
    with pytest.raises(InputError, match="drawn on a slide of 900 x 700 px, this one has 2000 x 1500"):
        read_labels(path, classes=CLASSES, ignore=IGNORE, info=info())


def test_no_json_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "s1.geojson"
    path.write_text("not json")
    with pytest.raises(InputError, match="is no GeoJSON"):
        read_labels(path, classes=CLASSES, ignore=IGNORE, info=info())


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_round_trip_write_and_read_gives_the_same_boxes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Boxes survive nuclei table -> GeoJSON -> labels to QuPath's grid of 0.01 px."""
    folder = tmp_path_factory.mktemp("trip")
    n = data.draw(st.integers(1, 20))
    corner = data.draw(
        st.lists(st.tuples(st.floats(300, 1900), st.floats(200, 1500)), min_size=n, max_size=n)
    )
    sides = data.draw(st.lists(st.tuples(st.floats(4, 60), st.floats(4, 60)), min_size=n, max_size=n))
    boxes = np.array([[x, y, x + w, y + h] for (x, y), (w, h) in zip(corner, sides, strict=True)], np.float32)
    labels = data.draw(st.lists(st.sampled_from(schema.LABELS), min_size=n, max_size=n))
    table = pl.DataFrame(
        {name: boxes[:, k] for k, name in enumerate(("x0", "y0", "x1", "y1"))}
        | {"label": labels, "score": [0.9] * n, "dab_od": [0.1] * n, "hematoxylin_od": [0.2] * n}
    )
    shifted = info(bounds=(300, 200, 2000, 1500))
    write_geojson(table, folder / "n.zip", slide_id="s1", info=shifted, settings=GeoJSONSettings())
    with zipfile.ZipFile(folder / "n.zip", "a") as archive:
        frame = json.loads(archive.read("s1-001.geojson"))["coordinate_frame"]
        archive.writestr(
            "regions.geojson", json.dumps(collection(region(0, 0, 2000, 1500), coordinate_frame=frame))
        )
    found = read_labels(folder / "n.zip", classes=CLASSES, ignore=IGNORE, info=shifted)
    assert found.regions.tolist() == [[300, 200, 2300, 1700]]
    assert np.abs(found.boxes - boxes).max() <= 0.0051
    assert found.labels.tolist() == labels


@given(st.lists(st.tuples(st.integers(-50, 450), st.integers(-50, 450)), min_size=1, max_size=50))
def test_regions_that_share_edges_claim_each_nucleus_once(corners: list[tuple[int, int]]) -> None:
    boxes = np.array([[x, y, x + 10.0, y + 10.0] for x, y in corners])
    regions = np.array([[x, y, x + 100.0, y + 100.0] for x in (0.0, 100.0, 200.0) for y in (0.0, 100.0)])
    inside = in_regions(boxes, regions)
    middle = np.array(corners) + 5
    whole = ((middle >= 0) & (middle < np.array([300, 200]))).all(axis=1)
    assert inside.sum(axis=1).tolist() == whole.astype(int).tolist()


def test_pre_labelled_regions_come_back_as_they_were_written(tmp_path: Path) -> None:
    shifted = info(bounds=(300, 200, 2000, 1500))
    regions = np.array([[400, 300, 800, 700], [900, 300, 1300, 700]])
    boxes = np.array(
        [[410.25, 320.5, 430, 341.75], [905, 310, 921.5, 333], [1290, 690, 1309, 709]], np.float32
    )
    table = pl.DataFrame(
        {name: boxes[:, k] for k, name in enumerate(("x0", "y0", "x1", "y1"))}
        | {"label": ["Positive", "Negative", "Positive"], "score": [0.9] * 3}
        | {"dab_od": [0.1] * 3, "hematoxylin_od": [0.2] * 3}
    )
    path = tmp_path / "s1.geojson"
    write_regions(path, regions, table, slide_id="s1", info=shifted, frame="qupath", made={})
    found = read_labels(path, classes=CLASSES, ignore=IGNORE, info=shifted)
    assert found.regions.tolist() == regions.tolist()
    assert found.boxes.tolist() == boxes.tolist()
    assert found.labels.tolist() == ["Positive", "Negative", "Positive"]
