"""The fast reader says of every file what the general reader says, or leaves it to that one."""

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import geojson_validate
from ercohort.errors import GeoJSONError
from ercohort.geojson_scan import scan
from ercohort.geojson_validate import validate_geojson
from tests.unit.test_geojson import entries, nuclei, random_nuclei, write


def text_of(table, folder):
    write(table, folder / "n.geojson.zip")
    (entry,) = entries(folder / "n.geojson.zip").values()
    return json.dumps(entry, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A collection of both classes, with and without measurements, as the writer makes it."""
    table = random_nuclei(12).to_dict(as_series=False)
    table["dab_od"][3] = table["score"][4] = table["hematoxylin_od"][4] = None
    table["dab_od"][5], table["dab_od"][6] = 0.0, 1e-5
    boxes = list(zip(*(table[name] for name in ("x0", "y0", "x1", "y1")), strict=True))
    columns = {name: table[name] for name in ("score", "dab_od", "hematoxylin_od")}
    return text_of(nuclei(boxes, table["label"], **columns), tmp_path_factory.mktemp("written"))


def verdict(path, content):
    path.write_bytes(content)
    try:
        return validate_geojson(path)
    except GeoJSONError as error:
        return str(error)


def both(folder, content):
    """What is said of a file with the fast reader and without it."""
    path = folder / "n.geojson"
    with pytest.MonkeyPatch.context() as patch:
        fast = verdict(path, content)
        patch.setattr(geojson_validate, "scan", lambda content: None)
        return fast, verdict(path, content)


def test_what_is_written_is_read_fast(written, tmp_path):
    found = scan(written)
    assert found is not None
    assert len(found.ids) == 12
    assert sum(kind.count for kind in found.kinds) == 12
    fast, general = both(tmp_path, written)
    assert fast == general
    assert fast.n_features == 12
    assert set(fast.n_by_class) == {"Positive", "Negative"}


def test_places_and_ids_are_those_that_json_has(written):
    features = json.loads(written)["features"]
    found = scan(written)
    for feature, extent, halves in zip(features, found.extents.tolist(), found.ids.tolist(), strict=True):
        x, y = zip(*feature["geometry"]["coordinates"][0], strict=True)
        assert extent == [min(x), min(y), max(x), max(y)]
        assert uuid.UUID(feature["id"]).int == halves[0] << 64 | halves[1]


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"separators": (" ,\n", " :\t")}])
def test_white_space_does_not_matter(written, tmp_path, options):
    spaced = json.dumps(json.loads(written), **options).encode()
    fast, general = both(tmp_path, spaced)
    assert scan(spaced) is not None
    assert fast == general
    assert fast.n_features == 12


LETTERS = b'{}[]",:.-+0123456789eEaftn \n\\xX\xff\x00'


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_changed_file_is_judged_as_by_the_general_reader(written, tmp_path_factory, data):
    content = bytearray(written)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        what = data.draw(st.sampled_from(["replace", "insert", "delete", "cut", "repeat"]))
        letter = data.draw(st.sampled_from(LETTERS))
        if what == "replace":
            content[at] = letter
        elif what == "insert":
            content.insert(at, letter)
        elif what == "delete":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif what == "repeat":
            content[at:at] = content[at : at + data.draw(st.integers(1, 400))]
        else:
            del content[at:]
        if not content:
            return
    fast, general = both(tmp_path_factory.mktemp("changed"), bytes(content))
    assert fast == general


NUMBERS = [
    "0", "-0", "00", "01", "1.", ".5", "1e2", "1e999", "-1.25", "123456789012345678", "9" * 400, "1e-400",
    "0.1234567890123456789", "NaN", "null", "true", '"5"', "1E+2", "-", "+1", "0x1",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", ["coordinate", "measurement", "colour"])
def test_every_way_to_write_a_number_is_judged_as_by_the_general_reader(written, tmp_path, number, place):
    feature = json.loads(written)["features"][-1]
    marks = {"coordinate": feature["geometry"]["coordinates"][0][1], "colour": None,
             "measurement": feature["properties"]["measurements"]}  # fmt: skip
    if place == "coordinate":
        feature["geometry"]["coordinates"][0][1][0] = "MARK"
    elif place == "measurement":
        marks["measurement"]["Detection probability"] = "MARK"
    else:
        feature["properties"]["classification"]["color"][0] = "MARK"
    last = json.dumps(feature, separators=(",", ":")).replace('"MARK"', number).encode()
    fast, general = both(tmp_path, written.rstrip()[:-2] + b"," + last + b"]}")
    assert fast == general


def test_a_feature_that_only_looks_like_a_box_is_left_to_the_general_reader(written):
    """What is in a name, in a copy of a member, or in a member that nobody reads, is not what is read."""
    plain = json.loads(written)["features"][0]
    text = json.dumps(plain, separators=(",", ":"))
    ring = json.dumps(plain["geometry"]["coordinates"], separators=(",", ":"))
    decoys = [
        text.replace('"type":"Feature",', f'"type":"Feature","x":{{"coordinates":{ring}}},'),
        text.replace('"id":', f'"name":{json.dumps(chr(34) + "id" + chr(34))},"id":'),
        text.replace('"properties":{', '"properties":{"metadata":{"measurements":"{}"},'),
        text.replace(f'"id":"{plain["id"]}"', f'"x":{{"id":"{plain["id"]}"}},"id":"{uuid.uuid4()}"'),
    ]
    for decoy in decoys:
        content = f'{{"type":"FeatureCollection","features":[{decoy}]}}'.encode()
        found = scan(content)
        if found is not None:
            feature = json.loads(decoy)
            assert uuid.UUID(feature["id"]).int == int(found.ids[0, 0]) << 64 | int(found.ids[0, 1])
            x, y = zip(*feature["geometry"]["coordinates"][0], strict=True)
            assert found.extents[0].tolist() == [min(x), min(y), max(x), max(y)]
