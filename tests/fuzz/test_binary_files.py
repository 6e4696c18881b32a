"""Detectors and the layout of TIFF files."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from ercohort.inert import is_inert
from ercohort.model import ModelInfo, read_model
from ercohort.onnx_wire import NotOnnxError, read_onnx
from ercohort.slide.convert import needs_conversion
from ercohort.slide.tiff import MAX_PAGES, TiffLayoutError, read_pages
from tests.fuzz.hostile import changed_bytes, fuzz, readable_errors_only, texts


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def part(field: int, content: bytes | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(content, int):
        return varint(field << 3) + varint(content)
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor(name: bytes, dims: list[int | None]) -> bytes:
    shape = b"".join(part(1, b"" if dim is None else part(1, dim)) for dim in dims)
    return part(1, name) + part(2, part(1, part(1, 1) + part(2, shape)))


def detector(metadata: dict[str, str]) -> bytes:
    graph = part(5, part(8, b"w")) + part(11, tensor(b"images", [None, 3, None, None]))
    graph += part(12, tensor(b"output0", [None, 6, None]))
    entries = (
        part(1, key.encode("utf-8", "replace")) + part(2, value.encode("utf-8", "replace"))
        for key, value in metadata.items()
    )
    return part(7, graph) + b"".join(part(14, entry) for entry in entries)


METADATA = {
    "names": "{0: 'Positive', 1: 'Negative'}",
    "mpp": "0.5",
    "tile_px": "640",
    "name": "er",
    "version": "1",
}
LITERALS = st.sampled_from(
    [
        "{[]: 1}",
        "-" * 4000 + "1",
        "(" * 500,
        "1" * 9000,
        "{0: 'Positive', 1: '=Negative'}",
        "['a', 'Negative\\n']",
        "b''",
    ]
)


def assert_sound_or_refused(path: Path, content: bytes) -> ModelInfo | None:
    path.write_bytes(content)
    model: ModelInfo | None = readable_errors_only(lambda: read_model(path))
    if model is not None:
        assert 2 <= len(model.labels) <= 16
        assert 0.05 <= model.mpp <= 8
        for text in (model.name, model.version, *model.labels):
            assert is_inert(text)
            assert len(text) <= 100
    return model


def test_the_sound_detector_is_read(tmp_path: Path) -> None:
    model = assert_sound_or_refused(tmp_path / "er.onnx", detector(METADATA))
    assert model is not None
    assert model.labels == ("Positive", "Negative")


@fuzz
@given(changed_bytes(detector(METADATA), (b"\xff" * 10, b"\x80" * 12, b"\x3a\x00", b"\x72\x00")))
def test_any_detector(tmp_path: Path, content: bytes) -> None:
    assert_sound_or_refused(tmp_path / "er.onnx", content)
    try:
        read_onnx(content)
    except NotOnnxError as error:
        assert str(error)  # noqa: PT017


@fuzz
@given(st.sampled_from([*METADATA, "imgsz"]), st.one_of(texts, LITERALS))
@example("names", "{[]: 1}")
@example("name", "=cmd|' /C calc'!A0\x1b[2J" * 50)
def test_any_metadata(tmp_path: Path, key: str, value: str) -> None:
    metadata = {**METADATA, key: value}
    if key == "imgsz":
        del metadata["tile_px"]
    assert_sound_or_refused(tmp_path / "er.onnx", detector(metadata))


def tiff(order: str, big: bool, pages: list[list[tuple[int, int, int, int]]], following: list[int]) -> bytes:
    """A TIFF of pages of (tag, type, count, value), each of which names the next one."""
    mark = b"II" if order == "<" else b"MM"
    count_format, entry_format, next_format = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    most = 2 ** (64 if big else 32) - 1
    for page, link in zip(pages, following, strict=True):
        head += struct.pack(order + count_format, len(page))
        for tag, kind, n, value in page:
            head += struct.pack(order + entry_format, tag, kind, min(n, most), min(value, most))
        place = len(head) + struct.calcsize(order + next_format)
        head += struct.pack(order + next_format, place if link < 0 else min(link, most))
    return head


entries = st.tuples(
    st.sampled_from([256, 257, 258, 259, 277, 322, 324, 65535]),
    st.integers(0, 20),
    st.sampled_from([0, 1, 2, 4, 5, 2**31, 2**63]),
    st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300)),
)


@fuzz
@given(
    st.sampled_from("<>"),
    st.booleans(),
    st.lists(st.tuples(st.lists(entries, max_size=6), st.integers(-1, 200)), min_size=1, max_size=5),
    st.data(),
)
def test_any_tiff(
    tmp_path: Path, order: str, big: bool, pages: list[tuple[list[tuple[int, ...]], int]], data: st.DataObject
) -> None:
    content = tiff(order, big, [page for page, _ in pages], [link for _, link in pages])
    path = tmp_path / "s.tif"
    path.write_bytes(data.draw(changed_bytes(content)))
    try:
        assert 1 <= len(read_pages(path)) <= MAX_PAGES
    except TiffLayoutError as error:
        assert 3 < len(str(error)) < 200  # noqa: PT017
    assert needs_conversion(path) in (True, False)
