"""A slide's regions as a pathologist draws them in QuPath, read from its GeoJSON."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np
import shapely
from msgspec import Raw

from ercohort.config import RegionSettings
from ercohort.errors import GeoJSONError, SlideError, Status
from ercohort.geojson_files import read_contents
from ercohort.geojson_geometry import Geometry, MultiPolygon, Polygon
from ercohort.geojson_schema import (
    Feature,
    Properties,
    class_path,
    decode_features,
    find_frame,
    object_kind,
    split_collection,
)
from ercohort.roi import Roi, make_roi

if TYPE_CHECKING:
    from ercohort.slide import SlideInfo

UNNAMED = "roi"
"""Region of annotations without a class."""

EXCLUDE = "exclude"
"""What a class is mapped to that is left out."""

MAX_NAME = 60
MAX_REGIONS = 100

MAX_CROSSINGS = 20_000
"""Places where an outline may cross itself: repairing takes a second and 100 MB then, and grows faster than
their number. A hand that slipped makes a few."""

NUCLEI = frozenset({"positive", "negative", "1+", "2+", "3+"})
"""Last part of the classes of single nuclei, which no region has."""

_MOST_PAIRS = 2_000_000
_ELLIPSE = np.stack([np.cos(turn := np.linspace(0, 2 * np.pi, 128, endpoint=False)), np.sin(turn)], axis=1)


def read_roi(
    path: str | os.PathLike[str],
    *,
    info: SlideInfo,
    settings: RegionSettings,
    frame: Literal["qupath", "slide"] = "qupath",
) -> Roi:
    """Read the annotations of a file that QuPath exported as the slide's regions.

    Every annotation with an area counts: polygons with holes, of several parts, rectangles, ellipses.
    Detections, cells, points and lines are passed over. An outline that crosses itself is repaired, and
    `Roi.notes` says so.

    Parameters
    ----------
    path
        `.geojson` or `.json`, either with `.gz`, or a `.zip` of such.
    info
        Size and bounds of the slide.
    settings
        What the classes mean.
    frame
        Frame of the coordinates, unless the file states its own (`ercohort.geojson`).

    Raises
    ------
    SlideError
        `failed`, naming the file, the feature and the cure: no GeoJSON, no region on the slide, or a file
        that says it was drawn on a slide of other size.
    """
    reader = _Reader(info, settings)
    try:
        for where, content in read_contents(Path(path)):
            features, member, top = split_collection(where, content)
            reader.origin, _ = find_frame(where, top, info, frame, "correct `roi` in the sheet")
            reader.read(features, f"{where}: {member or 'feature'}")
    except GeoJSONError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{path}: cannot be read ({error.strerror}); correct `roi` in the sheet, or put the file there")
    roi = reader.roi()
    if not roi.names:
        _fail(
            f"{path}: no annotation with an area lies on the slide; draw the regions in QuPath, export again"
        )
    if len(roi.names) > MAX_REGIONS:
        _fail(f"{path}: {len(roi.names)} regions, {MAX_REGIONS} at most; give outlines of one kind one class")
    return roi


@dataclass
class _Reader:
    """What was found so far in one file."""

    info: SlideInfo
    settings: RegionSettings
    outlines: list[tuple[str, shapely.Geometry]] = field(default_factory=list)
    excluded: list[shapely.Geometry] = field(default_factory=list)
    origin: tuple[int, int] = (0, 0)
    repaired: int = 0
    passed_over: int = 0
    nuclei: int = 0
    spelt: dict[str, str] = field(default_factory=dict)

    def read(self, features: list[Raw], label: str) -> None:
        """Read features and what is nested in them."""
        for number, feature in enumerate(decode_features(features, label, 0)):
            where = f"{label}[{number}]"
            properties = feature.properties or Properties()
            if object_kind(feature) == "annotation":
                self._take(feature, properties, where)
            if properties.child_objects:
                self.read(properties.child_objects, f"{where}.properties.childObjects")

    def _take(self, feature: Feature, properties: Properties, where: str) -> None:
        path = class_path(bytes(properties.classification), where)
        if path and path[-1].casefold() in NUCLEI:
            self.nuclei += 1
            return
        name = self._region(": ".join(path), where)
        valid = (self._valid(polygon, where) for polygon in _polygons(feature.geometry))
        parts = [shape for shape in valid if shape.area > 0]
        if not parts:
            self.passed_over += 1
            return
        shape = shapely.transform(shapely.union_all(parts), lambda points: points + np.array(self.origin))
        if name == EXCLUDE:
            self.excluded.append(shape)
        else:
            self.outlines.append((name, shape))

    def _region(self, name: str, where: str) -> str:
        """Name of the region that a class stands for; `Necrosis: old` is left out as `Necrosis` is."""
        if not name:
            return UNNAMED
        known = {key.casefold(): value for key, value in self.settings.classes.items()}
        apart = {key.casefold() for key in self.settings.apart}
        region, base = known.get(name.casefold(), name), name.partition(":")[0].strip()
        meant = known.get(base.casefold(), base)
        if name.casefold() not in known and (meant == EXCLUDE or meant.casefold() in apart):
            region = meant
        # One region whatever its spelling; the first one that was met names it.
        region = self.spelt.setdefault(region.casefold(), region.replace(";", ","))
        if len(region) > MAX_NAME or not region.isprintable():
            _fail(
                f"{where}: class {name[:80]!r} cannot name a region; rename it, {MAX_NAME} characters at most"
            )
        return region

    def _valid(self, polygon: shapely.Polygon, where: str) -> shapely.Geometry:
        if polygon.is_valid:
            return polygon
        if _crosses_more_often(polygon, MAX_CROSSINGS):
            _fail(f"{where}: its outline crosses itself more than {MAX_CROSSINGS:,} times; draw it again")
        self.repaired += 1
        # Of a figure of eight, both loops count: that is what a person sees.
        return shapely.make_valid(polygon, method="structure", keep_collapsed=False)

    def roi(self) -> Roi:
        """Join what was found."""
        size = (self.info.width, self.info.height)
        slide = shapely.box(0, 0, *size)
        shapes = [*self.excluded, *(shape for _, shape in self.outlines)]
        said = {
            "outlines that cross themselves, repaired": self.repaired,
            "annotations without an area, passed over": self.passed_over,
            "annotations of single nuclei, passed over": self.nuclei,
            "outlines drawn partly off the slide, cut at its edge": sum(
                not slide.covers(shape) for shape in shapes
            ),
        }
        notes = [f"{what}: {n:,}" for what, n in said.items() if n]
        if not shapes:
            return Roi((), ())
        return make_roi(self.outlines, self.excluded, size=size, apart=self.settings.apart, notes=notes)


def _crosses_more_often(polygon: shapely.Polygon, limit: int) -> bool:
    """Say whether the sides of a polygon cross one another at more places than that; bounded in memory."""
    sides = np.concatenate(
        [
            np.stack([points[:-1], points[1:]], axis=1)
            for ring in (polygon.exterior, *polygon.interiors)
            if len(points := shapely.get_coordinates(ring)) > 1
        ]
    )
    lines = shapely.linestrings(sides)
    tree = shapely.STRtree(lines)
    step, found = max(1, _MOST_PAIRS // len(lines)), 0
    for start in range(0, len(lines), step):
        found += tree.query(lines[start : start + step], predicate="crosses").shape[1]
        if found > 2 * limit:  # each place is found from both sides
            return True
    return False


def _polygons(geometry: Geometry) -> Iterator[shapely.Polygon]:
    """Outlines of an annotation; none of points and lines."""
    rings_of_each = []
    if isinstance(geometry, Polygon):
        rings_of_each = [geometry.coordinates]
    elif isinstance(geometry, MultiPolygon):
        rings_of_each = geometry.coordinates
    for rings in rings_of_each:
        usable = [
            np.array([position[:2] for position in ring], np.float64) for ring in rings if len(ring) > 3
        ]
        if not usable:
            continue
        if isinstance(geometry, Polygon) and geometry.is_ellipse:
            low, high = usable[0].min(axis=0), usable[0].max(axis=0)
            yield shapely.Polygon((low + high) / 2 + (high - low) / 2 * _ELLIPSE)
        else:
            yield shapely.Polygon(usable[0], usable[1:])


def _fail(message: str) -> NoReturn:
    raise SlideError(Status.FAILED, message)
