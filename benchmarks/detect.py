"""Speed of the detection stage against its parts, measured in one run; prints the figures and checks nothing.

    python benchmarks/detect.py [--slide SLIDE] [--model ONNX] [--tiles 200] [--threads 2] [--precision auto]

Without a slide, a simulated one is written first. Each part runs on the same tiles, in turn, `--repeat`
times, the network half before and half after the stage. Of the times the fastest counts, since other work on
the machine only ever adds to them; of the ratios the median of the rounds.

    network   filled slots go round and round: no reading, no decoding of the head
    read      tiles are read and resampled by as many threads, and thrown away
    stage     `detect_shard`: everything, seams included
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import polars as pl

from ercohort.backends import choose_backend
from ercohort.backends.openvino import OpenVinoBackend
from ercohort.backends.protocol import Slot
from ercohort.backends.slots import Found
from ercohort.config import DetectSettings, TileSettings
from ercohort.detect import ShardResult, detect_shard
from ercohort.model import read_model
from ercohort.simulate import simulate_slide
from ercohort.slide import Slide, open_slide
from ercohort.tiles import make_tiles

MODEL = Path("models/er-yolov8n.onnx")
NOTHING: Found = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8))


class NetworkAlone(OpenVinoBackend):
    """Throws away what the network says."""

    def _collect(self, slot: Slot) -> Found:
        return NOTHING


def time_network(backend: OpenVinoBackend, n: int) -> float:
    """Seconds per tile with every slot filled."""
    noise = np.random.default_rng(0).integers(0, 256, (backend.tile_px, backend.tile_px, 3), np.uint8)
    backend.begin((backend.tile_px, backend.tile_px))
    slots = [slot for _ in range(backend.n_slots) if (slot := backend.acquire()) is not None]
    for slot in slots:
        slot.image[:] = noise
    begun = perf_counter()
    for slot in slots:
        backend.submit(slot)
    for index in range(n):
        found = backend.take()
        assert found is not None
        if index < n - len(slots):
            backend.submit(found.slot)
        else:
            backend.release(found.slot)
    seconds = perf_counter() - begun
    backend.finish()
    return seconds / n


def time_reading(slide: Slide, tiles: pl.DataFrame, tile_px: int, threads: int) -> float:
    """Seconds per tile."""

    def read(row: tuple[int, ...]) -> None:
        slide.read(*row, size=(tile_px, tile_px))

    begun = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, tiles.select("x", "y", "width", "height").iter_rows()))
    return (perf_counter() - begun) / len(tiles)


def lay_tiles(slide: Slide, mpp: float, n: int) -> pl.DataFrame:
    """Return the `n` tiles in the middle of the slide's grid."""
    info = slide.info
    tiles = make_tiles(
        width=info.width, height=info.height, bounds=info.bounds, slide_mpp=info.mpp, detector_mpp=mpp,
        settings=TileSettings(), mask=np.ones((1, 1), bool), downsample_x=info.width,
        downsample_y=info.height, n_shards=1,
    )  # fmt: skip
    return tiles.slice(max(0, (len(tiles) - n) // 2), n)


@dataclass(frozen=True)
class Times:
    """Least seconds per tile of the parts and of the whole, and what the last whole gave.

    `overhead` is the median of the rounds' ratios of the whole to the sum of the parts.
    """

    network: float
    read: float
    stage: float
    overhead: float
    n_tiles: int
    result: ShardResult


def measure(
    path: Path,
    *,
    n_tiles: int,
    threads: int,
    precision: str,
    repeat: int,
    mpp: float | None = None,
    model: Path = MODEL,
    score: float = DetectSettings().score,
) -> Times:
    """Time the parts in turn and keep the best of each."""
    detector = read_model(model)
    choice = choose_backend("openvino", precision=precision, model=detector)
    settings = DetectSettings(score=score)
    common = {"tile_px": 640, "detect": settings, "threads": threads}
    with (
        open_slide(path, mpp=mpp) as slide,
        NetworkAlone(detector, **common, precision=choice.precision) as alone,
        choice.open(detector, **common) as backend,
    ):
        tiles = lay_tiles(slide, detector.mpp, n_tiles)
        detect_shard(slide, tiles[:4], tiles, backend, settings=settings, background=(255, 255, 255))
        network, read, stage = [], [], []
        half = max(len(tiles) // 2, alone.n_slots)
        for _ in range(repeat):
            before = time_network(alone, half)
            read.append(time_reading(slide, tiles, 640, threads))
            result = detect_shard(slide, tiles, tiles, backend, settings=settings, background=(255, 255, 255))
            stage.append(result.stats["seconds"] / len(tiles))
            network.append((before + time_network(alone, half)) / 2)
    overhead = median(whole / (a + b) for a, b, whole in zip(network, read, stage, strict=True))
    return Times(min(network), min(read), min(stage), overhead, len(tiles), result)


def report(times: Times, threads: int) -> None:
    """Print the figures."""
    stats, network, read, stage = times.result.stats, times.network, times.read, times.stage
    print(f"{stats['device']}, {stats['precision']}, {threads} threads, {stats['n_tiles']} tiles of 640 px")
    print(f"network alone   {network * 1e3:7.2f} ms/tile")
    print(f"reading alone   {read * 1e3:7.2f} ms/tile")
    print(f"whole stage     {stage * 1e3:7.2f} ms/tile   {1 / stage:.1f} tiles/s")
    print(f"stage / network {stage / network:7.2f}        stage / sum of both {times.overhead:.2f}")
    shares = "  ".join(
        f"{name} {value / stats['n_tiles'] * 1e3:.2f}" for name, value in stats["stages"].items()
    )
    print(f"ms/tile, summed over threads where there are many: {shares}")
    print(f"{len(times.result.table):,} nuclei, {len(stats['failed'])} tiles failed")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--score", type=float, default=DetectSettings().score)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.slide or Path(folder) / "simulated.tiff"
        if options.slide is None:
            simulate_slide(path, width=10240, height=10240, mpp=0.5, percent_positive=60.0, seed=1)
        times = measure(
            path, n_tiles=options.tiles, threads=options.threads, precision=options.precision,
            repeat=options.repeat, mpp=options.mpp, model=options.model, score=options.score,
        )  # fmt: skip
    report(times, options.threads)


if __name__ == "__main__":
    main()
