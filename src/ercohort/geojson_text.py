"""The text of GeoJSON features, written number by number into one buffer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit, vectorize

LARGEST = 1e11
"""Numbers below this are written exactly to four decimals."""

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S4, _S27, _S30, _S31, _S60 = (np.uint64(shift) for shift in (4, 27, 30, 31, 60))
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# RFC 9562: version 8 (bits of the maker's own choice) and its variant.
_CLEAR_VERSION, _VERSION = np.uint64(0xFFFFFFFFFFFF0FFF), np.uint64(0x8000)
_CLEAR_VARIANT, _VARIANT = np.uint64(0x3FFFFFFFFFFFFFFF), np.uint64(0x8000000000000000)

_NUMBER = 24
"""Most bytes of one number: a sign, 19 digits, a point and four decimals."""


class Template:
    """The parts of a feature that are the same for all.

    Parameters
    ----------
    classes
        Name to RGB of every class, in the order of their indices.
    measurements
        Names of the measurements.
    """

    def __init__(self, classes: Mapping[str, tuple[int, int, int]], measurements: Sequence[str]) -> None:
        # QuPath draws the ellipse inside the ring's bounding box: outlines at the cost of a box.
        parts = [
            '{"type":"Feature","id":"',
            '","geometry":{"type":"Polygon","coordinates":[[[',
            ']]],"isEllipse":true},"properties":{"objectType":"detection","classification":',
            ',"measurements":{',
            "}}}",
            *(f"{json.dumps(name)}:" for name in measurements),
            *(
                json.dumps({"name": name, "color": colour}, separators=(",", ":"))
                for name, colour in classes.items()
            ),
        ]
        encoded = [part.encode() for part in parts]
        self.text = np.frombuffer(b"".join(encoded), np.uint8)
        self.starts = np.cumsum([0, *map(len, encoded)])
        self.n_measurements = len(measurements)
        longest = max((len(part) for part in encoded[5 + len(measurements) :]), default=0)
        fixed = sum(map(len, encoded[: 5 + len(measurements)])) + longest
        self.most_bytes = fixed + 36 + 40 + (10 + len(measurements)) * (_NUMBER + 1) + 2
        """Of one feature."""

    def write(
        self,
        corners: NDArray[np.int64],
        ids: NDArray[np.uint64],
        classes: NDArray[np.int64],
        measured: NDArray[np.float64],
    ) -> NDArray[np.uint8]:
        """Write features, with a comma and a line break between them.

        Parameters
        ----------
        corners
            (N, 4) x0, y0, x1, y1, hundredths of a pixel.
        ids
            (N, 2) halves of the UUIDs.
        classes
            (N,) indices.
        measured
            (N, measurements); below `LARGEST`; what is not finite is left out.

        Returns
        -------
        (bytes,)
        """
        out = np.empty(self.most_bytes * len(corners), np.uint8)
        length = _write(out, self.text, self.starts, self.n_measurements, corners, ids, classes, measured)
        return out[:length]


@vectorize(["uint64(uint64)"], cache=True)
def mix(value: Any) -> Any:
    """Finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit."""
    value = (value ^ value >> _S30) * _M1
    value = (value ^ value >> _S27) * _M2
    return value ^ value >> _S31


@njit(cache=True, nogil=True)
def uuids(left, right, ordinals, key):  # type: ignore[no-untyped-def]  # numba infers
    """UUIDs (N, 2) by a Feistel network over the two halves of the boxes, keyed by the slide.

    Each round is invertible, so two boxes of a slide never share the 128 bits; a UUID fixes 6 of them,
    and two million nuclei then collide with a probability below 1e-24.
    """
    out = np.empty((left.shape[0], 2), np.uint64)
    for row in range(left.shape[0]):
        a, b = left[row], right[row]
        twin = np.uint64(ordinals[row]) * _GOLDEN
        for number in range(key.shape[0]):
            a, b = b, a ^ mix(b + key[number] + twin)
        if key.shape[0] % 2:
            a, b = b, a
        out[row, 0] = a & _CLEAR_VERSION | _VERSION
        out[row, 1] = b & _CLEAR_VARIANT | _VARIANT
    return out


@njit(cache=True, nogil=True)
def _write(out, text, starts, n_measurements, corners, ids, classes, measured):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(corners.shape[0]):
        if row:
            out[at], out[at + 1] = ord(","), ord("\n")
            at += 2
        at = _put(out, at, text, starts, 0)
        at = _put_uuid(out, at, ids[row, 0], ids[row, 1])
        at = _put(out, at, text, starts, 1)
        at = _put_ring(out, at, corners[row])
        at = _put(out, at, text, starts, 2)
        at = _put(out, at, text, starts, 5 + n_measurements + classes[row])
        at = _put(out, at, text, starts, 3)
        first = True
        for k in range(n_measurements):
            value = measured[row, k]
            if not math.isfinite(value):
                continue
            if not first:
                out[at] = ord(",")
                at += 1
            first = False
            at = _put(out, at, text, starts, 5 + k)
            negative = math.copysign(1.0, value) < 0
            at = _put_decimal(out, at, negative, np.int64(np.rint(abs(value) * 10_000)), 4)
        at = _put(out, at, text, starts, 4)
    return at


@njit(cache=True, nogil=True)
def _put(out, at, text, starts, index):  # type: ignore[no-untyped-def]
    source = text[starts[index] : starts[index + 1]]
    target = out[at : at + source.shape[0]]
    for k in range(source.shape[0]):
        target[k] = source[k]
    return at + source.shape[0]


@njit(cache=True, nogil=True)
def _put_uuid(out, at, high, low):  # type: ignore[no-untyped-def]
    for digit in range(32):
        if digit == 8 or digit == 12 or digit == 16 or digit == 20:
            out[at] = ord("-")
            at += 1
        half = high if digit < 16 else low
        out[at] = _HEX[np.int64((half << (_S4 * np.uint64(digit % 16))) >> _S60)]
        at += 1
    return at


@njit(cache=True, nogil=True)
def _put_ring(out, at, corner):  # type: ignore[no-untyped-def]
    for point in range(5):
        if point:
            out[at], out[at + 1], out[at + 2] = ord("]"), ord(","), ord("[")
            at += 3
        x = corner[2] if point == 1 or point == 2 else corner[0]
        y = corner[3] if point == 2 or point == 3 else corner[1]
        at = _put_decimal(out, at, x < 0, abs(x), 2)
        out[at] = ord(",")
        at = _put_decimal(out, at + 1, y < 0, abs(y), 2)
    return at


@njit(cache=True, nogil=True)
def _put_decimal(out, at, negative, value, decimals):  # type: ignore[no-untyped-def]
    """Write value / 10 ** decimals, without the zeros at its end but with one decimal at least."""
    if negative:
        out[at] = ord("-")
        at += 1
    scale = 1
    for _ in range(decimals):
        scale *= 10
    whole, rest = value // scale, value % scale
    n_digits, larger = 1, whole // 10
    while larger:
        n_digits, larger = n_digits + 1, larger // 10
    for digit in range(n_digits - 1, -1, -1):
        out[at + digit] = ord("0") + whole % 10
        whole //= 10
    at += n_digits
    out[at] = ord(".")
    at += 1
    while True:
        scale //= 10
        out[at] = ord("0") + rest // scale
        rest %= scale
        at += 1
        if rest == 0:
            return at
