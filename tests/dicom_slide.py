"""A writer of small DICOM slides, as the standard's whole-slide microscopy object asks for.

Only what a reader needs is written, by hand: explicit VR, little endian, JPEG frames, TILED_FULL.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.slides import Array, halve

_WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_ROOT = "1.2.826.0.1.3680043.8.498.1"
_TILE = 256
_LONG = ("OB", "SQ", "UT", "OW")


def write_dicom(folder: Path, picture: Array, mpp: float = 0.5) -> Path:
    """Write a DICOM slide of two levels (1 and 2) into a folder, among files that are none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "readme.txt").write_text("no DICOM")
    size_mm = (picture.shape[1] * mpp / 1000, picture.shape[0] * mpp / 1000)
    for index, (name, level) in enumerate([("level-0.dcm", picture), ("a-level-1.dcm", halve(picture))]):
        (folder / name).write_bytes(_file(level, index, mpp * 2**index, size_mm))
    return folder


def _file(level: Array, index: int, mpp: float, size_mm: tuple[float, float]) -> bytes:
    instance = f"{_ROOT}.1.{index + 1}"
    meta = _text(0x00020002, "UI", _WSI) + _text(0x00020003, "UI", instance)
    meta += _text(0x00020010, "UI", _JPEG_BASELINE)
    head = bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    frames = _frames(level)
    kind = "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED" if index else "ORIGINAL\\PRIMARY\\VOLUME\\NONE"
    spacing = _text(0x00180050, "DS", "0.01") + _text(0x00280030, "DS", f"{mpp / 1000}\\{mpp / 1000}")
    body = [
        _text(0x00080008, "CS", kind),
        _text(0x00080016, "UI", _WSI),
        _text(0x00080018, "UI", instance),
        _text(0x00080060, "CS", "SM"),
        _text(0x0020000D, "UI", f"{_ROOT}.2"),
        _text(0x0020000E, "UI", f"{_ROOT}.3"),
        _text(0x00200013, "IS", str(index + 1)),
        _text(0x00200052, "UI", f"{_ROOT}.4"),
        _text(0x00209311, "CS", "TILED_FULL"),
        _short(0x00280002, 3),
        _text(0x00280004, "CS", "YBR_FULL_422"),
        _short(0x00280006, 0),
        _text(0x00280008, "IS", str(len(frames))),
        *(_short(tag, value) for tag, value in _SHAPE),
        _element(0x00480001, "FL", struct.pack("<f", size_mm[0])),
        _element(0x00480002, "FL", struct.pack("<f", size_mm[1])),
        _element(0x00480003, "FL", struct.pack("<f", 0.01)),
        _long(0x00480006, level.shape[1]),
        _long(0x00480007, level.shape[0]),
        _sequence(0x00480105, _text(0x00480106, "SH", "1")),
        _long(0x00480303, 1),
        _sequence(0x52009229, _sequence(0x00289110, spacing)),
        _pixels(frames),
    ]
    return head + b"".join(body)


# Rows, columns, bits allocated and stored, high bit, unsigned.
_SHAPE = [(0x00280010, _TILE), (0x00280011, _TILE), (0x00280100, 8), (0x00280101, 8), (0x00280102, 7)]
_SHAPE += [(0x00280103, 0)]


def _frames(level: Array) -> list[bytes]:
    frames = []
    for y in range(0, level.shape[0], _TILE):
        for x in range(0, level.shape[1], _TILE):
            tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
            part = level[y : y + _TILE, x : x + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            buffer = io.BytesIO()
            Image.fromarray(tile).save(buffer, "JPEG", quality=92, subsampling=0)
            frames.append(buffer.getvalue())
    return frames


def _tag(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if vr in _LONG:
        return _tag(tag) + vr.encode() + struct.pack("<HI", 0, len(value)) + value
    return _tag(tag) + vr.encode() + struct.pack("<H", len(value)) + value


def _text(tag: int, vr: str, value: str) -> bytes:
    padding = "" if len(value) % 2 == 0 else "\0" if vr == "UI" else " "
    return _element(tag, vr, (value + padding).encode())


def _short(tag: int, value: int) -> bytes:
    return _element(tag, "US", struct.pack("<H", value))


def _long(tag: int, value: int) -> bytes:
    return _element(tag, "UL", struct.pack("<I", value))


def _sequence(tag: int, item: bytes) -> bytes:
    return _element(tag, "SQ", _tag(0xFFFEE000) + struct.pack("<I", len(item)) + item)


def _pixels(frames: list[bytes]) -> bytes:
    padded = [frame + bytes(len(frame) % 2) for frame in frames]
    offsets, place = [], 0
    for frame in padded:
        offsets.append(place)
        place += len(frame) + 8
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    items = b"".join(_tag(0xFFFEE000) + struct.pack("<I", len(item)) + item for item in [table, *padded])
    start = _tag(0x7FE00010) + b"OB" + struct.pack("<HI", 0, 0xFFFFFFFF)
    return start + items + _tag(0xFFFEE0DD) + struct.pack("<I", 0)
