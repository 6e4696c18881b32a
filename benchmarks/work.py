"""What the measured processes do: `python work.py TASK ARGUMENTS` prints its result as one JSON object.

Every task is given the arguments by name and returns what JSON can hold.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any


def peak_mb() -> float:
    """Most memory that this process held since it started, or since `forget_peak`, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def forget_peak() -> None:
    """Start to look for the peak again (Linux: proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


class Stages:
    """Seconds and peak memory of consecutive stages, told by `run_slide`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self._name, self._begun = "start", perf_counter()

    def __call__(self, name: str, done: int = 0, total: int = 0) -> None:
        """End the stage before, if this is another one."""
        if name == self._name:
            return
        now = perf_counter()
        self.seconds[self._name], self.peak_mb[self._name] = now - self._begun, peak_mb()
        self._name, self._begun = name, now
        forget_peak()


def run_slide(slide: str, out: str, precision: str | None = None) -> dict[str, Any]:
    """Take a slide from its file to its pictures, as `ercohort run` does."""
    from ercohort.config import load_config
    from ercohort.files import read_json
    from ercohort.run import run_slide as run

    config = load_config(Path("config/config.yaml"))
    if precision is not None:
        config = config.model_copy(update={"precision": precision})
    stages = Stages()
    made = run(slide, Path(out), config, mpp=None, gpu=0, report=stages)
    stages("end")
    if made.row["status"] != "ok":
        raise SystemExit(f"{slide}: {made.row['status']}: {made.row['message']}")
    summary = read_json(made.folder / "summary.json")
    return {
        "seconds": stages.seconds,
        "peak_mb": stages.peak_mb,
        "row": made.row,
        "shards": summary["shards"],
    }


def floors(slide: str, out: str, precision: str | None = None) -> dict[str, Any]:
    """Measure what no run can beat: reading the tiles, the network, writing the same bytes.

    Seconds for the tiles of a finished run in the folder `out`, each with all cores to itself.
    """
    import polars as pl
    from detect import NetworkAlone, time_network, time_reading

    from ercohort.backends import choose_backend
    from ercohort.config import load_config
    from ercohort.model import read_model
    from ercohort.slide import open_slide

    config = load_config(Path("config/config.yaml"))
    tiles, threads = pl.read_parquet(Path(out, "tiles.parquet")), len(os.sched_getaffinity(0))
    model = read_model(config.model)
    precision = choose_backend("openvino", 0, precision=precision or config.precision, model=model).precision
    side = config.tiles.tile_px
    with open_slide(slide) as pixels:
        read = time_reading(pixels, tiles, side, threads) * len(tiles)
    options = {"tile_px": side, "detect": config.detect, "threads": threads, "precision": precision}
    with NetworkAlone(model, **options) as backend:
        time_network(backend, 8)
        network = time_network(backend, len(tiles)) * len(tiles)
    content = Path(out, "nuclei.geojson.zip").read_bytes()
    begun = perf_counter()
    copy = Path(out, "bytes.tmp")
    with copy.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    write = perf_counter() - begun
    copy.unlink()
    return {"read": read, "network": network, "write": write, "n_tiles": len(tiles), "precision": precision}


def load_network(path: str) -> dict[str, float]:
    """Time in seconds how a job loads the network: compiled anew, and as the engine step kept it (`path`)."""
    from ercohort.backends.openvino import OpenVinoBackend, compile_ahead, inspect_cpu
    from ercohort.config import load_config
    from ercohort.model import read_model

    config = load_config(Path("config/config.yaml"))
    model = read_model(config.model)
    side, precision = config.tiles.tile_px, inspect_cpu(config.precision, model).precision
    options = {"tile_px": side, "detect": config.detect, "threads": 1, "precision": precision}
    kept = compile_ahead(model, tile_px=side, precision=precision, path=Path(path))
    seconds = {}
    for name, compiled in {"compiled anew": None, "kept": kept}.items():
        begun = perf_counter()
        OpenVinoBackend(model, **options, compiled=compiled).close()
        seconds[name] = perf_counter() - begun
    return seconds


def detection(slide: str, tiles: int, repeat: int, precision: str = "auto") -> dict[str, Any]:
    """Time the detection stage and its parts, in turn, on the same tiles."""
    from detect import measure

    threads = len(os.sched_getaffinity(0))
    times = measure(Path(slide), n_tiles=tiles, threads=threads, precision=precision, repeat=repeat)
    return {
        "network": times.network, "read": times.read, "stage": times.stage, "overhead": times.overhead,
        "n_tiles": times.n_tiles,
    }  # fmt: skip


def compare_precisions(slide: str, repeat: int) -> dict[str, Any]:
    """Run float32, bf16 and int8 on the same tiles."""
    from precisions import compare

    return compare(Path(slide), repeat)


def on_fields(precision: str, data: str, out: str) -> dict[str, Any]:
    """Count the annotated nuclei that one precision finds."""
    import precisions

    return precisions.on_fields(precision, Path(data), Path(out))


def oracle(slide: str) -> dict[str, Any]:
    """Count what tiling, NMS and seams lose or double, with the planted nuclei in place of the network."""
    from peers import pipeline_alone

    return pipeline_alone(Path(slide))


def merge(n: int) -> dict[str, Any]:
    """Merge `n` boxes in eight shards, seams open; the second of two times counts."""
    from merge import time_merge

    return {"seconds": time_merge("eight", n), "peak_mb": peak_mb()}


def make_nuclei(n: int, folder: str) -> dict[str, Any]:
    """Write a table of `n` nuclei for the two tasks below."""
    import geojson

    geojson.make_nuclei(Path(folder, "nuclei.parquet"), n)
    return {}


def write_geojson(folder: str) -> dict[str, Any]:
    """Write the QuPath file."""
    import geojson

    return {"seconds": _timed(geojson.write, Path(folder)), "peak_mb": peak_mb()}


def validate_geojson(folder: str) -> dict[str, Any]:
    """Read the QuPath file as QuPath would."""
    import geojson

    return {"seconds": _timed(geojson.validate, Path(folder)), "peak_mb": peak_mb()}


def simulate(path: str, **arguments: Any) -> dict[str, Any]:
    """Draw a slide."""
    from ercohort.simulate import simulate_slide

    made = simulate_slide(path, threads=len(os.sched_getaffinity(0)), **arguments)
    return {"n_planted": made.n_positive + made.n_negative, "peak_mb": peak_mb()}


def write_svs(slide: str, path: str, mpp: float) -> dict[str, Any]:
    """Write a simulated slide again as Aperio's scanners would: tiles of 240 px, levels 1, 4 and 16."""
    import pyvips
    import tifffile

    from ercohort.files import atomic_path

    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as svs:
        for page in (0, 2, 4):
            image = pyvips.Image.tiffload(slide, page=page)
            size = f"{image.width}x{image.height} (240x240) JPEG/RGB Q=85"
            facts = f"|AppMag = {10 / mpp:g}|MPP = {mpp:g}" if page == 0 else ""
            svs.write(
                _squares(image, 240), shape=(image.height, image.width, 3), dtype="uint8", tile=(240, 240),
                photometric="rgb", compression="jpeg", compressionargs={"level": 85}, subsampling=(2, 2),
                description=f"Aperio Image Library v12\r\n{size}{facts}", subfiletype=int(page > 0),
                metadata=None,
            )  # fmt: skip
    return {}


def _squares(image: Any, side: int) -> Iterator[Any]:
    """Cut a picture, row by row, into squares; what hangs over its edge is its edge again."""
    import numpy as np

    for y in range(0, image.height, side):
        height = min(side, image.height - y)
        strip = image.crop(0, y, image.width, height).numpy()
        strip = np.pad(strip, ((0, side - height), (0, -image.width % side), (0, 0)), mode="edge")
        for x in range(0, image.width, side):
            yield np.ascontiguousarray(strip[:, x : x + side])


def _timed(job: Any, *arguments: Any) -> float:
    begun = perf_counter()
    job(*arguments)
    return perf_counter() - begun


TASKS = (
    run_slide, floors, load_network, detection, compare_precisions, on_fields, oracle, merge, make_nuclei,
    write_geojson, validate_geojson, simulate, write_svs,
)  # fmt: skip

if __name__ == "__main__":
    name, given = sys.argv[1:]
    task = {task.__name__: task for task in TASKS}[name]
    print(json.dumps(task(**json.loads(given))))
