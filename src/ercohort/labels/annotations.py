"""Nuclei that a person has drawn or corrected in QuPath, read back from its GeoJSON."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec
import numpy as np
from msgspec import Raw

from ercohort.errors import GeoJSONError, InputError
from ercohort.geojson_files import read_contents
from ercohort.geojson_geometry import (
    Geometry,
    GeometryError,
    LineString,
    MultiLineString,
    MultiPoint,
    Point,
    check_geometry,
    find_boxes,
)
from ercohort.geojson_schema import (
    NOT_JSON,
    Classification,
    Feature,
    Properties,
    check_depth,
    decode_features,
    find_frame,
    object_kind,
    split_collection,
)
from ercohort.inert import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.slide import SlideInfo

Frame = Literal["qupath", "slide"]

_Box = tuple[float, float, float, float]

REGION_CLASS = "Region*"
"""QuPath's own class of a rectangle that bounds what is looked at."""

MAX_NUCLEUS_UM = 50.0
"""Wider objects are areas, or many nuclei merged into one object."""

MIN_REGION_UM = 20.0
"""Narrower rectangles without a class are nuclei whose class was forgotten."""

MAX_REGIONS = 1_000
"""Of one slide."""

_REGION_NAME = re.compile(r"region\b", re.IGNORECASE)
_NOT_NUCLEI = ("root", "tmaCore")
_BATCH = 4_096
_EDGE_PX = 1.0
_NO_PROPERTIES = Properties()
_CLASSIFICATION = msgspec.json.Decoder(Classification | str | None)


@dataclass(frozen=True)
class SlideLabels:
    """Labelled regions of one slide and the nuclei in them; level-0 pixels of the slide frame.

    Parameters
    ----------
    regions
        (R, 4) float64, x0, y0, x1, y1 of the rectangles in which every nucleus is labelled.
    boxes
        (N, 4) float64, nuclei whose centre lies in a region.
    labels
        (N,) text, classes of the detector.
    is_point
        (N,) bool, whether the box was made from a point.
    ignored
        (K, 4) float64, nuclei of an ignored class, in regions or not.
    n_outside
        Nuclei whose centre lies in no region: they are not truth.
    """

    regions: NDArray[np.float64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.str_]
    is_point: NDArray[np.bool_]
    ignored: NDArray[np.float64]
    n_outside: int


def read_labels(
    path: str | os.PathLike[str],
    *,
    classes: Mapping[str, str],
    ignore: Sequence[str],
    info: SlideInfo,
    frame: Frame = "qupath",
    point_um: float = 9.0,
) -> SlideLabels:
    """Read regions and nuclei from a GeoJSON file that QuPath exported.

    A region is an annotation that is an upright rectangle: of class `Region*`, or without a class. Every
    other object is a nucleus: polygons, ellipses and boxes by their bounding box, a cell by its nucleus,
    points by a box of `point_um`. An area of an ignored class that is wider than a nucleus, as a tumour
    outline, says nothing and is passed over.

    Parameters
    ----------
    path
        `.geojson` or `.json`, either with `.gz`, or a `.zip` of such.
    classes
        Class in QuPath to class of the detector. The whole name is looked up first (`Tumor: Positive`),
        then its last part (`Positive`).
    ignore
        Classes in QuPath of nuclei that are neither truth nor background; the names as QuPath shows them.
    info
        Size, scale and bounds of the slide.
    frame
        Frame of the coordinates (`ercohort.geojson`), unless the file states its own.
    point_um
        Side of a point's box, µm.

    Raises
    ------
    InputError
        One line: the file, the feature (counted from 0), what is wrong and the cure. A class that is
        neither mapped nor ignored, or none; an outline that crosses itself; no region, one that is no
        upright rectangle, or two that overlap; an object outside the slide.
    """
    reader = _Reader(dict(classes), tuple(ignore), info, frame, point_um)
    try:
        for where, content in read_contents(Path(path)):
            reader.read_collection(where, content)
    except GeoJSONError as error:
        raise InputError(str(error)) from None
    return reader.labels(str(path))


@dataclass
class _Reader:
    """What was found so far in one file."""

    classes: dict[str, str]
    ignore: tuple[str, ...]
    info: SlideInfo
    frame: str
    point_um: float
    regions: list[_Box] = field(default_factory=list)
    region_places: list[str] = field(default_factory=list)
    boxes: list[_Box] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    is_point: list[bool] = field(default_factory=list)
    ignored: list[_Box] = field(default_factory=list)
    origin: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    class_names: dict[bytes, str] = field(default_factory=dict)

    def read_collection(self, where: str, content: bytes) -> None:
        features, member, top = split_collection(where, content)
        self.origin, self.size = find_frame(
            where, top, self.info, self.frame, "name the file after its own slide"
        )
        self._read_objects(features, f"{where}: {member or 'feature'}")

    def _read_objects(self, features: list[Raw], label: str) -> None:
        for start in range(0, len(features), _BATCH):
            batch = decode_features(features[start : start + _BATCH], label, start)
            is_box, extents = find_boxes([_outline(feature) for feature in batch])
            boxes = map(tuple, extents.tolist())
            for number, (feature, plain) in enumerate(zip(batch, is_box.tolist(), strict=True), start):
                where = f"{label}[{number}]"
                self._take(feature, next(boxes) if plain else None, where)
                properties = feature.properties or _NO_PROPERTIES
                if properties.child_objects:
                    check_depth(where)
                    self._read_objects(properties.child_objects, f"{where}.properties.childObjects")

    def _take(self, feature: Feature, box: _Box | None, where: str) -> None:
        """Sort one object into regions, nuclei and ignored nuclei; `box` where it is an upright box."""
        kind, name = object_kind(feature), self._class_name(feature, where)
        if kind in _NOT_NUCLEI:
            return
        label = next((self.classes[key] for key in _keys(name) if key in self.classes), None)
        if kind == "annotation" and label is None and self._is_region(feature, name, box):
            self._take_region(feature, box, where)
            return
        ignored = any(key in self.ignore for key in _keys(name))
        if label is None and not ignored:
            self._refuse_class(name, f"{where}{_place(_outline(feature))}")
        points, extents = self._extents(_outline(feature), box, where)
        for extent in extents:
            if self._is_nucleus(extent, name, where, ignored=label is None):
                if label is None:
                    self.ignored.append(self._on_slide(extent))
                else:
                    self.boxes.append(self._on_slide(extent))
                    self.names.append(label)
                    self.is_point.append(points)

    def _is_region(self, feature: Feature, name: str, box: _Box | None) -> bool:
        if name:
            return name == REGION_CLASS
        properties = feature.properties or _NO_PROPERTIES
        return box is not None or bool(_REGION_NAME.match(properties.name or ""))

    def _take_region(self, feature: Feature, box: _Box | None, where: str) -> None:
        place = f"{where}{_place(feature.geometry)}"
        if box is None:
            _fail(place, "this region is no upright rectangle", "draw it with QuPath's rectangle tool")
        x0, y0, x1, y1 = box
        narrow = min(x1 - x0, y1 - y0) * self.info.mpp
        if narrow < MIN_REGION_UM:
            _fail(place, f"a rectangle of {narrow:.0f} µm is too small for a region",
                  "give it a class if it is a nucleus, else delete it")  # fmt: skip
        if min(x0, y0) < -_EDGE_PX or x1 > self.size[0] + _EDGE_PX or y1 > self.size[1] + _EDGE_PX:
            self._refuse_place(place, "this region")
        if len(self.regions) == MAX_REGIONS:
            _fail(place, f"it is region number {MAX_REGIONS + 1:,}", "keep fewer, larger ones in one file")
        region = self._on_slide(box)
        for other, other_place in zip(self.regions, self.region_places, strict=True):
            if _overlap(region, other) > _EDGE_PX:
                _fail(place, f"this region overlaps that of {other_place.rpartition(': ')[2]}",
                      "move one, so that no nucleus counts twice")  # fmt: skip
        self.regions.append(region)
        self.region_places.append(where)

    def _on_slide(self, box: _Box) -> _Box:
        x, y = self.origin
        return box[0] + x, box[1] + y, box[2] + x, box[3] + y

    def _extents(self, outline: Geometry, box: _Box | None, where: str) -> tuple[bool, list[_Box]]:
        """Whether the object is points, and the boxes that it stands for, in the file's frame."""
        if box is not None:
            return False, [box]
        if isinstance(outline, Point | MultiPoint):
            points = [outline.coordinates] if isinstance(outline, Point) else outline.coordinates
            half = self.point_um / self.info.mpp / 2
            return True, [(p[0] - half, p[1] - half, p[0] + half, p[1] + half) for p in points]
        if isinstance(outline, LineString | MultiLineString):
            _fail(f"{where}{_place(outline)}", "a line is no nucleus",
                  "outline the nucleus or set a point in QuPath, or delete the line")  # fmt: skip
        try:
            return False, [check_geometry(outline)]
        except GeometryError as fault:
            crossing = re.search(r"intersection\[(\S+) (\S+)\]", fault.rule, re.IGNORECASE)
            if crossing is None:
                _fail(f"{where}{_place(outline)}", fault.rule, fault.cure)
            _fail(where, f"its outline crosses itself at x {float(crossing[1]):.1f}, "
                  f"y {float(crossing[2]):.1f} px", "draw it again in QuPath, or delete it")  # fmt: skip

    def _is_nucleus(self, extent: _Box, name: str, where: str, *, ignored: bool) -> bool:
        """Refuse what lies off the slide or is too wide for a nucleus; False for an ignored area."""
        x0, y0, x1, y1 = extent
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        place = f" at x {x:.0f}, y {y:.0f} px"
        if not (0 <= x < self.size[0] and 0 <= y < self.size[1]):
            self._refuse_place(where + place, "this object")
        side = max(x1 - x0, y1 - y0) * self.info.mpp
        if side > MAX_NUCLEUS_UM:
            if ignored and not name.endswith("*"):
                return False
            _fail(where + place,
                  f"it is of class {shown(name)} and {side:.0f} µm wide, too wide for a nucleus",
                  "split it in QuPath into one object a nucleus, or delete it")  # fmt: skip
        return True

    def _refuse_place(self, place: str, what: str) -> NoReturn:
        _fail(place, f"{what} lies outside the slide of {self.size[0]} x {self.size[1]} px",
              "name the file after its own slide, or correct geojson.frame")  # fmt: skip

    def _class_name(self, feature: Feature, where: str) -> str:
        """Class as QuPath shows it, `Tumor: Positive`; empty if it has none."""
        content = bytes((feature.properties or _NO_PROPERTIES).classification)
        if content not in self.class_names:
            try:
                value = _CLASSIFICATION.decode(content)
            except NOT_JSON as error:
                _fail(f"{where}.properties.classification", str(error), 'write {"name": "Positive", ...}')
            if isinstance(value, Classification):
                names = value.names or (value.name or "").split(":")
            else:
                names = (value or "").split(":")
            self.class_names[content] = ": ".join(part.strip() for part in names if part.strip())
        return self.class_names[content]

    def _refuse_class(self, name: str, place: str) -> NoReturn:
        known = [*self.classes, *self.ignore]
        if not name:
            _fail(place, "it has no class", f"set one in QuPath ({', '.join(known)}), or delete it")
        close = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(
            name.casefold(), [key.casefold() for key in known], n=1
        )
        meant = next((key for key in known if close and key.casefold() == close[0].casefold()), None)
        hint = f"did you mean `{meant}`? Correct it in QuPath" if meant else "correct it in QuPath"
        _fail(place, f"class {shown(name)} is unknown",
              f"{hint}, or add it to dataset.classes or dataset.ignore in the config")  # fmt: skip

    def labels(self, path: str) -> SlideLabels:
        """Keep the nuclei that lie in a region."""
        if not self.regions:
            _fail(path, "it holds no region", "in QuPath draw a rectangle around an area in which every "
                  f"nucleus is labelled, give it the class {REGION_CLASS}, and export again")  # fmt: skip
        regions, boxes, ignored = (
            np.array(found, np.float64).reshape(-1, 4) for found in (self.regions, self.boxes, self.ignored)
        )
        inside = np.zeros(len(boxes), bool)
        for region in regions:  # not all at once: nuclei times regions may be more than memory holds
            inside |= in_regions(boxes, region[None])[:, 0]
        return SlideLabels(
            regions=regions,
            boxes=boxes[inside],
            labels=np.array(self.names, np.str_)[inside],
            is_point=np.array(self.is_point, bool)[inside],
            ignored=ignored,
            n_outside=int((~inside).sum()),
        )


def in_regions(boxes: NDArray[np.float64], regions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which box belongs to which region: by its centre, half-open, so that none belongs to two.

    Parameters
    ----------
    boxes
        (N, 4) x0, y0, x1, y1.
    regions
        (R, 4) in the same frame.

    Returns
    -------
    (N, R) booleans.
    """
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    inside = (centre >= regions[:, :2]) & (centre < regions[:, 2:])
    return inside[:, :, 0] & inside[:, :, 1]


def _overlap(one: _Box, other: _Box) -> float:
    """Return the narrower side of what two boxes share; not above 0 if they share nothing."""
    return min(min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1]))


def _outline(feature: Feature) -> Geometry:
    """Outline of the nucleus: of a cell, QuPath gives that of the cell besides."""
    return feature.nucleus_geometry or feature.geometry


def _keys(name: str) -> Iterator[str]:
    """Names under which a class is looked up: the whole, then its leaf."""
    yield name
    yield name.rpartition(": ")[2]


def _place(geometry: Geometry) -> str:
    """Where a person finds the object: its first coordinates, as QuPath shows them in pixels."""
    position = getattr(geometry, "coordinates", [])
    while position and isinstance(position[0], list):
        position = position[0]
    return f" at x {position[0]:.0f}, y {position[1]:.0f} px" if position else ""


def _fail(where: str, rule: str, cure: str) -> NoReturn:
    raise InputError(f"{where}: {rule}; {cure}")
