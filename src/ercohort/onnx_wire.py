"""The few fields of an ONNX file that describe a model, read without the onnx package or any runtime.

ONNX is protobuf (https://protobuf.dev/programming-guides/encoding/); field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FLOAT32 = 1
"""TensorProto.DataType.FLOAT"""
PROTOBUF_LIMIT = 2**31
"""Bytes that one protobuf message can have."""
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


class NotOnnxError(Exception):
    """Why the bytes are no ONNX model."""


@dataclass(frozen=True)
class OnnxGraph:
    """What goes in and out: data type (`FLOAT32` or another number) and shape, None where a size is free."""

    inputs: list[tuple[int, tuple[int | None, ...]]]
    outputs: list[tuple[int, tuple[int | None, ...]]]
    external: bool  # some weights are in another file


def read_onnx(content: bytes) -> tuple[OnnxGraph, dict[str, str]]:
    """Read the graph (ModelProto field 7) and metadata_props (field 14).

    Raises
    ------
    NotOnnxError
        The bytes are no protobuf, or hold no graph.
    """
    graph = None
    properties: dict[str, str] = {}
    for field, _, part in _fields(memoryview(content)):
        if field == 7:
            graph = _read_graph(part)
        elif field == 14:
            entry = {number: bytes(text).decode("utf-8", "replace") for number, _, text in _fields(part)}
            properties[entry.get(1, "")] = entry.get(2, "")
    if graph is None:
        raise NotOnnxError("it has no graph")
    return graph, properties


def _read_graph(data: memoryview) -> OnnxGraph:
    """Read GraphProto: initializer 5, input 11, output 12."""
    values: dict[int, list[tuple[str, int, tuple[int | None, ...]]]] = {11: [], 12: []}
    weights: set[str] = set()
    external = False
    for field, _, content in _fields(data):
        if field == 5:
            for number, value, text in _fields(content):
                if number == 8:
                    weights.add(bytes(text).decode("utf-8", "replace"))
                elif number == 14 and value == _EXTERNAL:
                    external = True
        elif field in values:
            values[field].append(_read_value(content))
    # Before IR version 4, weights were listed among the inputs as well.
    inputs = [(kind, shape) for name, kind, shape in values[11] if name not in weights]
    return OnnxGraph(inputs, [(kind, shape) for _, kind, shape in values[12]], external)


def _read_value(data: memoryview) -> tuple[str, int, tuple[int | None, ...]]:
    """Read ValueInfoProto: name 1, type 2 > tensor_type 1 > (elem_type 1, shape 2 > dim 1 > dim_value 1)."""
    name, kind = "", 0
    shape: list[int | None] = []
    for field, _, content in _fields(data):
        if field == 1:
            name = bytes(content).decode("utf-8", "replace")
        for inner, _, tensor in _fields(content) if field == 2 else ():
            for part, value, dims in _fields(tensor) if inner == 1 else ():
                if part == 1:
                    kind = value
                elif part == 2:
                    shape = [
                        next((size for key, size, _ in _fields(dim) if key == 1), None)
                        for number, _, dim in _fields(dims)
                        if number == 1
                    ]
    return name, kind, tuple(shape)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotOnnxError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotOnnxError("number too long")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield field number, value of a number field (else 0), bytes of a bytes field (else empty)."""
    at = 0
    nothing = data[:0]
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value, nothing
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise NotOnnxError(f"wire type {wire}")
        if field == 0 or size > len(data) - at:
            raise NotOnnxError("a field is longer than the file")
        if wire == 2:
            yield field, 0, data[at : at + size]
        at += size
