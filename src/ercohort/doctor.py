"""What this machine can do: `ercohort doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from ercohort import __version__
from ercohort.config import Config, load_config
from ercohort.errors import ErcohortError
from ercohort.model import read_model
from ercohort.preflight import backend_line
from ercohort.sheet import read_sheet

PACKAGES = ("snakemake", "openslide-python", "pyvips", "openvino", "numba", "numpy", "polars")


def examine(config_path: Path) -> Iterator[tuple[bool, str, str]]:
    """Yield what was looked at: whether it is well, its name, and what was seen."""
    yield True, "ercohort", __version__
    yield True, "Python", f"{platform.python_version()} on {platform.platform()}"
    yield _packages()
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    yield (
        memory.available > 2e9,
        "memory",
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
    )
    free = shutil.disk_usage(".").free
    yield free > 5e9, "disk", f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    yield True, "processors", f"{cores}"
    try:
        config = load_config(config_path)
    except ErcohortError as error:
        yield False, "config", str(error)
        return
    yield True, "config", str(config_path)
    for name, look in (
        ("sheet", lambda: f"{len(read_sheet(config.samples))} rows in {config.samples}"),
        ("model", lambda: _model(config.model)),
        ("GPU", lambda: _gpu(config)),
        ("backend", lambda: backend_line(config, read_model(config.model), gpu=1)),
    ):
        try:
            yield True, name, look()
        except ErcohortError as error:
            yield False, name, str(error)


def _packages() -> tuple[bool, str, str]:
    found, lost = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lost.append(name)
    if lost:
        return False, "packages", f"missing: {', '.join(lost)}; run `make setup`"
    return True, "packages", ", ".join(found)


def _gpu(config: Config) -> str:
    from ercohort.gpu.engine_store import store_folder
    from ercohort.gpu.flavour import find_flavour
    from ercohort.gpu.probe import find_devices, gpu_or_reason

    gpu = gpu_or_reason()
    if isinstance(gpu, str):
        return f"none: {gpu}"
    driver = f"driver of CUDA {gpu.driver // 1000}.{gpu.driver % 1000 // 10}"
    memory = f"{gpu.memory_bytes / 1e9:.1f} GB"
    seen = f"{gpu.name} ({len(find_devices())} of them), sm {gpu.capability}, {memory}, {driver}"
    return f"{seen}; {find_flavour().label}; engines in {store_folder(config.tensorrt)}"


def _model(path: str) -> str:
    model = read_model(path)
    return f"{model.name} {model.version}, {model.mpp} µm per pixel, sha256 {model.sha256[:12]}"
