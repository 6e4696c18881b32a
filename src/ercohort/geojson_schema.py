"""What QuPath reads from a GeoJSON collection and its features, decoded with types.

Members that it ignores are ignored here; a member of the wrong type is an error that names feature and
member. Sources: `QuPathTypeAdapters.java`, `GsonTools.java` of `qupath-core`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from ercohort.geojson_foreign import LEGACY_TYPES, bad_encoding
from ercohort.geojson_geometry import Geometry
from ercohort.geojson_problems import BrokenRuleError
from ercohort.inert import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.slide import SlideInfo

NULL = Raw(b"null")
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: the last two where the text is no UTF-8, or nested too deep."""

MOST_NESTED = 32
"""Objects inside one another; QuPath's own hierarchies have three or four levels."""

UNCLASSIFIED = "Unclassified"
OBJECT_TYPES = frozenset({"detection", "annotation", "cell", "tile", "tmaCore", "root"})
UUID_TEXT = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

CURES = {
    "geometry.type": "write Point, LineString, Polygon or their Multi kinds",
    "geometry": 'write {"type": ..., "coordinates": ...} with finite numbers',
    "nucleusGeometry": 'write {"type": ..., "coordinates": ...} with finite numbers',
    "id": "write a UUID as text, or leave it out",
    "properties.measurements": 'write {"name": number, ...} and leave out what has no value',
    "properties.metadata": "write text values",
    "properties.color": "write [red, green, blue]",
    "properties.name": "write a text, or leave it out",
    "properties": 'write {"objectType": ...}, or leave it out',
    "properties.classification": 'write {"name": "Positive", "color": [250, 62, 62]}',
}
"""Start of a member's path to what to write there."""


class Classification(Struct):
    """A class of objects; before 0.4, QuPath wrote the last two in place of `names` and `color`."""

    name: str | None = None
    names: list[str] | None = None
    color: list[int] | None = None
    packed_color: int | None = msgspec.field(default=None, name="colorRGB")
    parent: Classification | None = msgspec.field(default=None, name="parentClass")


class Measurement(Struct):
    """One entry of the list that QuPath wrote before 0.4."""

    name: str
    value: float | str


class Properties(Struct, rename="camel"):
    """The member `properties` of a feature."""

    object_type: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    old_object_type: str | UnsetType = msgspec.field(default=UNSET, name="object_type")
    name: str | UnsetType | None = UNSET
    color: int | list[int] | None = None
    is_locked: bool = False
    # Left as bytes: a file has few distinct classes, and each is decoded and checked once.
    classification: Raw = NULL
    measurements: dict[str, float | str] | list[Measurement] | None = None
    metadata: dict[str, str | float | bool | None] | None = None
    child_objects: list[Raw] | None = None


class Feature(Struct, tag_field="type", tag="Feature", rename="camel"):
    """One object. `object_type` is read only to say that it stands in the wrong place."""

    geometry: Geometry
    id: str | UnsetType = UNSET
    properties: Properties | UnsetType | None = UNSET
    nucleus_geometry: Geometry | None = None
    object_type: Raw = NULL


class Top(Struct):
    """The top level of a collection, its features not decoded yet."""

    type: str | UnsetType = UNSET
    features: list[Raw] | UnsetType = UNSET
    coordinate_frame: dict[str, Any] | None = None
    crs: Raw = NULL


def object_kind(feature: Feature) -> str:
    """Type of an object as QuPath's reader finds it: an annotation if nothing is said."""
    properties = feature.properties or Properties()
    given = (properties.object_type, properties.old_object_type, properties.type)
    kind = next((str(value) for value in given if value is not UNSET), str(feature.id))
    return LEGACY_TYPES.get(kind, "annotation" if kind == str(feature.id) else kind)


_TOP = msgspec.json.Decoder(Top)
_LIST = msgspec.json.Decoder(list[Raw])
_FEATURES = msgspec.json.Decoder(list[Feature])
_CLASSIFICATION = msgspec.json.Decoder(Classification | str | None)


def fail(where: str, rule: str, cure: str) -> NoReturn:
    """Raise the one-line error of a broken rule."""
    raise BrokenRuleError(where, rule, cure)


def split_collection(where: str, content: bytes) -> tuple[list[Raw], str, Top]:
    """Split a FeatureCollection, an array of features, a feature or a bare geometry into features.

    Returns
    -------
    features
        JSON of each feature, not decoded.
    member
        Name of the member that held them, empty at the top level.
    top
        The other members.

    Raises
    ------
    GeoJSONError
        No strict JSON, or nothing of these four.
    """
    if odd := bad_encoding(content):
        fail(where, *odd)
    try:
        if content.lstrip()[:1] == b"[":
            return _LIST.decode(content), "", Top()
        top = _TOP.decode(content)
    except NOT_JSON as error:
        fail(where, f"is no GeoJSON ({error})", "write strict UTF-8 JSON: no NaN, no comments")
    if top.type is UNSET:
        fail(where, "the top level has no `type`", "write a FeatureCollection")
    if top.type == "Feature":
        return [Raw(content)], "", top
    if top.type != "FeatureCollection":
        return [Raw(b'{"type":"Feature","geometry":' + content + b"}")], "", top
    if isinstance(top.features, UnsetType):
        fail(where, "the FeatureCollection has no `features`", 'write "features": [...]')
    return top.features, "features", top


def find_frame(
    where: str, top: Top, info: SlideInfo, frame: str, cure: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Learn where a collection's coordinates begin, and refuse one that says it is of a slide of other size.

    Parameters
    ----------
    where
        Names the collection in errors.
    top
        Its top level, which may state its frame (`ercohort.geojson`).
    info
        Size and bounds of the slide that it is to belong to.
    frame
        `qupath` or `slide`, for a collection that states none.
    cure
        What to do about a collection of another slide.

    Returns
    -------
    origin, size
        x and y of the frame's origin, and width and height of the picture in it; level-0 pixels.

    Raises
    ------
    GeoJSONError
        The frame is unknown, or was drawn on a picture of other size.
    """
    stated = top.coordinate_frame or {}
    origin = stated.get("origin", frame)
    if origin not in ("qupath", "slide"):
        fail(where, f"its frame {shown(origin)} is unknown", "write qupath or slide")
    x, y, *size = info.bounds if origin == "qupath" else (0, 0, info.width, info.height)
    drawn = [stated.get("width", size[0]), stated.get("height", size[1])]
    if drawn != size:
        rule = f"it was drawn on a slide of {drawn[0]} x {drawn[1]} px, this one has {size[0]} x {size[1]}"
        fail(where, rule, cure)
    return (x, y), (size[0], size[1])


def check_depth(where: str) -> None:
    """Refuse children of children of children without end; `where` names an object that has some."""
    if where.count(".childObjects[") >= MOST_NESTED:
        fail(where, f"objects lie {MOST_NESTED} deep in one another", "put the inner ones beside them")


def decode_features(features: list[Raw], label: str, start: int) -> list[Feature]:
    """Decode a batch of features; `label` and the number `start` of the first one name them in errors."""
    try:
        return _FEATURES.decode(b"[" + b",".join(features) + b"]")
    except NOT_JSON as error:
        rule, _, path = str(error).partition(" - at `$[")
        number, _, member = path.rstrip("`").partition("]")
        member = member.removeprefix(".")
        where = f"{label}[{start + int(number or 0)}]" + (f".{member}" if member else "")
        cures = (text for key, text in CURES.items() if member.startswith(key))
        fail(where, rule, next(cures, 'write {"type": "Feature", "geometry": ..., "properties": ...}'))


def class_path(content: bytes, where: str) -> tuple[str, ...]:
    """Names of a classification from the base class down, empty if there is none.

    QuPath throws on an object without a colour and then refuses the whole file.
    """
    where, cure = f"{where}.properties.classification", CURES["properties.classification"]
    try:
        value = _CLASSIFICATION.decode(content)
    except NOT_JSON as error:
        fail(where, str(error), cure)
    if value is None:
        return ()
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            fail(where, "it is JSON within a text, and QuPath makes a class of that name", cure)
        return tuple(name.strip() for name in value.split(":"))
    names = _names(value)
    if not all(names):
        fail(where, "it has neither `name` nor `names`", cure)
    if value.packed_color is not None or value.parent is not None:
        return tuple(name.strip() for name in names)
    if value.color is None:
        fail(where, "it has no `color`, and QuPath refuses the whole file", cure)
    if len(value.color) not in (3, 4) or not all(0 <= part <= 255 for part in value.color):
        fail(where, f"its color {value.color} is not 3 or 4 numbers from 0 to 255", cure)
    return tuple(name.strip() for name in names)


def _names(value: Classification) -> list[str]:
    own = value.names or (value.name or "").split(":")
    return [*_names(value.parent), *own] if value.parent else own


def check_measurements(
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


def check_nulls(feature: Feature, where: str) -> None:
    """Refuse a null where QuPath wants an object or a text, and fails without them."""
    rule = "it is null, and QuPath refuses the whole file"
    if feature.properties is None:
        fail(f"{where}.properties", rule, CURES["properties"])
    if feature.properties and feature.properties.name is None:
        fail(f"{where}.properties.name", rule, CURES["properties.name"])


def uuid_numbers(ids: list[str]) -> NDArray[np.uint64] | None:
    """UUIDs as pairs of 64-bit numbers, shape (n, 2), or None if one of them is no UUID."""
    text = "".join(ids).encode()
    if len(text) != 36 * len(ids) or any(len(item) != 36 for item in ids):
        return None
    values = _HEX_VALUES[np.frombuffer(text, np.uint8).reshape(-1, 36)]
    digits = np.delete(values, _DASHES, axis=1)
    if (digits > 15).any() or (values[:, _DASHES] != _DASH).any():
        return None
    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)


_DASHES = (8, 13, 18, 23)
_DASH = 16
_HEX_VALUES = np.full(256, 17, np.uint8)
_HEX_VALUES[np.frombuffer(b"0123456789abcdef-", np.uint8)] = np.arange(17)
_HEX_VALUES[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
