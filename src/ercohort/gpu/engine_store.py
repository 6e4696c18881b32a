"""Engines on disk: built once per detector and type of GPU, found again by every later run and node.

A store is a folder with, per engine, the plan, a JSON record beside it and a lock. A plan is given out only
if its record states exactly the key that was asked for and the SHA-256 of its content: TensorRT ends the
process on a plan that is damaged or foreign.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ercohort import __version__
from ercohort.config import TensorRtSettings
from ercohort.errors import BackendError
from ercohort.files import atomic_path, read_json, write_json
from ercohort.gpu.build import BuiltPlan, build_plan
from ercohort.gpu.flavour import Flavour
from ercohort.gpu.probe import Gpu
from ercohort.gpu.profile import Profile, make_profile
from ercohort.gpu.smoke import try_plan
from ercohort.locks import locked
from ercohort.model import ModelInfo, fp16_file

LOGGER = logging.getLogger("ercohort")

TryOut = Callable[[Path, Gpu, Profile], dict[str, Any]]
"""Runs a new plan once; raises BackendError where it does not run."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes
    ----------
    onnx_sha256
        Of the FP16 file.
    flavour, version
        The TensorRT that built it, and the only one that may load it.
    compute_capability, driver_major
        Of the GPU and its driver, such as 9.0 and 13.
    precision
        Arithmetic of the network.
    profile
        Sizes that it takes.
    """

    onnx_sha256: str
    flavour: str
    version: str
    compute_capability: str
    driver_major: int
    precision: str
    profile: Profile

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """16 hex digits that name the engine's files."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StoredEngine:
    """An engine of the store.

    Attributes
    ----------
    plan_path
        The plan; its record is beside it, with the suffix `.json`.
    record
        What the record says: the key, the plan's SHA-256, tensors, device, seconds, warnings.
    """

    plan_path: Path
    record: dict[str, Any]

    def read_plan(self) -> bytes:
        """Read the plan, and check it once more.

        Raises
        ------
        BackendError
            It is gone or was changed since it was found.
        """
        with suppress(OSError):
            plan = self.plan_path.read_bytes()
            if hashlib.sha256(plan).hexdigest() == self.record["plan_sha256"]:
                return plan
        raise BackendError(f"{self.plan_path}: was changed or removed meanwhile; run again")

    def read_runtime_cache(self) -> bytes:
        """Return the kernels that TensorRT-RTX compiled in an earlier run; nothing if there are none."""
        with suppress(OSError):
            return self.plan_path.with_suffix(".kernels").read_bytes()
        return b""

    def keep_runtime_cache(self, kernels: bytes) -> None:
        """Keep compiled kernels for the next run, if the store can be written; without them it only waits."""
        if kernels and kernels != self.read_runtime_cache():
            with suppress(OSError):
                _write(self.plan_path.with_suffix(".kernels"), kernels)


def store_folder(settings: TensorRtSettings) -> Path:
    """Return the folder of engines: of the settings, of `ERCOHORT_ENGINES`, or this user's cache."""
    named = settings.store or os.environ.get("ERCOHORT_ENGINES")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "ercohort" / "engines"


def engine_for(
    model: ModelInfo, settings: TensorRtSettings, tile_px: int, flavour: Flavour, gpu: Gpu
) -> StoredEngine:
    """Find the engine of a detector for tiles of `tile_px` on a GPU, or build it.

    Raises
    ------
    ModelError
        The detector has no FP16 file.
    BackendError
        See `find_or_build`; or the profile excludes `tile_px`.
    """
    profile = make_profile(settings, tile_px)
    return find_or_build(fp16_file(model), profile, flavour, gpu, store_folder(settings))


def find_or_build(
    onnx: Path, profile: Profile, flavour: Flavour, gpu: Gpu, store: Path, *, try_out: TryOut = try_plan
) -> StoredEngine:
    """Find an engine in a store, or build it there; of several processes one builds, and the others wait.

    Parameters
    ----------
    onnx
        The FP16 file.
    gpu
        What it is to run on; TensorRT builds on it, and so it is made the current device.
    try_out
        Runs a new plan once before it is kept.

    Raises
    ------
    BackendError
        The engine cannot be built, does not run, or the store cannot be written.
    """
    try:
        content = onnx.read_bytes()
    except OSError as error:
        raise BackendError(f"{onnx}: cannot be read: {error.strerror or error}") from None
    key = EngineKey(
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        flavour=flavour.name,
        version=flavour.version,
        compute_capability=gpu.capability,
        driver_major=gpu.driver_major,
        precision="f16",
        profile=profile,
    )
    path = store / f"{_slug(onnx.stem)}-{_slug(flavour.name)}-sm{gpu.capability}-{key.digest}.plan"
    # Before the lock is touched: a store that the site's people filled may be read-only to everyone else.
    found = _look(path, key)
    if isinstance(found, StoredEngine):
        return found
    try:
        store.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), lambda: LOGGER.info("another job builds %s; waiting", path)):
            found = _look(path, key)
            if isinstance(found, StoredEngine):
                return found
            LOGGER.info("%s %s: building it for %s", path, found, gpu.name)
            return _build(path, key, content, flavour, gpu, try_out)
    except OSError as error:
        raise BackendError(
            f"{store}: an engine cannot be kept there: {error.strerror or error}; make room there, or name "
            "another folder in `tensorrt.store` or $ERCOHORT_ENGINES"
        ) from None


def _look(path: Path, key: EngineKey) -> StoredEngine | str:
    """Return the engine if plan and record are whole and of this key, or say what is wrong."""
    if not path.exists():
        return "is not there yet"
    try:
        record = read_json(path.with_suffix(".json"))
        if record["key"] != key.to_dict():
            return "has the record of another engine"
        if record["plan_sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
            return "is damaged"
    except (OSError, ValueError, KeyError, TypeError):
        return "has no record, or a damaged one"
    return StoredEngine(path, record)


def _build(
    path: Path, key: EngineKey, onnx: bytes, flavour: Flavour, gpu: Gpu, try_out: TryOut
) -> StoredEngine:
    """Build, try out and keep an engine; the record comes last, and without it a plan counts for nothing."""
    _make_current(gpu, flavour)
    timings_path = path.parent / f"{_slug(flavour.label)}-sm{gpu.capability}-{_slug(gpu.name)}.timings"
    begun = time.perf_counter()
    built = build_plan(
        onnx, key.profile, flavour, gpu.compute_capability, timings=_read_timings(timings_path)
    )
    seconds = time.perf_counter() - begun
    with atomic_path(path) as temporary:
        _write_through(temporary, built.plan)
        begun = time.perf_counter()
        tried = try_out(temporary, gpu, key.profile)
        tried["seconds"] = round(time.perf_counter() - begun, 3)
        path.with_suffix(".json").unlink(missing_ok=True)
    record = _record(key, built, gpu, seconds, tried)
    write_json(path.with_suffix(".json"), record)
    if built.timings:
        _write(timings_path, hashlib.sha256(built.timings).digest() + built.timings)
    LOGGER.info("%s: built in %.1f s", path, seconds)
    return StoredEngine(path, record)


def _record(
    key: EngineKey, built: BuiltPlan, gpu: Gpu, seconds: float, tried: dict[str, Any]
) -> dict[str, Any]:
    return {
        "key": key.to_dict(),
        "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
        "plan_bytes": len(built.plan),
        "inputs": built.inputs,
        "outputs": built.outputs,
        "target": built.target,
        "device": gpu.name,
        "driver": gpu.driver,
        "build_seconds": round(seconds, 3),
        "tried_out": tried,
        "warnings": built.warnings,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "ercohort": __version__,
    }


def _make_current(gpu: Gpu, flavour: Flavour) -> None:
    """TensorRT times kernels on the current device; TensorRT-RTX builds without one."""
    if flavour.is_rtx:
        return
    from cuda.bindings import runtime

    (status,) = runtime.cudaSetDevice(gpu.index)
    if status.value:
        raise BackendError(f"{gpu.name} cannot be used: {status.name}; run nvidia-smi to see what it does")


def _read_timings(path: Path) -> bytes:
    """Return a timing cache whose SHA-256 is in front of it; nothing if it is absent or damaged."""
    with suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return content[32:]
    return b""


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        _write_through(temporary, content)


def _write_through(path: Path, content: bytes) -> None:
    """Write to the disk itself: some file systems say only then that there is no room."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower()[:60]
