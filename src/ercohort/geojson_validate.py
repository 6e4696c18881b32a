"""Would QuPath load this file as it was meant? Its reader's rules, restated.

QuPath skips, renames or retypes silently much of what it dislikes, so the rules are checked here. They come
from `qupath-core/src/main/java/qupath/lib` (QuPath 0.4.4 to 0.6): `io/QuPathTypeAdapters.java` (features,
object types, ids, measurements), `io/GsonTools.java` (classifications), `io/ROITypeAdapters.java`
(geometry, see `ercohort.geojson_geometry`) and `io/PathIO.java` (files and zip entries).
"""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import UNSET, Raw, UnsetType

from ercohort.errors import GeoJSONError
from ercohort.geojson_files import read_each
from ercohort.geojson_foreign import LEGACY_TYPES, no_pixels, not_finite
from ercohort.geojson_geometry import (
    Geometry,
    GeometryError,
    check_geometry,
    extent_of,
    find_boxes,
    is_multiple,
)
from ercohort.geojson_problems import Problems
from ercohort.geojson_scan import Scan, scan
from ercohort.geojson_schema import (
    CURES,
    NULL,
    OBJECT_TYPES,
    UNCLASSIFIED,
    UUID_TEXT,
    Feature,
    Properties,
    Top,
    check_depth,
    check_measurements,
    check_nulls,
    class_path,
    decode_features,
    fail,
    split_collection,
    uuid_numbers,
)
from ercohort.inert import first_few, one_line, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCORED_CLASSES = ("Positive", "Negative", "1+", "2+", "3+")
"""The only leaf names that QuPath's positive %, H-score and Allred count (`PathClassTools.java`)."""

MANY_FEATURES = 300_000
HEAP_BYTES_PER_FEATURE = 4_400
"""Java heap for one parsed box with class and measurements, measured with QuPath's JSON parser."""

_BATCH = 4_096
_MANY_PARTS = 100
_NO_PROPERTIES = Properties()
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Report:
    """What a valid file holds.

    Parameters
    ----------
    n_files
        Collections read: the entries of a zip, else 1.
    n_features
        Objects, children included.
    n_by_object_type, n_by_class
        Objects of each QuPath type and of each classification.
    frame
        The `coordinate_frame` that the writer recorded, if any.
    warnings
        What QuPath accepts but a person should know.
    """

    n_files: int
    n_features: int
    n_by_object_type: dict[str, int]
    n_by_class: dict[str, int]
    frame: dict[str, Any] | None
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """One line for a person."""
        counts = [*self.n_by_object_type.items(), *self.n_by_class.items()]
        parts = [f"{self.n_files} collection{'s' * (self.n_files != 1)}", f"{self.n_features:,} objects"]
        parts += [f"{count:,} {name}" for name, count in counts]
        if self.frame:
            parts.append(f"frame {self.frame.get('origin')}")
        return ", ".join(parts)


def validate_geojson(
    path: str | os.PathLike[str], *, width: int | None = None, height: int | None = None
) -> Report:
    """Check one file against the rules of QuPath's reader.

    Parameters
    ----------
    path
        A `.geojson`, `.json`, either of them with `.gz`, or a `.zip` of such.
    width, height
        Size of the picture as QuPath shows it, full-resolution pixels; objects wholly outside it are
        counted in a warning. Taken from the file's `coordinate_frame` if left out and there.

    Returns
    -------
    Report
        What the file holds, and what QuPath accepts but a person should know.

    Raises
    ------
    GeoJSONError
        QuPath would refuse the file, skip a part of it, or read it as something else. A line for each
        problem, of many alike the first few and their number; it names the file, the entry, the feature
        (counted from 0), the rule and the cure.
    """
    check = _Check((width, height) if width is not None and height is not None else None)
    with check.noting():
        for where, content in read_each(Path(path), lambda content: scan(content) or content):
            with check.noting():
                check.collection(where, content)
    report = check.report(str(path))
    if check.problems:
        raise check.problems.error()
    return report


class _Check:
    """The rules over one file, what breaks them, and the counts that become its report."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.size = size
        self.size_given = size is not None
        self.frame: dict[str, Any] | None = None
        self.n_files = 0
        self.n_outside = 0
        self.problems = Problems()
        self.sample: list[NDArray[np.float64]] = []
        self.types: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.counted_remarks: Counter[str] = Counter()
        self.class_names = {bytes(NULL): UNCLASSIFIED}
        self.ids: list[tuple[str, NDArray[np.int64], NDArray[np.uint64]]] = []

    @contextmanager
    def noting(self, count: int = 1) -> Iterator[None]:
        """Note the problem that ends the block, which so many features have, and go on."""
        try:
            yield
        except GeoJSONError as error:
            self.problems.add(error, count)

    def collection(self, where: str, content: bytes | Scan) -> None:
        """Check one collection."""
        self.n_files += 1
        if isinstance(content, Scan):
            self._top(where, content.top, len(content.ids))
            self._scanned(f"{where}: features", content)
            return
        if odd := list(not_finite(content)):
            for place, what in odd:
                with self.noting():
                    cure = "leave it out" if ".properties" in place else "leave the feature out"
                    fail(f"{where}: {place}", f"a number is {what}, which JSON does not have", cure)
            return
        features, member, top = split_collection(where, content)
        self._top(where, top, len(features))
        self._objects(features, f"{where}: {member}")

    def _top(self, where: str, top: Top, n_features: int) -> None:
        if self.n_files > 1 and top.coordinate_frame != self.frame:
            with self.noting():
                fail(where, f"its frame {top.coordinate_frame} is not {self.frame} as in the entries before",
                     "write all entries in one run")  # fmt: skip
        if bytes(top.crs) != bytes(NULL):
            self.remarks.append(f"{where}: it states a `crs`, and QuPath takes every coordinate for a pixel")
        self.frame = top.coordinate_frame
        if self.frame and not self.size_given:
            width, height = self.frame.get("width"), self.frame.get("height")
            self.size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
        if n_features > MANY_FEATURES:
            heap = n_features * HEAP_BYTES_PER_FEATURE / 1e9
            self.remarks.append(
                f"{where}: {n_features:,} features in one piece take {heap:.1f} GB of QuPath's heap; "
                "write zip entries of 250,000"
            )

    def _scanned(self, label: str, scanned: Scan) -> None:
        """Check one feature of each kind; of the others only places and ids are left to look at."""
        for kind in scanned.kinds:
            kinds: tuple[Counter[str], ...] = (self.types, self.classes, self.counted_remarks)
            before = [Counter(counts) for counts in kinds]
            self._properties([kind.first], [kind.feature], label, kind.count)
            for counts, earlier in zip(kinds, before, strict=True):
                for name, count in (counts - earlier).items():
                    counts[name] += (kind.count - 1) * count
        self.sample.append(scanned.extents[:_BATCH])
        self._count_outside(scanned.extents)
        self.ids.append((label, np.arange(len(scanned.ids)), scanned.ids))

    def _objects(self, features: list[Raw], label: str) -> None:
        for start in range(0, len(features), _BATCH):
            with _no_garbage_collection():
                numbers, batch = self._decode(features[start : start + _BATCH], label, start)
                self._geometries(numbers, batch, label)
                self._properties(numbers, batch, label)
                self._ids(numbers, batch, label)

    def _decode(self, features: list[Raw], label: str, start: int) -> tuple[list[int], list[Feature]]:
        """Decode a batch; where one of its features is broken, each by itself. Return those that are not."""
        numbers = list(range(start, start + len(features)))
        try:
            return numbers, decode_features(features, label, start)
        except GeoJSONError:
            sound: dict[int, Feature] = {}
            for number, feature in zip(numbers, features, strict=True):
                with self.noting():
                    sound[number] = decode_features([feature], label, number)[0]
            return list(sound), list(sound.values())

    def _geometries(self, numbers: list[int], batch: list[Feature], label: str) -> None:
        is_box, extent = find_boxes([feature.geometry for feature in batch])
        others = []
        for index in np.flatnonzero(~is_box).tolist():
            geometry = batch[index].geometry
            self.sample += [np.array([extent_of(geometry)])] if len(self.sample) < _BATCH else []
            with self.noting():
                others.append(_checked_extent(geometry, f"{label}[{numbers[index]}].geometry"))
        for number, feature in zip(numbers, batch, strict=True):
            if feature.nucleus_geometry is not None:
                with self.noting():
                    _checked_extent(feature.nucleus_geometry, f"{label}[{number}].nucleusGeometry")
        self.sample += [extent] if len(self.sample) < _BATCH else []
        self._count_outside(np.concatenate([extent, np.reshape(others, (-1, 4))]))

    def _count_outside(self, extents: NDArray[np.float64]) -> None:
        if self.size is not None:
            x0, y0, x1, y1 = extents.T
            outside = (x1 < 0) | (y1 < 0) | (x0 > self.size[0]) | (y0 > self.size[1])
            self.n_outside += int(outside.sum())

    def _properties(self, numbers: list[int], batch: list[Feature], label: str, alike: int = 1) -> None:
        """Check what the features say about themselves; each stands for so many that say the same."""
        types, classes = [], []
        for number, feature in zip(numbers, batch, strict=True):
            where, properties = f"{label}[{number}]", feature.properties or _NO_PROPERTIES
            if feature.properties is None or properties.name is None:
                with self.noting(alike):
                    check_nulls(feature, where)
            if properties.object_type in OBJECT_TYPES:
                types.append(properties.object_type)
            else:
                with self.noting(alike):
                    types.append(self._odd_type(feature, properties, where))
            with self.noting(alike):
                content = bytes(properties.classification)
                if content not in self.class_names:
                    self.class_names[content] = self._new_class(content, where)
                classes.append(self.class_names[content])
            if properties.measurements:
                with self.noting(alike):
                    check_measurements(properties.measurements, label, number)
            if is_multiple(feature.geometry, _MANY_PARTS):
                self.counted_remarks[
                    f"annotations of more than {_MANY_PARTS} parts: QuPath counts each as one object"
                ] += 1
            if properties.child_objects:
                with self.noting(alike):
                    check_depth(where)
                    self._objects(properties.child_objects, f"{where}.properties.childObjects")
        self.types.update(types)
        self.classes.update(classes)

    def _odd_type(self, feature: Feature, properties: Properties, where: str) -> str:
        """Type that QuPath gives to an object without a proper `properties.objectType`."""
        given = {
            "objectType": properties.object_type,
            "object_type": properties.old_object_type,
            "type": properties.type,
        }
        for member, value in given.items():
            if value in OBJECT_TYPES or value in LEGACY_TYPES:
                self.counted_remarks[
                    f"objects name their type in `properties.{member}`, not `objectType`"
                ] += 1
                return LEGACY_TYPES.get(str(value), str(value))
            if value is not UNSET:
                fail(f"{where}.properties.{member}",
                     f"{shown(value)} is unknown: QuPath makes it an annotation",
                     f"write one of {', '.join(sorted(OBJECT_TYPES))}")  # fmt: skip
        if feature.id in LEGACY_TYPES:
            self.counted_remarks["objects name their type in `id`, as QuPath did before 0.4"] += 1
            return LEGACY_TYPES[str(feature.id)]
        if bytes(feature.object_type) != bytes(NULL):
            fail(f"{where}.objectType", "QuPath looks for it inside `properties` only", "move it there")
        self.counted_remarks["objects have no `objectType`: QuPath makes annotations of them"] += 1
        return "annotation"

    def _new_class(self, content: bytes, where: str) -> str:
        names = class_path(content, where)
        if names and names[-1] not in SCORED_CLASSES and re.search("(?i)positive|negative", names[-1]):
            self.remarks.append(f"class `{names[-1]}`: QuPath scores {', '.join(SCORED_CLASSES)} only")
        return ": ".join(names) or UNCLASSIFIED

    def _ids(self, numbers: list[int], batch: list[Feature], label: str) -> None:
        ids = [_own_id(feature) for feature in batch]
        if missing := ids.count(_NO_ID):
            self.counted_remarks["objects have no id: QuPath cannot notice a second import"] += missing
        halves = uuid_numbers(ids)
        if halves is None:
            for index, text in enumerate(ids):
                if not UUID_TEXT.fullmatch(text):
                    with self.noting():
                        fail(f"{label}[{numbers[index]}].id",
                             f"{shown(text)} is no UUID, so QuPath drops it", CURES["id"])  # fmt: skip
                    ids[index] = _NO_ID
            halves = uuid_numbers(ids)
        assert halves is not None
        self.ids.append((label, np.array(numbers, np.int64), halves))

    def _check_unique_ids(self) -> None:
        high = np.sort(np.concatenate([halves[:, 0] for _, _, halves in self.ids]))
        suspects = np.unique(high[1:][high[1:] == high[:-1]])
        if not len(suspects):
            return
        seen: dict[tuple[int, int], str] = {}
        for label, numbers, halves in self.ids:
            for index in np.flatnonzero(np.isin(halves[:, 0], suspects) & halves.any(axis=1)).tolist():
                where, pair = f"{label}[{numbers[index]}]", tuple(halves[index].tolist())
                if pair in seen:
                    with self.noting():
                        fail(f"{where}.id", f"the same as that of {seen[pair]}", "give each its own UUID")
                else:
                    seen[pair] = where

    def _no_pixels(self) -> str | None:
        return no_pixels(np.concatenate(self.sample), size_stated=self.size is not None)

    def report(self, path: str) -> Report:
        """Look for repeated ids and for what all objects have in common, gather the counts."""
        if self.ids:
            self._check_unique_ids()
        if self.sample and (rule := self._no_pixels()):
            with self.noting():
                fail(path, rule, "write full-resolution pixels from the upper left corner")
        if self.n_outside:
            self.counted_remarks[
                f"objects lie wholly outside the picture of {self.size} px: is the frame right?"
            ] = self.n_outside
        counted = [f"{count:,} {remark}" for remark, count in self.counted_remarks.items()]
        return Report(
            n_files=self.n_files,
            n_features=self.types.total(),
            n_by_object_type=dict(self.types.most_common()),
            n_by_class=dict(self.classes.most_common()),
            frame=self.frame,
            warnings=(*first_few(map(one_line, self.remarks)), *counted),
        )


def _checked_extent(geometry: Geometry, where: str) -> tuple[float, float, float, float]:
    try:
        return check_geometry(geometry)
    except GeometryError as fault:
        fail(where, fault.rule, fault.cure)


def _own_id(feature: Feature) -> str:
    return _NO_ID if isinstance(feature.id, UnsetType) or feature.id in LEGACY_TYPES else feature.id


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare the collector the millions of short-lived lists of coordinates, none of them in a cycle.

    They take two thirds of the time otherwise.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
