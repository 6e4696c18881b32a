"""Reading a collection of upright boxes at the speed of its bytes.

A writer's features differ in their numbers and ids only. So one feature of each kind is decoded and checked
like any other; of those that follow, every byte outside the numbers and the id has to be the same, and the
numbers are read where the first one has its own. Whatever is not like that is left to the general reader,
which also words the errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ercohort.geojson_geometry import GRID, Polygon
from ercohort.geojson_schema import NOT_JSON, NULL, Feature, Top
from ercohort.kernels import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_KINDS = 64
_LEAST_BYTES = 150
"""No feature that has an id, a ring of five positions and a type is shorter."""

_END, _UUID, _COORDINATE, _MEASUREMENT = range(4)
_SAMPLE_ID = "01234567-89ab-4cde-8f01-23456789abcd"

_NUMBER = rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_OPENING = re.compile(rb'"features"\s*:\s*\[\s*')
_ID = re.compile(rb'"id"\s*:\s*"([0-9a-fA-F-]{36})"')
_POSITION = rb"\[\s*(%b)\s*,\s*(%b)\s*\]" % (_NUMBER, _NUMBER)
_RING = re.compile(rb'"coordinates"\s*:\s*\[\s*\[\s*' + rb"\s*,\s*".join([_POSITION] * 5))
_MEASUREMENTS = re.compile(rb'"measurements"\s*:\s*\{((?:[^{}"\\]|"[^"\\]*")*)\}')
_VALUE = re.compile(rb'"[^"\\]*"\s*:\s*(%b)' % _NUMBER)

_FEATURE = msgspec.json.Decoder(Feature)
_TOP = msgspec.json.Decoder(Top)


@dataclass(frozen=True)
class Kind:
    """Features that differ in their numbers and ids only.

    Attributes
    ----------
    first
        Index of the first of them.
    feature
        That one, decoded.
    count
        How many there are.
    """

    first: int
    feature: Feature
    count: int


@dataclass(frozen=True, eq=False)
class Scan:
    """What a collection holds.

    Attributes
    ----------
    top
        Its members, without the features.
    kinds
        Of the features.
    extents
        (N, 4) min x, min y, max x, max y of the boxes; each is closed, upright, and has an area on
        QuPath's grid.
    ids
        (N, 2) halves of the UUIDs; none is zero.
    """

    top: Top
    kinds: list[Kind]
    extents: NDArray[np.float64]
    ids: NDArray[np.uint64]


def scan(content: bytes) -> Scan | None:
    """Read a FeatureCollection whose features are all upright boxes with an id; None if it is anything else.

    The decoded features still have to be checked, one for each kind.
    """
    opening = _OPENING.search(content, 0, 1 << 16)
    if opening is None:
        return None
    data, at, kinds = np.frombuffer(content, np.uint8), opening.end(), _Kinds()
    capacity = (len(content) - at) // _LEAST_BYTES + 1
    extents, ids = np.empty((capacity, 4)), np.empty((capacity, 2), np.uint64)
    kind_of, n = np.empty(capacity, np.uint8), 0
    while True:
        at, n, ended = _scan(data, at, n, *kinds.tables(), extents, ids, kind_of)
        if ended:
            break
        if not kinds.learn(content[at : _object_end(data, at)], n):
            return None
    top = _top(content[: opening.end()], content[at:])
    if top is None:
        return None
    counts = np.bincount(kind_of[:n], minlength=len(kinds.features))
    found = [
        Kind(first, feature, int(count))
        for first, feature, count in zip(kinds.firsts, kinds.features, counts, strict=True)
    ]
    return Scan(top, found, extents[:n], ids[:n])


def _top(head: bytes, tail: bytes) -> Top | None:
    """Decode what is around the features, if that is sound."""
    if tail.strip(b" \t\r\n") != b"}":
        return None
    try:
        top = _TOP.decode(head + b"]}")
    except NOT_JSON:
        return None
    return top if top.type == "FeatureCollection" and top.features == [] else None


class _Kinds:
    """The kinds of features seen so far, as tables of literal text and of what follows each piece of it."""

    def __init__(self) -> None:
        self.features: list[Feature] = []
        self.firsts: list[int] = []
        self._text = bytearray()
        self._ends: list[int] = [0]
        self._slots: list[int] = []
        self._starts: list[int] = [0]

    def tables(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """Text; where its pieces end; what follows each; the first piece of each kind."""
        return (
            np.frombuffer(bytes(self._text), np.uint8),
            np.array(self._ends),
            np.array(self._slots, np.uint8),
            np.array(self._starts),
        )

    def learn(self, feature: bytes, index: int) -> bool:
        """Add the kind of a feature; False if it is none that can be read here, or was added before."""
        slots = _slots(feature)
        if slots is None or len(self.features) == _MOST_KINDS:
            return False
        if self.firsts and self.firsts[-1] == index:
            return False  # it does not fit the kind that was made of it
        at = 0
        for start, end, slot in [*slots, (len(feature), 0, _END)]:
            self._text += feature[at:start]
            self._ends.append(len(self._text))
            self._slots.append(slot)
            at = end
        self._starts.append(len(self._slots))
        self.features.append(_FEATURE.decode(feature))
        self.firsts.append(index)
        return True


def _slots(feature: bytes) -> list[tuple[int, int, int]] | None:
    """Where a feature has its id and its numbers, if it is a box and these places are truly what is read."""
    identity, ring = _ID.search(feature), _RING.search(feature)
    if identity is None or ring is None:
        return None
    slots = [(*identity.span(1), _UUID)]
    slots += [(*ring.span(group), _COORDINATE) for group in range(1, 11)]
    measurements = _MEASUREMENTS.search(feature)
    if measurements is not None:
        values = _VALUE.finditer(feature, *measurements.span(1))
        slots += [(*value.span(1), _MEASUREMENT) for value in values]
    slots.sort()
    return slots if _is_read_there(feature, slots) else None


def _is_read_there(feature: bytes, slots: list[tuple[int, int, int]]) -> bool:
    """Put other numbers and another id into the places, and see them come out of the decoder."""
    changed, at = [], 0
    numbers: dict[int, list[float]] = {_COORDINATE: [], _MEASUREMENT: []}
    for number, (start, end, slot) in enumerate(slots):
        changed.append(feature[at:start])
        if slot == _UUID:
            changed.append(_SAMPLE_ID.encode())
        else:
            numbers[slot].append(number + 0.5)
            changed.append(b"%d.5" % number)
        at = end
    try:
        _FEATURE.decode(feature)
        decoded = _FEATURE.decode(b"".join([*changed, feature[at:]]))
    except NOT_JSON:
        return False
    geometry, properties = decoded.geometry, decoded.properties
    if type(geometry) is not Polygon or len(geometry.coordinates) != 1 or not properties:
        return False
    measured = properties.measurements or {}
    return (
        [value for position in geometry.coordinates[0] for value in position] == numbers[_COORDINATE]
        and isinstance(measured, dict)
        and list(measured.values()) == numbers[_MEASUREMENT]
        and decoded.id == _SAMPLE_ID
        and decoded.nucleus_geometry is None
        and bytes(decoded.object_type) == bytes(NULL)
        and not properties.child_objects
    )


@njit(cache=True, nogil=True)
def _scan(data, at, n, text, ends, slots, starts, extents, ids, kind_of):  # type: ignore[no-untyped-def]
    """Read features while they are of a known kind.

    Returns
    -------
    Where it stopped, how many features there are, and whether the list ended there.
    """
    ring = np.empty(10)
    kind = 0
    while True:
        end = -1
        for tried in range(starts.shape[0] - 1):
            one = (kind + tried) % (starts.shape[0] - 1)
            end = _match(data, at, text, ends, slots, starts[one], starts[one + 1], ring, ids, n)
            if end >= 0:
                kind = one
                break
        if end < 0 or n == ids.shape[0] or not _measure_box(ring, extents, n):
            return at, n, False
        if ids[n, 0] == 0 and ids[n, 1] == 0:
            return at, n, False
        kind_of[n] = kind
        following = _skip_space(data, end)
        if following == data.shape[0]:
            return at, n, False
        if data[following] == ord("]"):
            return following + 1, n + 1, True
        if data[following] != ord(","):
            return at, n, False
        at, n = _skip_space(data, following + 1), n + 1


@njit(cache=True, nogil=True)
def _match(data, at, text, ends, slots, first, last, ring, ids, n):  # type: ignore[no-untyped-def]
    """Return the end of the feature at `at` if it is of this kind, else -1; its numbers go to the arrays."""
    corner = 0
    for piece in range(first, last):
        start, end = ends[piece], ends[piece + 1]
        if at + end - start > data.shape[0]:
            return -1
        found, wanted, differing = data[at : at + end - start], text[start:end], np.uint8(0)
        for k in range(end - start):  # without a way out, so that many bytes are compared at once
            differing |= found[k] ^ wanted[k]
        if differing:
            return -1
        at += end - start
        slot = slots[piece]
        if slot != _END and at == data.shape[0]:
            return -1
        if slot == _UUID:
            at = _read_uuid(data, at, ids, min(n, ids.shape[0] - 1))
        elif slot == _COORDINATE:
            at, ring[corner] = _read_coordinate(data, at)
            corner += 1
        elif slot == _MEASUREMENT:
            at = _skip_number(data, at)
        if at < 0:
            return -1
    return at


@njit(cache=True, nogil=True)
def _read_uuid(data, at, ids, n):  # type: ignore[no-untyped-def]
    if at + 36 > data.shape[0]:
        return -1
    half = np.uint64(0)
    for index in range(36):
        byte = data[at + index]
        if index == 8 or index == 13 or index == 18 or index == 23:
            if byte != ord("-"):
                return -1
        else:
            if ord("0") <= byte <= ord("9"):
                digit = byte - ord("0")
            elif ord("a") <= byte <= ord("f"):
                digit = byte - ord("a") + 10
            elif ord("A") <= byte <= ord("F"):
                digit = byte - ord("A") + 10
            else:
                return -1
            half = half << np.uint64(4) | np.uint64(digit)
        if index == 17:
            ids[n, 0], half = half, np.uint64(0)
    ids[n, 1] = half
    return at + 36


@njit(cache=True, nogil=True)
def _read_coordinate(data, at):  # type: ignore[no-untyped-def]
    """Read a decimal of up to 15 digits: the quotient of two exact numbers is the nearest double."""
    negative = data[at] == ord("-")
    if negative:
        at += 1
    value, scale, n_digits, begun = 0, 1.0, 0, at
    while at < data.shape[0] and ord("0") <= data[at] <= ord("9"):
        value, n_digits, at = 10 * value + data[at] - ord("0"), n_digits + 1, at + 1
    if at == begun or (data[begun] == ord("0") and at > begun + 1) or n_digits > 15:
        return -1, 0.0
    if at < data.shape[0] and data[at] == ord("."):
        begun = at = at + 1
        while at < data.shape[0] and ord("0") <= data[at] <= ord("9") and n_digits < 16:
            value, n_digits, at = 10 * value + data[at] - ord("0"), n_digits + 1, at + 1
            scale *= 10.0
        if at == begun or n_digits > 15:
            return -1, 0.0
    return at, (-value if negative else value) / scale


@njit(cache=True, nogil=True)
def _skip_number(data, at):  # type: ignore[no-untyped-def]
    """Return the end of a JSON number that is finite whatever its digits are, else -1."""
    at, _ = _read_coordinate(data, at)
    if at > 0 and at + 1 < data.shape[0] and (data[at] == ord("e") or data[at] == ord("E")):
        at += 1
        if data[at] == ord("-") or data[at] == ord("+"):
            at += 1
        begun = at
        while at < data.shape[0] and ord("0") <= data[at] <= ord("9"):
            at += 1
        if at == begun or at > begun + 2:
            return -1
    return at


@njit(cache=True, nogil=True)
def _measure_box(ring, extents, n):  # type: ignore[no-untyped-def]
    """Store the extent of a ring; False unless it is a sound box, as `geojson_geometry.find_boxes` says."""
    if ring[0] != ring[8] or ring[1] != ring[9]:
        return False
    grid = np.rint(ring / GRID)
    if not (_is_upright(grid, 0, 1) or _is_upright(grid, 1, 0)):
        return False
    x, y = ring[0::2], ring[1::2]
    extents[n, 0], extents[n, 1], extents[n, 2], extents[n, 3] = x.min(), y.min(), x.max(), y.max()
    return True


@njit(cache=True, nogil=True, inline="always")
def _is_upright(ring, a, b):  # type: ignore[no-untyped-def]
    along = ring[a] == ring[6 + a] and ring[2 + a] == ring[4 + a] and ring[a] != ring[2 + a]
    return along and ring[b] == ring[2 + b] and ring[4 + b] == ring[6 + b] and ring[b] != ring[4 + b]


@njit(cache=True, nogil=True)
def _skip_space(data, at):  # type: ignore[no-untyped-def]
    while at < data.shape[0] and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _object_end(data, at):  # type: ignore[no-untyped-def]
    """Return where the JSON object that starts at `at` ends, or the end of the data."""
    depth, in_text = 0, False
    while at < data.shape[0]:
        byte = data[at]
        if in_text:
            if byte == ord("\\"):
                at += 1
            elif byte == ord('"'):
                in_text = False
        elif byte == ord('"'):
            in_text = True
        elif byte == ord("{"):
            depth += 1
        elif byte == ord("}"):
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at
