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

from ercohort.geojson_files import read_each
from ercohort.geojson_geometry import Geometry, GeometryError, check_geometry, find_boxes
from ercohort.geojson_scan import Scan, scan
from ercohort.geojson_schema import (
    CURES,
    NULL,
    OBJECT_TYPES,
    UNCLASSIFIED,
    UUID_TEXT,
    Feature,
    Measurement,
    Properties,
    Top,
    check_depth,
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
        QuPath would refuse the file, skip a part of it, or read it as something else. Names the file, the
        entry, the feature (counted from 0), the rule and the cure.
    """
    check = _Check((width, height) if width is not None and height is not None else None)
    for where, content in read_each(Path(path), lambda content: scan(content) or content):
        check.collection(where, content)
    return check.report()


class _Check:
    """The rules over one file, and the counts that become its report."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.size = size
        self.size_given = size is not None
        self.frame: dict[str, Any] | None = None
        self.n_files = 0
        self.n_outside = 0
        self.types: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.counted_remarks: Counter[str] = Counter()
        self.class_names = {bytes(NULL): UNCLASSIFIED}
        self.ids: list[tuple[str, int, NDArray[np.uint64]]] = []

    def collection(self, where: str, content: bytes | Scan) -> None:
        """Check one collection."""
        self.n_files += 1
        if isinstance(content, Scan):
            self._top(where, content.top, len(content.ids))
            self._scanned(f"{where}: features", content)
            return
        features, member, top = split_collection(where, content)
        self._top(where, top, len(features))
        self._objects(features, f"{where}: {member}")

    def _top(self, where: str, top: Top, n_features: int) -> None:
        if self.n_files > 1 and top.coordinate_frame != self.frame:
            fail(where, f"its frame {top.coordinate_frame} is not {self.frame} as in the entries before",
                 "write all entries in one run")  # fmt: skip
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
            self._properties([kind.feature], label, kind.first)
            for counts, earlier in zip(kinds, before, strict=True):
                for name, count in (counts - earlier).items():
                    counts[name] += (kind.count - 1) * count
        self._count_outside(scanned.extents)
        self.ids.append((label, 0, scanned.ids))

    def _objects(self, features: list[Raw], label: str) -> None:
        for start in range(0, len(features), _BATCH):
            with _no_garbage_collection():
                batch = decode_features(features[start : start + _BATCH], label, start)
                self._geometries(batch, label, start)
                self._properties(batch, label, start)
                self._ids(batch, label, start)

    def _geometries(self, batch: list[Feature], label: str, start: int) -> None:
        is_box, extent = find_boxes([feature.geometry for feature in batch])
        others = [
            _checked_extent(batch[index].geometry, f"{label}[{start + index}].geometry")
            for index in np.flatnonzero(~is_box).tolist()
        ]
        for number, feature in enumerate(batch, start):
            if feature.nucleus_geometry is not None:
                _checked_extent(feature.nucleus_geometry, f"{label}[{number}].nucleusGeometry")
        self._count_outside(np.concatenate([extent, np.reshape(others, (-1, 4))]))

    def _count_outside(self, extents: NDArray[np.float64]) -> None:
        if self.size is not None:
            x0, y0, x1, y1 = extents.T
            outside = (x1 < 0) | (y1 < 0) | (x0 > self.size[0]) | (y0 > self.size[1])
            self.n_outside += int(outside.sum())

    def _properties(self, batch: list[Feature], label: str, start: int) -> None:
        types, classes = [], []
        for number, feature in enumerate(batch, start):
            properties = feature.properties or _NO_PROPERTIES
            if properties.object_type in OBJECT_TYPES:
                types.append(properties.object_type)
            else:
                types.append(self._odd_type(feature, properties, f"{label}[{number}]"))
            content = bytes(properties.classification)
            if content not in self.class_names:
                self.class_names[content] = self._new_class(content, f"{label}[{number}]")
            classes.append(self.class_names[content])
            if properties.measurements:
                _check_measurements(properties.measurements, label, number)
            if properties.child_objects:
                check_depth(f"{label}[{number}]")
                self._objects(properties.child_objects, f"{label}[{number}].properties.childObjects")
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
            if value in OBJECT_TYPES:
                self.counted_remarks[
                    f"objects name their type in `properties.{member}`, not `objectType`"
                ] += 1
                return str(value)
            if value is not UNSET:
                fail(f"{where}.properties.{member}",
                     f"{shown(value)} is unknown: QuPath makes it an annotation",
                     f"write one of {', '.join(sorted(OBJECT_TYPES))}")  # fmt: skip
        if bytes(feature.object_type) != bytes(NULL):
            fail(f"{where}.objectType", "QuPath looks for it inside `properties` only", "move it there")
        self.counted_remarks["objects have no `objectType`: QuPath makes annotations of them"] += 1
        return "annotation"

    def _new_class(self, content: bytes, where: str) -> str:
        names = class_path(content, where)
        if names and names[-1] not in SCORED_CLASSES and re.search("(?i)positive|negative", names[-1]):
            self.remarks.append(f"class `{names[-1]}`: QuPath scores {', '.join(SCORED_CLASSES)} only")
        return ": ".join(names) or UNCLASSIFIED

    def _ids(self, batch: list[Feature], label: str, start: int) -> None:
        ids = [_NO_ID if isinstance(feature.id, UnsetType) else feature.id for feature in batch]
        if missing := ids.count(_NO_ID):
            self.counted_remarks["objects have no id: QuPath cannot notice a second import"] += missing
        numbers = uuid_numbers(ids)
        if numbers is None:
            bad = next(index for index, text in enumerate(ids) if not UUID_TEXT.fullmatch(text))
            fail(
                f"{label}[{start + bad}].id", f"{shown(ids[bad])} is no UUID, so QuPath drops it", CURES["id"]
            )
        self.ids.append((label, start, numbers))

    def _check_unique_ids(self) -> None:
        high = np.sort(np.concatenate([numbers[:, 0] for _, _, numbers in self.ids]))
        suspects = np.unique(high[1:][high[1:] == high[:-1]])
        if not len(suspects):
            return
        seen: dict[tuple[int, int], str] = {}
        for label, start, numbers in self.ids:
            for index in np.flatnonzero(np.isin(numbers[:, 0], suspects) & numbers.any(axis=1)).tolist():
                where, pair = f"{label}[{start + index}]", tuple(numbers[index].tolist())
                if pair in seen:
                    fail(f"{where}.id", f"the same as that of {seen[pair]}", "give every object its own UUID")
                seen[pair] = where

    def report(self) -> Report:
        """Look for repeated ids, gather the counts."""
        if self.ids:
            self._check_unique_ids()
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


def _check_measurements(
    measurements: dict[str, float | str] | list[Measurement], label: str, number: int
) -> None:
    """Refuse text that is no number; QuPath itself writes NaN and infinities as text."""
    values = measurements if isinstance(measurements, dict) else {m.name: m.value for m in measurements}
    for name, value in values.items():
        if type(value) is str:
            try:
                float(value)
            except ValueError:
                fail(f"{label}[{number}].properties.measurements",
                     f"{shown(name)} is {shown(value)}, no number",
                     CURES["properties.measurements"])  # fmt: skip


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
