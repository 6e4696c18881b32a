"""What a detector's ONNX file says about itself, written into it; the network stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ercohort.files import atomic_path
from ercohort.model import fp16_file, int8_file, read_model, twin_path


def save_detector(model: Any, output: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write an ONNX model or file with these metadata and no others, and check it as the workflow does.

    Parameters
    ----------
    model
        An `onnx.ModelProto`, or the path of one.
    output
        The file to write.
    metadata
        All of its `metadata_props`.

    Raises
    ------
    ModelError
        The file would be no detector for the workflow (`ercohort.model.read_model`); nothing is written.
    """
    import onnx

    model = onnx.load(os.fspath(model)) if isinstance(model, str | os.PathLike) else model
    del model.metadata_props[:]  # ultralytics' own hold a date, so that no two exports would be equal
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    with atomic_path(output) as temporary:
        onnx.save(model, str(temporary))
        read_model(temporary)


def restate(path: str | os.PathLike[str], **values: str) -> None:
    """Change what a detector says about itself, and so do its FP16 and int8 files where there are any.

    Parameters
    ----------
    path
        The float32 file. `NAME-fp16.onnx` and `NAME-int8.onnx` beside it have to be made from it.
    values
        Metadata to add or to replace, such as ``version="0.2.1", false_positive_percent="3.9"``.

    Raises
    ------
    ModelError
        A file would be no detector any more, or a file beside it is another detector's.
    """
    path = Path(path)
    model = read_model(path)
    checks = {"fp16": fp16_file, "int8": int8_file}
    twins = [check(model) for kind, check in checks.items() if twin_path(path, kind).exists()]
    save_detector(path, path, metadata_of(path) | values)
    # They name the float32 file that they were made from, whose hash is another one now.
    values |= {"source_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for twin in twins:
        save_detector(twin, twin, metadata_of(twin) | values)


def metadata_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return all `metadata_props` of an ONNX file."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
