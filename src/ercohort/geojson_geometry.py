"""Geometries that QuPath's reader accepts.

It parses them in floating point and reduces them to a grid of 0.01 px; a polygon that crosses itself, or a
ring that is not closed, fails there and takes the whole file with it (`ROITypeAdapters.java`,
`GeometryTools.java`, QuPath 0.6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, compress
from math import nan
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta, Struct, field

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID = 0.01
"""QuPath's coordinate grid, pixels."""

Position = Annotated[list[float], Meta(min_length=2)]


class Point(Struct, tag_field="type", tag=True):
    """GeoJSON Point."""

    coordinates: Position


class MultiPoint(Struct, tag_field="type", tag=True):
    """GeoJSON MultiPoint."""

    coordinates: list[Position]


class LineString(Struct, tag_field="type", tag=True):
    """GeoJSON LineString."""

    coordinates: list[Position]


class MultiLineString(Struct, tag_field="type", tag=True):
    """GeoJSON MultiLineString."""

    coordinates: list[list[Position]]


class Polygon(Struct, tag_field="type", tag=True):
    """GeoJSON Polygon: the shell, then its holes. QuPath's ellipses fill the shell's bounding box."""

    coordinates: list[list[Position]]
    is_ellipse: bool = field(default=False, name="isEllipse")


class MultiPolygon(Struct, tag_field="type", tag=True):
    """GeoJSON MultiPolygon."""

    coordinates: list[list[list[Position]]]


class GeometryCollection(Struct, tag_field="type", tag=True):
    """GeoJSON GeometryCollection, which QuPath cannot read since 0.6."""


Geometry = Point | MultiPoint | LineString | MultiLineString | Polygon | MultiPolygon | GeometryCollection


class GeometryError(Exception):
    """A geometry that QuPath would refuse.

    Parameters
    ----------
    rule
        The rule that it breaks.
    cure
        What to do about it.
    """

    def __init__(self, rule: str, cure: str) -> None:
        super().__init__(f"{rule}; {cure}")
        self.rule = rule
        self.cure = cure


def find_boxes(geometries: Sequence[Geometry]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Find the sound upright boxes among many geometries, all at once.

    Returns
    -------
    is_box
        Whether a geometry is one closed ring of five points around an upright box that keeps an area on
        QuPath's grid, shape (n,). It then needs no other check.
    extent
        min x, min y, max x, max y of each of those boxes, shape (boxes, 4).
    """
    is_box = np.array([_is_ring_of_five(geometry) for geometry in geometries], dtype=bool)
    rings = [geometry.coordinates[0] for geometry in compress(geometries, is_box)]  # type: ignore[union-attr]
    numbers: Iterator[float] = chain.from_iterable(chain.from_iterable(rings))  # type: ignore[arg-type]
    points = np.fromiter(numbers, np.float64, 10 * len(rings)).reshape(-1, 5, 2)
    x, y = np.moveaxis(np.rint(points / GRID), 2, 0)
    sound = (points[:, 0] == points[:, 4]).all(axis=1) & (_is_upright(x, y) | _is_upright(y, x))
    is_box[is_box] = sound
    points = points[sound]
    return is_box, np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _is_ring_of_five(geometry: Geometry) -> bool:
    """Whether it is one ring of five positions, each of x and y only (decoding refuses fewer)."""
    if type(geometry) is not Polygon or len(geometry.coordinates) != 1:
        return False
    ring = geometry.coordinates[0]
    return len(ring) == 5 and len(ring[0]) + len(ring[1]) + len(ring[2]) + len(ring[3]) + len(ring[4]) == 10


def _is_upright(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the ring goes first along `a` and then along `b`, neither of them by nothing."""
    first = (a[:, 0] == a[:, 3]) & (a[:, 1] == a[:, 2]) & (a[:, 0] != a[:, 1])
    return first & (b[:, 0] == b[:, 1]) & (b[:, 2] == b[:, 3]) & (b[:, 0] != b[:, 2])


def check_geometry(geometry: Geometry) -> tuple[float, float, float, float]:
    """Check any geometry and return its min x, min y, max x, max y.

    Raises
    ------
    GeometryError
        The rule that it breaks, and the cure.
    """
    if isinstance(geometry, GeometryCollection):
        raise GeometryError("QuPath cannot read a GeometryCollection", "write one feature for each part")
    positions = list(_positions(geometry))
    if not positions:
        raise GeometryError("it has no coordinates", "leave the feature out")
    match geometry:
        case LineString():
            _check_line(geometry.coordinates)
        case MultiLineString():
            for line in geometry.coordinates:
                _check_line(line)
        case Polygon():
            _check_polygons([geometry.coordinates])
        case MultiPolygon():
            _check_polygons(geometry.coordinates)
    return extent_of(geometry)


def extent_of(geometry: Geometry) -> tuple[float, float, float, float]:
    """Return min x, min y, max x, max y of a geometry, sound or not; NaN where it has no coordinates."""
    positions = list(_positions(geometry)) or [[nan, nan]]
    xs, ys = [position[0] for position in positions], [position[1] for position in positions]
    return min(xs), min(ys), max(xs), max(ys)


def is_multiple(geometry: Geometry, parts: int) -> bool:
    """Say whether a geometry has more than so many parts."""
    return isinstance(geometry, MultiPoint | MultiPolygon) and len(geometry.coordinates) > parts


def _positions(geometry: Geometry) -> Iterator[Position]:
    match geometry:
        case Point():
            yield geometry.coordinates
        case MultiPoint() | LineString():
            yield from geometry.coordinates
        case MultiLineString() | Polygon():
            yield from chain.from_iterable(geometry.coordinates)
        case MultiPolygon():
            yield from chain.from_iterable(chain.from_iterable(geometry.coordinates))


def _check_line(line: list[Position]) -> None:
    if len(line) < 2:
        raise GeometryError(f"a line has {len(line)} positions", "write at least 2")


def _check_polygons(polygons: list[list[list[Position]]]) -> None:
    import shapely

    for ring in chain.from_iterable(polygons):
        if len(ring) < 4:
            raise GeometryError(
                f"a ring has {len(ring)} positions", "write at least 4, the last like the first"
            )
        if ring[0][:2] != ring[-1][:2]:
            raise GeometryError("a ring is not closed", "repeat its first position at its end")
    if not all(polygons):
        raise GeometryError("a polygon has no ring", "leave it out")
    shapes = [shapely.Polygon(_flat(rings[0]), [_flat(hole) for hole in rings[1:]]) for rings in polygons]
    shape = shapes[0] if len(shapes) == 1 else shapely.MultiPolygon(shapes)
    if not shape.is_valid:
        raise GeometryError(
            f"its outline is not simple ({shapely.is_valid_reason(shape)})",
            "write rings that neither cross nor touch themselves",
        )
    if shapely.set_precision(shape, GRID).is_empty:
        raise GeometryError(f"nothing of it is left on QuPath's grid of {GRID} px", "leave it out")


def _flat(ring: list[Position]) -> list[Position]:
    return [position[:2] for position in ring]
