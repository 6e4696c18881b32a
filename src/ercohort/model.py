"""What a detector says about itself: read from its ONNX file without any inference library.

Every job and every start of the workflow checks the model, so it takes milliseconds.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import math
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ercohort.errors import ModelError
from ercohort.inert import one_line, shown
from ercohort.onnx_wire import FLOAT32, PROTOBUF_LIMIT, NotOnnxError, OnnxGraph, read_onnx
from ercohort.schema import LABELS, NEGATIVE, is_negative, positive_mask

MAX_CLASSES = 16
MAX_NAME = 40
"""Characters of a class name: it has to fit a column, a picture's key and a menu of QuPath."""

MAX_TITLE = 100
"""Characters of the detector's name and of its version that the table shows."""

MAX_PX = 8192
"""Greatest side of a tile, pixels."""

_MAX_LITERAL = 10_000
_SIDE_BY_SIDE = "`snakemake export` writes both; put them side by side"

# Classes go into CSV columns, JSON and pictures: nothing that a spreadsheet, a terminal or QuPath acts on.
_CLASS_NAME = re.compile(r"[^\W_](?:[\w .+()/%:-]*[\w.+()%-])?")


@dataclass(frozen=True)
class ModelInfo:
    """A detector, as its ONNX file describes it.

    Attributes
    ----------
    path
        The ONNX file.
    sha256
        Of the whole file.
    name, version
        For the table; the file's stem where the metadata has no name.
    mpp
        Scale that the network was trained at, µm per pixel.
    tile_px
        Side of the tiles that it was trained on, pixels.
    fixed_px
        Side of the input where the file allows only one; None if any multiple of 32 will do.
    labels
        Class names in the order of the network's outputs: one negative class, the others positive ones.
    false_positive_percent
        Positive detections on a negative nucleus or on none, per 100 negative nuclei, as its metadata states
        it; None if it does not. A score is borderline where this could change its category.
    """

    path: str
    sha256: str
    name: str
    version: str
    mpp: float
    tile_px: int
    fixed_px: int | None
    labels: tuple[str, ...]
    false_positive_percent: float | None = None

    @property
    def negative(self) -> int:
        """Index of the negative class."""
        return int(positive_mask(self.labels).argmin())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self) | {"labels": list(self.labels)}


def read_model(path: str | os.PathLike[str]) -> ModelInfo:
    """Read and check the metadata of a detector.

    The file must be an ONNX export of a YOLO detector with its raw head: one float32 input (N, 3, height,
    width), one float32 output (N, 4 + classes, anchors), no NMS in the graph, and `metadata_props` that hold
    `names` (as Ultralytics writes them: ``{0: 'Positive', 1: 'Negative'}``), `mpp` and `tile_px` (or
    Ultralytics' `imgsz`). There may be 2 to 16 classes, such as Positive, Weak, Negative; exactly one is
    named Negative (or ends in `: Negative`), and every other counts as positive.

    Raises
    ------
    ModelError
        One line: what the file lacks and how to cure it.
    """
    path = Path(path)
    try:
        if not path.is_file() and path.exists():
            raise OSError(errno.EINVAL, "it is no file")
        if path.stat().st_size >= PROTOBUF_LIMIT:
            raise NotOnnxError("it is over 2 GB")
        content = path.read_bytes()
        graph, properties = read_onnx(content)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; set `model` in config/config.yaml to an ONNX file") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is no path
        raise ModelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except NotOnnxError as error:
        raise ModelError(f"{path}: is not an ONNX file ({error}); export the detector to ONNX") from None
    try:
        return _check(path, hashlib.sha256(content).hexdigest(), graph, properties)
    except _RefusedError as error:
        raise ModelError(f"{path}: {error}") from None


def fp16_file(model: ModelInfo) -> Path:
    """Return the detector's FP16 file, which a GPU runs in its place: `NAME-fp16.onnx` beside `NAME.onnx`.

    Raises
    ------
    ModelError
        There is none, or it was made from another file, by its `source_sha256` where it has one.
    """
    return _twin(model, "fp16", "a GPU", _SIDE_BY_SIDE)


def int8_file(model: ModelInfo) -> Path:
    """Return the detector's int8 file, which a CPU can run in its place: `NAME-int8.onnx` beside `NAME.onnx`.

    Raises
    ------
    ModelError
        There is none, or it was made from another file, by its `source_sha256` where it has one.
    """
    cure = "`snakemake export` writes it where it agrees with float32; or set `precision: auto`"
    return _twin(model, "int8", "`precision: int8`", cure)


def int8_sha256(model: ModelInfo) -> str | None:
    """Return the SHA-256 of the int8 file beside the detector; None where there is none to read."""
    try:
        return hashlib.sha256(twin_path(model.path, "int8").read_bytes()).hexdigest()
    except OSError:  # where it is there, and is needed, `int8_file` says what is wrong with it
        return None


def twin_path(model: str | os.PathLike[str], kind: str) -> Path:
    """Return where the file of the same detector in another precision stands: `fp16` or `int8`."""
    path = Path(model)
    return path.with_name(f"{path.stem}-{kind}.onnx")


def _twin(model: ModelInfo, kind: str, needed_by: str, cure: str) -> Path:
    path = twin_path(model.path, kind)
    if not path.exists():
        raise ModelError(f"{path}: no such file, and {needed_by} needs it beside {model.path}; {cure}")
    twin = read_model(path)
    source = read_onnx(path.read_bytes())[1].get("source_sha256", model.sha256)
    same = ("version", "mpp", "labels")
    if source != model.sha256 or any(getattr(twin, name) != getattr(model, name) for name in same):
        raise ModelError(f"{path}: was not made from {model.path}; {_SIDE_BY_SIDE}")
    return path


class _RefusedError(Exception):
    """Why a readable ONNX file is no detector for us."""


def _check(path: Path, digest: str, graph: OnnxGraph, properties: dict[str, str]) -> ModelInfo:
    labels = _labels(properties)
    fixed_px = _check_input(graph)
    _check_output(graph, labels)
    if graph.external:
        raise _RefusedError("its weights are in another file; export it as one file")
    return ModelInfo(
        path=str(path),
        sha256=digest,
        name=one_line(properties.get("name", ""))[:MAX_TITLE] or path.stem,
        version=one_line(properties.get("version", ""))[:MAX_TITLE],
        mpp=_number(properties, "mpp", "scale of the training tiles in µm per pixel, such as 0.5", 0.05, 8.0),
        tile_px=_tile_px(properties),
        fixed_px=fixed_px,
        labels=labels,
        false_positive_percent=_false_positives(properties),
    )


def _false_positives(properties: dict[str, str]) -> float | None:
    if "false_positive_percent" not in properties:
        return None
    meaning = "percent of negative nuclei that the detector calls positive, 0 to 100"
    return _number(properties, "false_positive_percent", meaning, 0.0, 100.0)


def _labels(properties: dict[str, str]) -> tuple[str, ...]:
    example = f"such as {dict(enumerate(LABELS))}"
    if "names" not in properties:
        raise _RefusedError(f"has no class names; its metadata_props need `names`, {example}")
    names = _literal(properties["names"])
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        names = [names[key] for key in sorted(names)] if sorted(names) == list(range(len(names))) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _RefusedError(f"class names are {shown(properties['names'], 200)}; expected names, {example}")
    for name in names:
        if not _is_safe(name):
            raise _RefusedError(
                f"class name {name[:60]!r} cannot be used; rename it in `names` with letters, digits, spaces "
                f"and . : + - ( ) / %, beginning with a letter or digit, {MAX_NAME} characters at most"
            )
    _check_classes(names)
    return tuple(names)


def _is_safe(name: str) -> bool:
    # QuPath splits a name at its colons and strips the parts; an empty part would be a class without a name.
    parts = name.split(":")
    return len(name) <= MAX_NAME and bool(_CLASS_NAME.fullmatch(name)) and all(map(str.strip, parts))


def _check_classes(names: list[str]) -> None:
    """Refuse classes that cannot be counted: too few, too many, alike, or not exactly one negative."""
    found = f"its classes are {', '.join(names[: MAX_CLASSES + 1]) or 'none'}"
    if not 2 <= len(names) <= MAX_CLASSES:
        raise _RefusedError(f"{found}; a detector has 2 to {MAX_CLASSES}, one of them named {NEGATIVE}")
    alike = Counter(":".join(part.strip() for part in name.casefold().split(":")) for name in names)
    if max(alike.values()) > 1:
        raise _RefusedError(f"{found}; two are alike (upper and lower case count as one); rename one")
    n_negative = sum(map(is_negative, names))
    if n_negative != 1:
        raise _RefusedError(
            f"{found}; {n_negative or 'none'} of them is {NEGATIVE}; name exactly one {NEGATIVE} in `names`: "
            "every other counts as positive"
        )


def _check_input(graph: OnnxGraph) -> int | None:
    if len(graph.inputs) != 1:
        raise _RefusedError(f"has {len(graph.inputs)} inputs; a YOLO detector has one")
    kind, shape = graph.inputs[0]
    if kind != FLOAT32 or len(shape) != 4 or shape[1] != 3:
        raise _RefusedError(f"input is {_show(kind, shape)}; expected float32 (N, 3, height, width)")
    if shape[2] != shape[3]:
        raise _RefusedError(
            f"input is {_show(kind, shape)}, which is not square; export it with dynamic=True"
        )
    if shape[2] is not None and not 32 <= shape[2] <= MAX_PX:
        raise _RefusedError(f"input is {_show(kind, shape)}; tiles have 32 to {MAX_PX} px; export it again")
    if shape[0] not in (None, 1):
        raise _RefusedError(f"input takes {shape[0]} tiles at a time only; export it with dynamic=True")
    return shape[2]


def _check_output(graph: OnnxGraph, labels: tuple[str, ...]) -> None:
    if len(graph.outputs) != 1:
        raise _RefusedError(f"has {len(graph.outputs)} outputs; a YOLO detector has one (no masks)")
    kind, shape = graph.outputs[0]
    if kind != FLOAT32 or len(shape) != 3 or shape[1] != 4 + len(labels):
        raise _RefusedError(
            f"output is {_show(kind, shape)}; expected the raw YOLO head, float32 (N, {4 + len(labels)}, "
            "anchors): export without NMS (nms=False, end2end=False)"
        )


def _tile_px(properties: dict[str, str]) -> int:
    size = _literal(properties.get("imgsz", ""))
    if "tile_px" not in properties and isinstance(size, list) and size:
        properties = {**properties, "tile_px": str(size[0])}
    return int(
        _number(properties, "tile_px", "side of the training tiles in pixels, such as 640", 32, MAX_PX)
    )


def _number(properties: dict[str, str], key: str, meaning: str, least: float, most: float) -> float:
    if key not in properties:
        raise _RefusedError(f"its metadata_props lack `{key}` ({meaning}); add it to the ONNX file")
    try:
        value = float(properties[key])
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise _RefusedError(f"its `{key}` is {shown(properties[key])}; expected {meaning}")
    return value


def _literal(text: str) -> Any:
    """Evaluate a Python or JSON literal; None if it is none, or longer than any list of classes."""
    try:
        return ast.literal_eval(text) if len(text) <= _MAX_LITERAL else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _show(kind: int, shape: tuple[int | None, ...]) -> str:
    dims = ", ".join("any" if dim is None else str(dim) for dim in shape[:8]) + ", ..." * (len(shape) > 8)
    return f"{'float32' if kind == FLOAT32 else f'data type {kind}'} ({dims})"
