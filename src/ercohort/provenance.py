"""`run.json`: what a person needs to know to trace a row of the table, or to make it again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ercohort import __version__
from ercohort.checksums import checksum

GPU_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13")
"""Packages that decide results and are no requirement of ercohort's own."""

_GIT_SECONDS = 20


def utc_now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_run(
    *,
    summaries: Sequence[Mapping[str, Any]],
    engine: Mapping[str, Any],
    config: Mapping[str, Any],
    workflow: Path,
) -> dict[str, Any]:
    """Describe how the slides of a table were made.

    Parameters
    ----------
    summaries
        `summary.json` of every slide.
    engine
        `engine.json`.
    config
        All settings, as used.
    workflow
        A folder of the workflow; its git state is looked up.

    Returns
    -------
    What JSON can hold. `started` is when the first of these slides was begun, in this run or in one that
    was interrupted; `ended` is now.
    """
    shards = [shard for summary in summaries for shard in summary["shards"]]
    return {
        "notice": "Research use only.",
        "started": min((shard["started"] for shard in shards if shard.get("started")), default=None),
        "ended": utc_now(),
        "ercohort": __version__,
        "git": git_state(workflow),
        "python": platform.python_version(),
        "packages": dict(packages()),
        "host": describe_host(),
        "devices": describe_devices(summaries),
        "model": dict(engine["model"]),
        "slides": {
            "n": len(summaries),
            "by_status": _count(summaries, "status"),
            "by_version": _count(summaries, "version"),
            "by_model": _count(summaries, "model"),
        },
        "sheet": _sheet(str(config["samples"])),
        "config": dict(config),
    }


def packages() -> Iterator[tuple[str, str]]:
    """Yield name and version of what ercohort needs to run, and of what runs the GPU, where installed."""
    needed = [text for text in importlib.metadata.requires("ercohort") or [] if "extra ==" not in text]
    names = [re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0] for text in needed]
    for name in [*sorted(names), "cuda-bindings", "nvidia-cuda-nvrtc", *GPU_PACKAGES]:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def describe_host() -> dict[str, Any]:
    """Describe the machine that wrote the table; the jobs may have run on others (`describe_devices`)."""
    import psutil

    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }


def describe_devices(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Name every host, device, backend and precision that detected nuclei, with the number of slides."""
    names = ("host", "device", "backend", "precision")
    found: Counter[tuple[str | None, ...]] = Counter()
    for summary in summaries:
        found.update({tuple(s.get(name) for name in names) for s in summary["shards"] if s.get("device")})
    return [
        {**dict(zip(names, device, strict=True)), "slides": n} for device, n in sorted(found.items(), key=str)
    ]


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the revision of the repository that holds a folder, and the tracked files that differ from it.

    Returns
    -------
    `revision`, `dirty` and `changed` (at most 50 names); None without git or outside of a repository.
    """
    try:
        revision = _git(folder, "rev-parse", "--verify", "HEAD").strip()
        status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    changed = [line[3:] for line in status.splitlines()]
    return {"revision": revision, "dirty": bool(changed), "changed": changed[:50]}


def _git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    # A clone that a laboratory shares belongs to somebody else, which git asks about; its code runs already.
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, check=True, timeout=_GIT_SECONDS, text=True
    )
    return done.stdout


def _count(summaries: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    counted = Counter(str(summary["row"].get(column) or "none") for summary in summaries)
    return dict(sorted(counted.items()))


def _sheet(path: str) -> dict[str, Any]:
    found = Path(path)
    return {"path": path, "sha256": checksum(found).sha256 if found.is_file() else None}
