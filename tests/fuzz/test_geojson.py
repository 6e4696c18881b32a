"""Files that QuPath, or somebody else, wrote: the check of exports, and corrected labels."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ercohort.errors import GeoJSONError
from ercohort.geojson_files import FEW_BYTES
from ercohort.geojson_validate import Report, validate_geojson
from ercohort.labels.annotations import read_labels
from ercohort.slide import SlideInfo
from tests.fuzz.hostile import changed_bytes, changed_tree, fuzz, readable_errors_only

INFO = SlideInfo(
    path="s.svs", vendor="aperio", width=3000, height=2500, mpp=0.5, mpp_source="file",
    level_dimensions=((3000, 2500),), level_downsamples=(1.0,), bounds=(0, 0, 3000, 2500), has_bounds=False,
    background=(255, 255, 255), reader="vips", file_bytes=1,
)  # fmt: skip
TOKENS = (
    b"[" * 2000, b'{"a":' * 2000, b"1e999", b"-", b"NaN", b"9" * 500, b'"id":1,', b'"type":"Point",',
    b"\\ud800",
    b"[[[0,0],[9,0],[9,9],[0,9],[0,0]]]", b"null", b"[]", b"{}", b",",
)  # fmt: skip


def box(x: float, y: float, side: float) -> dict[str, Any]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(number: int, geometry: dict[str, Any], name: str, kind: str = "detection") -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "classification": {"name": name, "color": [250, 62, 62]},
            "measurements": {"Detection probability": 0.9},
        },
    }


SOUND = {
    "type": "FeatureCollection",
    "coordinate_frame": {"origin": "qupath", "width": 3000, "height": 2500},
    "features": [
        feature(1, box(100, 100, 400), "Region*", "annotation"),
        feature(2, box(200, 200, 12), "Positive"),
        feature(3, {"type": "Point", "coordinates": [150.5, 160]}, "Negative", "annotation"),
        feature(
            4, {"type": "Polygon", "coordinates": [[[300, 300], [312, 301], [305, 315], [300, 300]]]}, "Other"
        ),
    ],
}
SOUND["features"][1]["properties"]["childObjects"] = [feature(5, box(202, 202, 5), "Negative")]
TEXT = json.dumps(SOUND).encode()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s-001.geojson", content)
    return stream.getvalue()


def assert_read_or_refused(path: Path) -> Report | None:
    labels = readable_errors_only(
        lambda: read_labels(
            path, classes={"Positive": "Positive", "Negative": "Negative"}, ignore=["Other"], info=INFO
        )
    )
    if labels is not None:
        assert np.isfinite(labels.boxes).all()
        assert len(labels.boxes) == len(labels.labels)
    report = readable_errors_only(lambda: validate_geojson(path))
    if report is not None:
        "\n".join([report.summary(), *report.warnings]).encode()
    return report


def test_the_sound_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "s.geojson").write_bytes(TEXT)
    report = assert_read_or_refused(tmp_path / "s.geojson")
    assert report is not None
    assert report.n_features == 5


@fuzz
@given(changed_tree(SOUND))
def test_any_objects(tmp_path: Path, tree: Any) -> None:
    path = tmp_path / "s.geojson"
    path.write_bytes(json.dumps(tree).encode())
    assert_read_or_refused(path)


@fuzz
@given(changed_bytes(TEXT, TOKENS))
def test_any_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.geojson"
    path.write_bytes(content)
    assert_read_or_refused(path)


@fuzz
@given(changed_bytes(zipped(TEXT), (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\xff\xff\xff\xff")))
def test_any_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.geojson.zip"
    path.write_bytes(content)
    assert_read_or_refused(path)


@fuzz
@given(changed_bytes(gzip.compress(TEXT, mtime=0), (b"\x1f\x8b\x08",)))
def test_any_gzip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.geojson.gz"
    path.write_bytes(content)
    assert_read_or_refused(path)


def assert_refused(path: Path, words: str) -> None:
    with pytest.raises(GeoJSONError, match=words) as caught:
        validate_geojson(path)
    assert "\n" not in str(caught.value)


BLANK = bytes(2 * FEW_BYTES)


def bomb(entries: int, size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries):
            archive.writestr(f"s-{number}.geojson", BLANK[:size])
    return stream.getvalue()


def test_a_small_zip_of_much_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb(1, 2 * FEW_BYTES))
    assert_refused(path, "unpacks to more than 100 times")
    # 5 entries that say of themselves what none may be, in the directory alone.
    size, most = FEW_BYTES.to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(bomb(5, FEW_BYTES).replace(size, most))
    assert_refused(path, "unpacks to more than 8 GB")


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    """Its two headers say 10 bytes, the packed text is 32 MiB."""
    content = bomb(1, 2 * FEW_BYTES)
    content = content.replace((2 * FEW_BYTES).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "bomb.zip").write_bytes(content)
    assert_refused(tmp_path / "bomb.zip", "cannot be unpacked")


def test_a_gzip_of_much_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.geojson.gz").write_bytes(gzip.compress(b" " * 2 * FEW_BYTES))
    assert_refused(tmp_path / "bomb.geojson.gz", "unpacks to more than 100 times")
    (tmp_path / "bomb.zip").write_bytes(zipped(b""))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("inner.geojson.gz", gzip.compress(b" " * 2 * FEW_BYTES))
    assert_refused(tmp_path / "bomb.zip", "unpacks to more than 100 times")


def test_entries_over_one_another(tmp_path: Path) -> None:
    """The directory names one packed text many times."""
    content = zipped(TEXT)
    start = content.index(b"PK\1\2")
    record, end = content[start : content.index(b"PK\5\6")], content[content.index(b"PK\5\6") :]
    many = 300
    end = end[:8] + many.to_bytes(2, "little") * 2 + (many * len(record)).to_bytes(4, "little") + end[16:]
    (tmp_path / "s.zip").write_bytes(content[:start] + record * many + end)
    assert_refused(tmp_path / "s.zip", "lie over one another")


def test_names_of_entries_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "inside/../../outside.geojson"
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("../outside.geojson", TEXT)
        archive.writestr("\x1b[31m.exe", TEXT)
    assert_refused(tmp_path / "s.zip", "QuPath skips an entry")
    assert not outside.exists()


def test_objects_in_objects_in_objects(tmp_path: Path) -> None:
    inner: dict[str, Any] = feature(0, box(0, 0, 9), "Positive")
    for number in range(1, 100):
        outer = feature(number, box(0, 0, 9), "Positive")
        outer["properties"]["childObjects"] = [inner]
        inner = outer
    (tmp_path / "s.geojson").write_text(json.dumps(inner))
    assert_refused(tmp_path / "s.geojson", "deep in one another")


@pytest.mark.parametrize("depth", [1, 600, 5_000])
def test_a_number_that_is_none_deep_inside(tmp_path: Path, depth: int) -> None:
    inner = json.dumps(feature(1, box(0, 0, 9), "Positive") | {"extra": 0.5})
    (tmp_path / "s.geojson").write_text(inner.replace("0.5", "[" * depth + "NaN" + "]" * depth))
    assert_refused(tmp_path / "s.geojson", "s.geojson")


@fuzz
@given(st.integers(1, 20_000), st.sampled_from([0.0, 1e-9, 1e300, 1e16]))
def test_outlines_of_many_points(tmp_path: Path, n: int, scale: float) -> None:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = (100 + np.column_stack([np.cos(angle), np.sin(angle)]) * scale).tolist()
    shape = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    (tmp_path / "s.geojson").write_text(json.dumps(feature(1, shape, "Positive")))
    assert_read_or_refused(tmp_path / "s.geojson")
