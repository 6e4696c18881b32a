"""What other tools write into GeoJSON, and what QuPath makes of it.

QuPath before 0.4 wrote an object's type into `id`, its class's colour as one number and its measurements as a
list; later versions still read that (`PathObjectTypeAdapter`, `PathClassTypeAdapter` of `qupath-core`).
Geographic tools write degrees, networks often fractions of the picture, and `json.dumps` of Python writes NaN
as a bare word: those QuPath takes for pixels, or not at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEGACY_TYPES = {
    "PathDetectionObject": "detection",
    "PathAnnotationObject": "annotation",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "PathRootObject": "root",
}
"""What QuPath 0.2 and 0.3 wrote into `id`, and the object type that it means."""

MOST_SEARCHED = 64 * 2**20
"""Bytes of a file in which the features that hold NaN are looked up."""

_BARE = re.compile(rb"(?<![\"\w])-?(?:NaN|Infinity)\b")
_FEW = 3
"""Objects from which on the whole file is judged by its coordinates."""


def bad_encoding(content: bytes) -> tuple[str, str] | None:
    """Return rule and cure for a file that is no plain UTF-8 by its first bytes; None if it may be."""
    if content.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark, which JSON must not have", "save it as UTF-8 without one"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16, and JSON is UTF-8", "save it as UTF-8"
    return None


def not_finite(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield where a file that is no strict JSON has numbers that are none: `features[3].geometry`, and which.

    Nothing is yielded where the file is broken in another way, or too large to be worth it.
    """
    if len(content) > MOST_SEARCHED or not _BARE.search(content):
        return
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return
    features = value.get("features") if isinstance(value, dict) else value
    if not isinstance(features, list):
        features = [value]
    for number, feature in enumerate(features):
        for member, inner in _members(feature):
            if (found := _first_odd(inner)) is not None:
                yield f"features[{number}].{member}", "NaN" if math.isnan(found) else "infinite"


def _members(feature: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(feature, dict):
        for name, value in feature.items():
            if name == "properties" and isinstance(value, dict):
                yield from ((f"properties.{inner}", each) for inner, each in value.items())
            else:
                yield name, value


def _first_odd(value: Any) -> float | None:
    """Return the first number in a JSON value that is NaN or infinite."""
    waiting = [value]  # not by recursion: JSON may be nested deeper than Python calls
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return value
        if isinstance(value, dict | list):
            waiting.extend(reversed(value.values() if isinstance(value, dict) else value))
    return None


def no_pixels(extents: NDArray[np.float64], *, size_stated: bool = False) -> str | None:
    """Say what the coordinates of a file's objects are, if they are no pixels; None if they may be.

    Parameters
    ----------
    extents
        (N, 4) min x, min y, max x, max y of its objects, or of many of them.
    size_stated
        Whether the picture's size is known: then it was written by who knows of pixels, and objects near the
        upper left corner, some beyond it, are not taken for degrees.
    """
    extents = extents[np.isfinite(extents).all(axis=1)]
    if len(extents) < _FEW:
        return None
    low, high = extents[:, :2], extents[:, 2:]
    if (low >= 0).all() and (high <= 1).all():
        return "its objects lie between 0 and 1: fractions of the picture, not pixels"
    outlines = (high > low).any(axis=1)
    if outlines.sum() >= _FEW and (high - low)[outlines].max() < 1:
        return "its outlines are less than a pixel wide: degrees or millimetres, not pixels"
    in_range = (np.abs(extents) <= (180, 90, 180, 90)).all()
    fine = (np.abs(extents * 1000 - np.rint(extents * 1000)) > 1e-4).mean() > 0.5
    if not size_stated and in_range and fine and (extents < 0).any():
        return "its objects lie within 180 and 90, some below 0, to many decimals: degrees, not pixels"
    return None
