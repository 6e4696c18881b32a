"""Speed and memory of the detection stage on a GPU against its parts, measured in one run.

    make gpu-bench [BENCH="--slide SLIDE --threads 16 --json FILE"]

Without a slide, the workload of `make bench` is drawn first, 38,463 x 25,295 px with 1.86 million nuclei, or
a share of its area by `--area`. Each part runs on the same tiles, in turn, `--repeat` times; the fastest
counts, since other work on the machine only ever adds time.

    read      tiles are read and resampled by as many threads, and thrown away
    copy      tiles go from page-locked memory to the GPU
    engine    the network on full batches, on all streams
    stage     `detect_shard`: everything, seams included
    slide     the whole slide to its QuPath file, the engine being there

Where TensorRT does not work and torch does, torch runs the network, and `slide` is skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl
from detect import time_reading
from slides import planted

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ercohort import __version__
from ercohort.config import Config, DetectSettings, TensorRtSettings, TileSettings
from ercohort.detect import detect_shard
from ercohort.errors import BackendError
from ercohort.files import write_json
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.gpu.probe import gpu_or_reason
from ercohort.model import ModelInfo, read_model
from ercohort.slide import Slide, open_slide
from ercohort.tiles import make_tiles
from ercohort.tissue import find_tissue
from tests.gpu.engines import DEFAULT_MODEL, open_pipeline, with_half

GOALS = {"stage / slowest part": 1.25, "slide, s": 4.0, "device memory, GB": 1.45}
MIB = 2**20


def time_device(backend: PipelineBackend, n_batches: int, work: Callable[[Any], None]) -> float:
    """Seconds until all streams are through with `work` on so many batches, in turn."""
    backend._device.synchronize()
    begun = perf_counter()
    for index in range(n_batches):
        work(backend._lanes[index % len(backend._lanes)])
    backend._device.synchronize()
    return perf_counter() - begun


def time_copy(backend: PipelineBackend, n_batches: int) -> float:
    """Seconds to copy the tiles of so many batches."""
    images = [slot.image for slot in backend._slots[: backend._batch]]

    def copy(lane: Any) -> None:
        for row, image in enumerate(images):
            backend._device.copy(lane.addresses["images"] + row * image.nbytes, image, lane.stream)

    return time_device(backend, n_batches, copy)


def lay_tiles(slide: Slide, model: ModelInfo, settings: TileSettings) -> pl.DataFrame:
    """Return the tiles of the slide's tissue."""
    info = slide.info
    tissue = find_tissue(slide, Config().tissue)
    return make_tiles(
        width=info.width, height=info.height, bounds=info.bounds, slide_mpp=info.mpp, detector_mpp=model.mpp,
        settings=settings, mask=tissue.mask, downsample_x=tissue.downsample_x,
        downsample_y=tissue.downsample_y, n_shards=1,
    )  # fmt: skip


def measure(options: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    """Time the parts in turn; return the best of each, seconds."""
    model, tiling, detect = read_model(options.model), TileSettings(), DetectSettings()
    with open_slide(path, mpp=options.mpp) as slide:
        tiles = lay_tiles(slide, model, tiling)
        backend, library = open_pipeline(
            model, folder, tile_px=tiling.tile_px, detect=detect, threads=options.threads,
            batch=options.batch, streams=options.streams,
        )  # fmt: skip
        with backend:
            print(f"{backend.device}; the network runs by {library}; {options.threads} threads")
            n_batches = -(-len(tiles) // options.batch)
            common = {"settings": detect, "background": (255.0, 255.0, 255.0)}
            detect_shard(slide, tiles[: 4 * options.batch], tiles, backend, **common)
            times: dict[str, list[float]] = {"read": [], "copy": [], "engine": [], "stage": []}
            results = []
            for _ in range(options.repeat):
                times["read"].append(len(tiles) * time_reading(slide, tiles, tiling.tile_px, options.threads))
                times["copy"].append(time_copy(backend, n_batches))
                times["engine"].append(time_device(backend, n_batches, lambda lane: lane.run_network()))
                results.append(detect_shard(slide, tiles, tiles, backend, **common))
                times["stage"].append(results[-1].stats["seconds"])
            best = min(results, key=lambda result: result.stats["seconds"])
            memory = process_memory()
    return {
        "device": best.stats["device"],
        "library": library,
        "driver": getattr(gpu_or_reason(), "driver", None),
        "cpu_threads": options.threads,
        "cores": len(os.sched_getaffinity(0)),
        "version": __version__,
        "slide": {"width": slide.info.width, "height": slide.info.height, "mpp": slide.info.mpp},
        "n_tiles": len(tiles),
        "n_nuclei": len(best.table),
        "seconds": {name: min(values) for name, values in times.items()},
        "all_seconds": times,
        "process_memory_bytes": memory,
        "stats": best.stats,
    }


def process_memory() -> int | None:
    """Return the GPU memory of this process, its CUDA context included; None if nvidia-smi cannot tell."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
        used = dict(map(int, line.split(",")) for line in lines.splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return used[os.getpid()] * MIB if os.getpid() in used else None


def time_slide(options: argparse.Namespace, path: Path, folder: Path) -> float:
    """Seconds from the slide file to its QuPath file and pictures."""
    from ercohort.run import run_slide

    model = with_half(read_model(options.model), folder)
    config = Config(
        backend="tensorrt",
        model=model.path,
        tensorrt=TensorRtSettings(
            batch=options.batch, streams=options.streams, store=str(folder / "engines")
        ),
    )
    reported: dict[str, float] = {}

    def report(step: str, done: int, total: int) -> None:
        reported.setdefault(step, perf_counter())

    times = []
    for index in range(options.repeat):
        reported.clear()
        begun = perf_counter()
        run_slide(str(path), folder / f"run{index}", config, mpp=options.mpp, gpu=1, report=report)
        times.append(reported["pictures"] - begun)  # the QuPath file is written when the pictures begin
    return min(times)


def show(result: dict[str, Any]) -> None:
    """Print the figures, and the goals beside them."""
    n, seconds, stats = result["n_tiles"], result["seconds"], result["stats"]
    print(
        f"\n{n:,} tiles, {result['n_nuclei']:,} nuclei, "
        f"batches of {stats['batch']} on {stats['streams']} streams"
    )
    for name, value in seconds.items():
        print(f"{name:8} {value:8.2f} s   {1e3 * value / n:7.3f} ms/tile   {n / value:9.1f} tiles/s")
    slowest = max(("read", "copy", "engine"), key=seconds.__getitem__)
    memory = result["process_memory_bytes"] or stats["peak_device_bytes"]
    figures = {
        "stage / slowest part": (seconds["stage"] / seconds[slowest], f"slowest: {slowest}"),
        "slide, s": (seconds.get("slide"), ""),
        "device memory, GB": (
            memory / 1e9, "of the process" if result["process_memory_bytes"] else "without the CUDA context"
        ),
    }  # fmt: skip
    for name, (figure, note) in figures.items():
        if figure is None:
            print(f"{name:22} skipped")
        else:
            verdict = "met" if figure <= GOALS[name] else "missed"
            print(f"{name:22} {figure:6.2f}   goal {GOALS[name]}: {verdict} {note}")
    print(f"GPU busy for {100 * stats['busy_share']:.0f} % of the stage")
    print("share of the threads' time: " + ", ".join(f"{k} {v:.0%}" for k, v in stats["shares"].items()))
    print("on the device, s: " + ", ".join(f"{k} {v:.2f}" for k, v in stats["device_stages"].items()))


def bench(options: argparse.Namespace, folder: Path) -> None:
    """Measure, print, and write the figures as JSON."""
    path = options.slide
    if path is None:
        path = planted(options.area)
    result = measure(options, path, folder)
    if result["library"].startswith("torch"):
        print("skipped: the whole slide, which needs TensorRT")
    else:
        result["seconds"]["slide"] = time_slide(options, path, folder)
    show(result)
    target = options.json or Path(__file__).with_name(f"gpu-{slug(result['device'])}.json")
    write_json(target, result)
    print(f"written to {target}")


def slug(name: str) -> str:
    """Return a device's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument(
        "--area", type=float, default=1.0, help="of the workload's slide, where none is named"
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=TensorRtSettings().batch)
    parser.add_argument("--streams", type=int, default=TensorRtSettings().streams)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    reason = gpu_or_reason()
    if isinstance(reason, str):
        raise SystemExit(f"gpu-bench: nothing was measured: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench(options, Path(folder))
        except BackendError as error:
            raise SystemExit(f"gpu-bench: nothing was measured: {error}") from None


if __name__ == "__main__":
    main()
