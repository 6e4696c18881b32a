"""A cohort that runs in seconds, and what is compared of its results."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from PIL import Image

from tests.tiny_onnx import GOOD_METADATA, write_detector, write_marked_slide

ROOT = Path(__file__).parents[2]
SHARDS = 3
COMPARED = ("*.csv", "*.parquet", "*.zip", "*.png", "*.jpg", "*.tif")


def make_inputs(folder: Path) -> Path:
    """Write a flat picture that has to be converted, of four tiles with nuclei, and a tiny detector."""
    folder.mkdir(parents=True, exist_ok=True)
    write_detector(folder / "tiny.onnx", metadata={**GOOD_METADATA, "tile_px": "640"})
    write_marked_slide(folder / "marked.tif", [(5, 3, 0), (1, 0, 4), (2, 2, 2), (9, 0, 1)])
    with Image.open(folder / "marked.tif") as picture:
        picture.save(folder / "flat.png")
    return folder


def make_cohort(folder: Path, inputs: Path, slide: str = "flat.png") -> Path:
    """Make a working folder with one of these slides: every rule of a plain run has its job."""
    (folder / "config").mkdir(parents=True)
    (folder / "config/samples.tsv").write_text(f"slide_id\tpath\tmpp\none\t{inputs}/{slide}\t0.5\n")
    config = {"model": f"{inputs}/tiny.onnx", "precision": "f32"}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return folder


def command(*arguments: str) -> list[str]:
    """Return the user's command."""
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "8",
        "--resources", "gpu=0", "--set-scatter", f"shard={SHARDS}", *arguments,
    ]  # fmt: skip


def start(folder: Path, log: Path, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the user's command in a process group of its own: it can be killed as a whole."""
    environment = {**os.environ, "COLUMNS": "200"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [*before, *command(*arguments)],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=file,
            process_group=0,
        )


def run(folder: Path, log: Path, *arguments: str, timeout: float = 600, before: Sequence[str] = ()) -> int:
    """Run the user's command, after what else is to begin it, to its end."""
    process = start(folder, log, *arguments, before=before)
    try:
        return process.wait(timeout)
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with all that it started; nothing happens where it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def results(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every table, zip and picture, by path; not of how long the steps took."""
    found = sorted(path for pattern in COMPARED for path in (folder / "results").rglob(pattern))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.name != "timings.csv"
    }


def left_over(folder: Path) -> list[str]:
    """Return the temporary files that are left in the results."""
    return [str(path) for path in (folder / "results").rglob(".*") if ".tmp" in path.name]


def wait_for(condition, timeout: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true within {timeout:g} s"
        time.sleep(0.02)
