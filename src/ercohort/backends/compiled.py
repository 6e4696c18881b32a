"""The network as OpenVINO compiled it, kept by the engine step for the jobs that come after it.

To compile an int8 file takes each job 2 s, to load what was compiled 0.5 s (`benchmarks/NOTES.md`).
OpenVINO's own cache (`CACHE_DIR`) is slower, and a file of it that was damaged gives other numbers without a
word. Here it is loaded only if its SHA-256 and everything that it depends on are as noted; else the job
compiles.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openvino as ov

from ercohort.files import atomic_path

LOGGER = logging.getLogger("ercohort")


@dataclass(frozen=True)
class CompiledKey:
    """Everything that a compiled network depends on, but for the number of threads.

    Attributes
    ----------
    onnx_sha256
        Of the file that is run: the detector's, or its int8 file's.
    tile_px
        Side of the tiles, pixels.
    precision, device, runtime
        As in `ercohort.backends.openvino.Cpu`.
    """

    onnx_sha256: str
    tile_px: int
    precision: str
    device: str
    runtime: str


def keep_compiled(network: Any, key: CompiledKey, path: Path) -> dict[str, Any]:
    """Write a compiled network, and return what `load_compiled` needs to know of it.

    Raises
    ------
    DiskError
        It cannot be written.
    """
    stream = io.BytesIO()
    network.export_model(stream)
    content = stream.getvalue()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return {"path": str(path), "sha256": hashlib.sha256(content).hexdigest(), "key": asdict(key)}


def load_compiled(kept: Mapping[str, Any], key: CompiledKey, options: Mapping[str, Any]) -> Any | None:
    """Load a network that was kept; None where there is none that fits.

    Parameters
    ----------
    kept
        What `keep_compiled` returned.
    key
        What is needed here.
    options
        Of OpenVINO's CPU plugin.
    """
    if kept["key"] != asdict(key):
        return None
    try:
        content = Path(kept["path"]).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != kept["sha256"]:
        LOGGER.warning("%s: was damaged or changed; compiling the network anew", kept["path"])
        return None
    try:
        return ov.Core().import_model(content, "CPU", dict(options))
    except RuntimeError:
        return None
