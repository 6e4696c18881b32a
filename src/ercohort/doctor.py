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
from ercohort.backends import choose_backend
from ercohort.config import load_config
from ercohort.errors import ErcohortError
from ercohort.model import read_model
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
        ("backend", lambda: choose_backend(config.backend, 1, precision=config.precision).reason),
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


def _model(path: str) -> str:
    model = read_model(path)
    return f"{model.name} {model.version}, {model.mpp} µm per pixel, sha256 {model.sha256[:12]}"
