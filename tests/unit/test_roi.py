"""Regions: what a polygon drawn in QuPath means for the nuclei beside, in and on it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ercohort.config import RegionSettings
from ercohort.errors import SlideError, Status
from ercohort.roi import NOWHERE, TISSUE, make_roi
from ercohort.roi_file import read_roi
from ercohort.slide import SlideInfo

SIZE = (1000, 800)


def info(bounds=(0, 0, *SIZE)) -> SlideInfo:
    return SlideInfo(
        path="slide.tif", vendor="generic-tiff", width=SIZE[0], height=SIZE[1], mpp=0.5, mpp_source="sheet",
        level_dimensions=(SIZE,), level_downsamples=(1.0,), bounds=bounds,
        has_bounds=bounds != (0, 0, *SIZE), background=(255, 255, 255), reader="vips", file_bytes=1,
    )  # fmt: skip


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(name, *rings, kind="Polygon", object_type="annotation", **geometry):
    coordinates = [[ring] for ring in rings] if kind == "MultiPolygon" else list(rings)
    properties = {"objectType": object_type}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    shape = {"type": kind, "coordinates": coordinates, **geometry}
    return {"type": "Feature", "geometry": shape, "properties": properties}


@pytest.fixture
def read(tmp_path):
    def read_features(*features, slide=None, settings=None, frame="qupath", **top):
        path = tmp_path / "roi.geojson"
        collection = {"type": "FeatureCollection", "features": list(features), **top}
        path.write_text(json.dumps(collection))
        return read_roi(path, info=slide or info(), settings=settings or RegionSettings(), frame=frame)

    return read_features


def regions_at(roi, *points):
    x, y = np.array(points, float).T
    return [None if index == NOWHERE else roi.names[index] for index in roi.assign(x, y)]


def test_a_nucleus_belongs_by_its_centre_and_exclusion_wins(read):
    roi = read(feature("Tumor", square(100, 100, 500, 500)), feature("Necrosis", square(200, 200, 300, 300)))
    assert roi.names == ("tumour",)
    assert regions_at(roi, (150, 150), (250, 250), (499, 499), (501, 499)) == ["tumour", None, "tumour", None]


def test_exclusion_wins_whatever_the_order(read):
    tumour, necrosis = feature("Tumor", square(0, 0, 99, 99)), feature("Necrosis", square(0, 0, 50, 99))
    for features in ((tumour, necrosis), (necrosis, tumour)):
        assert regions_at(read(*features), (20, 20), (70, 20)) == [None, "tumour"]


def test_holes_are_outside(read):
    roi = read(feature("Tumor", square(0, 0, 100, 100), square(40, 40, 60, 60)))
    assert regions_at(roi, (20, 20), (50, 50)) == ["tumour", None]


def test_parts_of_one_annotation_and_annotations_of_one_class_are_one_region(read):
    both = feature("DCIS", square(0, 0, 10, 10), square(50, 50, 60, 60), kind="MultiPolygon")
    roi = read(both, feature("DCIS", square(100, 100, 110, 110)))
    assert roi.names == ("DCIS",)
    assert regions_at(roi, (5, 5), (55, 55), (105, 105), (30, 30)) == ["DCIS", "DCIS", "DCIS", None]


def test_of_two_regions_in_each_other_the_smaller_one_has_the_nucleus(read):
    outer, inner = feature("Tumor", square(0, 0, 400, 400)), feature("DCIS", square(100, 100, 200, 200))
    for features in ((outer, inner), (inner, outer)):
        assert regions_at(read(*features), (50, 50), (150, 150)) == ["tumour", "DCIS"]


def test_a_border_that_two_regions_share_loses_and_doubles_nothing(read):
    roi = read(feature("A", square(0, 0, 100, 100)), feature("B", square(100, 0, 200, 100)))
    assert None not in regions_at(roi, (99, 50), (100, 50), (101, 50), (0, 0))


def test_an_outline_that_crosses_itself_is_repaired_and_said(read):
    bow_tie = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]
    roi = read(feature("Tumor", bow_tie))
    assert regions_at(roi, (10, 50), (90, 50), (50, 10)) == ["tumour", "tumour", None]
    assert roi.notes == ("outlines that cross themselves, repaired: 1",)


def test_what_is_drawn_off_the_slide_is_cut_at_its_edge(read):
    roi = read(feature("Tumor", square(900, 700, 1200, 900)))
    assert shapely.union_all(roi.shapes).bounds == (900, 700, 1000, 800)
    assert "off the slide" in roi.notes[0]
    with pytest.raises(SlideError, match="lies on the slide"):
        read(feature("Tumor", square(2000, 0, 2100, 100)))


def test_qupaths_frame_begins_at_the_bounds(read):
    drawn = feature("Tumor", square(0, 0, 100, 100))
    slide = info(bounds=(300, 200, 600, 500))
    assert regions_at(read(drawn, slide=slide), (350, 250), (50, 50)) == ["tumour", None]
    assert regions_at(read(drawn, slide=slide, frame="slide"), (350, 250), (50, 50)) == [None, "tumour"]
    stated = {"coordinate_frame": {"origin": "slide"}}
    assert regions_at(read(drawn, slide=slide, **stated), (50, 50)) == ["tumour"]


def test_an_ellipse_is_what_qupath_draws(read):
    roi = read(feature("Tumor", square(0, 0, 200, 100), isEllipse=True))
    assert regions_at(roi, (100, 50), (5, 5), (195, 95)) == ["tumour", None, None]
    assert roi.shapes[0].area == pytest.approx(np.pi * 100 * 50, rel=0.001)


def test_exclusions_alone_leave_the_rest_of_the_tissue(read):
    roi = read(feature("Ignore*", square(0, 0, 500, 800)))
    assert roi.names == (TISSUE,)
    assert regions_at(roi, (100, 100), (900, 100)) == [None, TISSUE]


def test_control_tissue_is_counted_apart(read):
    roi = read(feature("Tumor", square(0, 0, 100, 100)), feature("Control", square(200, 0, 300, 100)))
    assert roi.names == ("tumour", "Control")
    assert roi.counted == ("tumour",)


def test_only_annotations_with_an_area_are_regions(read):
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {}}
    nucleus = feature("Tumor", square(500, 500, 510, 510), object_type="detection")
    roi = read(feature("", square(0, 0, 100, 100)), point, nucleus)
    assert roi.names == ("roi",)
    assert regions_at(roi, (505, 505)) == [None]
    assert roi.notes == ("annotations without an area, passed over: 1",)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "no GeoJSON"), ('{"type":"FeatureCollection","features":[]}', "no annotation"), (None, "no such")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, words):
    path = tmp_path / "roi.geojson"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SlideError, match=words) as raised:
        read_roi(path, info=info(), settings=RegionSettings())
    assert str(path) in raised.value.message
    assert raised.value.status is Status.FAILED


def test_a_file_of_another_slide_is_refused(read):
    with pytest.raises(SlideError, match="500 x 500 px, this one has 1000 x 800"):
        read(
            feature("Tumor", square(0, 0, 9, 9)),
            coordinate_frame={"origin": "slide", "width": 500, "height": 500},
        )


def test_a_tile_is_read_only_if_a_region_reaches_into_its_core(read):
    roi = read(feature("Tumor", square(100, 100, 200, 200)), feature("Ignore*", square(100, 100, 200, 150)))
    cores = np.array([(0, 0, 90, 90), (90, 90, 140, 140), (90, 140, 140, 190), (300, 300, 400, 400)])
    assert roi.touches(cores).tolist() == [False, False, True, False]


def test_tissue_is_measured_per_region(read):
    roi = read(feature("A", square(0, 0, 500, 800)), feature("B", square(500, 0, 1000, 400)))
    mask = np.ones((80, 100), bool)
    mask[:, 50:] = False
    area = roi.tissue_mm2(mask, (10.0, 10.0), 0.5)
    assert area == pytest.approx([500 * 800 * 0.25e-6, 0.0])


def test_of_a_mask_what_counts_is_kept(read):
    """Neither what is excluded nor control tissue, and nothing that is not in the mask."""
    roi = read(
        feature("Tumor", square(0, 0, 500, 800)),
        feature("Ignore*", square(0, 0, 100, 800)),
        feature("Control", square(500, 0, 1000, 800)),
    )
    mask = np.ones((80, 100), bool)
    mask[40:] = False
    kept = roi.counted_of(mask, (10.0, 10.0))
    assert kept[:40, 10:50].all()
    assert kept.sum() == 40 * 40


PIECES = st.lists(
    st.tuples(
        st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30),
        st.sampled_from(["A", "B", "out"]),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@given(PIECES)
def test_every_point_is_where_the_rules_say(pieces):
    """On points off all borders: excluded by any exclusion, else in the smallest region that has it."""
    boxes = [(name, (x, y, x + w, y + h)) for x, y, w, h, name in pieces]
    excluded = [shapely.box(*box) for name, box in boxes if name == "out"]
    outlines = [(name, shapely.box(*box)) for name, box in boxes if name != "out"]
    roi = make_roi(outlines, excluded, size=(60, 60))
    x, y = (axis.ravel() + 0.5 for axis in np.mgrid[0:60, 0:60])
    found = roi.assign(x, y)
    area = {name: shape.area for name, shape in zip(roi.names, roi.shapes, strict=True)}

    def holds(box):
        return (box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3])

    out = np.zeros(len(x), bool)
    inside = {name: np.zeros(len(x), bool) for name in area}
    for name, box in boxes:
        if name == "out":
            out |= holds(box)
        elif name in inside:
            inside[name] |= holds(box)
    if not outlines:
        inside = {TISSUE: np.ones(len(x), bool)}
    expected = np.full(len(x), NOWHERE)
    for index in sorted(range(len(roi.names)), key=lambda index: -area[roi.names[index]]):
        expected[inside[roi.names[index]] & ~out] = index
    if len(set(area.values())) == len(area):
        assert (found == expected).all()
    else:
        assert ((found == NOWHERE) == (expected == NOWHERE)).all()


def test_what_is_left_out_or_apart_is_so_in_any_spelling_and_with_any_subclass(read):
    tumour = feature("tumor", square(0, 0, 500, 500))
    roi = read(
        tumour, feature("Tumour", square(500, 0, 600, 500)), feature("necrosis: old", square(0, 0, 99, 99)),
        feature("control: kidney", square(700, 0, 800, 99)), feature("Stroma", square(100, 100, 199, 199)),
        feature("IMMUNE CELLS", square(200, 200, 299, 299)),
        feature("Tumor: DCIS", square(300, 300, 399, 399)),
    )  # fmt: skip
    assert roi.counted == ("tumour", "Tumor: DCIS")
    assert {name.casefold() for name in roi.apart} == {"control", "stroma", "immune cells"}
    points = [(50, 50), (550, 50), (150, 150), (350, 350)]
    assert regions_at(roi, *points) == [None, "tumour", "Stroma", "Tumor: DCIS"]


def test_a_setting_in_another_case_still_sets_apart(read):
    settings = RegionSettings(apart=["my control"])
    roi = read(feature("My Control", square(0, 0, 99, 99)), feature(None, square(200, 0, 299, 99)),
               settings=settings)  # fmt: skip
    assert roi.counted == ("roi",)


def test_single_nuclei_that_were_drawn_are_no_regions_and_said(read):
    roi = read(feature("Tumor", square(0, 0, 500, 500)), feature("Positive", square(9, 9, 19, 19)),
               feature("Tumor: 2+", square(30, 30, 40, 40)))  # fmt: skip
    assert roi.names == ("tumour",)
    assert any("single nuclei" in note and note.endswith("2") for note in roi.notes)


def test_with_control_tissue_alone_the_rest_of_the_tissue_counts(read):
    roi = read(feature("Control", square(0, 0, 99, 99)))
    assert roi.counted == (TISSUE,)
    assert regions_at(roi, (50, 50), (500, 500)) == ["Control", TISSUE]
    assert roi.outlined == {"Control"}


def test_the_border_of_what_is_left_out_is_left_out(read):
    roi = read(feature("Tumor", square(0, 0, 99, 99)), feature("Necrosis", square(50, 0, 99, 99)))
    assert regions_at(roi, (49.9, 50), (50, 50), (50.1, 50)) == ["tumour", None, None]


def test_a_name_with_the_table_s_separator_stays_one_name(read):
    assert read(feature("a;b", square(0, 0, 99, 99))).names == ("a,b",)


@pytest.mark.parametrize(("n", "is_refused"), [(300, False), (2000, True)])
def test_an_outline_that_crosses_itself_everywhere_is_refused_before_it_takes_the_memory(read, n, is_refused):
    ring = np.random.default_rng(0).uniform(0, 700, (n, 2)).tolist()
    if not is_refused:
        assert any("cross themselves" in note for note in read(feature("Tumor", [*ring, ring[0]])).notes)
        return
    with pytest.raises(SlideError, match="crosses itself more than 20,000 times; draw it again"):
        read(feature("Tumor", [*ring, ring[0]]))
