"""Part 2: what a user would pick instead, on the same slide, with the same weights, on the same cores.

The tools live in an environment of their own, `benchmarks/.peers`, made on the first run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slides
from children import ROOT, ChildError, do, run_json
from figures import Figure, Part
from sizes import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

FOLDER = Path(__file__).with_name(".peers")
WORKER = Path(__file__).with_name("peer_worker.py")
# The constraints pin torch to a build without CUDA's gigabytes.
PACKAGES = ("sahi==0.12.8", "ultralytics", "torch", "torchvision", "onnxruntime")
RADIUS_UM = 3.0
"""A box counts a nucleus if their centres are no further apart; neighbours are 7.5 µm apart."""

LIMIT_S = 1800.0
OVERLAP = 64
PEERS: dict[str, tuple[str, dict[str, int]]] = {
    "SAHI + Ultralytics": ("sahi", {"max_det": 10_000, "overlap": OVERLAP}),
    "Ultralytics on crops, as it comes": ("ultralytics", {"max_det": 300, "overlap": 0}),
    "Ultralytics on overlapping crops, no limit": ("ultralytics", {"max_det": 10_000, "overlap": OVERLAP}),
}


def measure(size: Size) -> Part:
    """Run all tools on one slide that is tissue from edge to edge: none gains by skipping glass."""
    slide = slides.planted(size.peers_area, tissue_share=0.9)
    planted = read_boxes(slides.truth(slide))
    found: dict[str, dict[str, Any]] = {}
    remarks = [f"{slide.name}, {len(planted):,} planted nuclei; a nucleus is counted within {RADIUS_UM:g} µm"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tool, precision in {"ercohort": None, "ercohort, float32": "f32"}.items():
            found[tool] = _ours(slide, folder / tool, precision, planted)
        try:
            python = environment()
        except (OSError, subprocess.CalledProcessError) as error:
            remarks.append(f"peers not run, their packages could not be installed: {error}")
            python = None
        for tool, (kind, options) in PEERS.items() if python else ():
            try:
                found[tool] = _peer(python, kind, options, slide, folder / "boxes.npy", planted)
            except ChildError as error:
                remarks.append(f"{tool}: {error}")
    exact = do("oracle", slide=str(slide))
    figures = [
        Figure("planted nuclei lost by tiling, NMS and seams (oracle for network)", exact["lost"], "", 0),
        Figure("planted nuclei doubled by them", exact["doubled"], "", 0),
    ]
    for tool, one in found.items():
        figures += _figures(tool, one, found["ercohort"], len(planted))
    return Part("Peers", figures, lambda axes: _draw(axes, found), remarks)


def environment() -> Path:
    """Return the Python of the peers' environment; make it if it is not there."""
    python, stamp = FOLDER / "bin/python", FOLDER / ".installed"
    if not stamp.exists():
        print(f"installing {', '.join(PACKAGES)} into {FOLDER}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--constraint", str(ROOT / "constraints.txt"), *PACKAGES], check=True)
        stamp.touch()
    return python


def count(boxes: NDArray[Any], planted: NDArray[Any], radius: float) -> dict[str, int]:
    """Match boxes to planted nuclei one to one, by their centres.

    Returns
    -------
    `matched`, `lost` (planted, without a box), `doubled` (a box too many on a nucleus that has one) and
    `elsewhere` (a box where nothing was planted).
    """
    from scipy.spatial import KDTree

    from ercohort.matching import match_points

    centres = [(part[:, :2] + part[:, 2:]) / 2 for part in (boxes, planted)]
    pairs = match_points(*centres, radius, "greedy")
    rest = np.delete(centres[0], pairs.pred, axis=0)
    doubled = 0
    if len(pairs) and len(rest):
        doubled = int((KDTree(centres[1][pairs.truth]).query(rest)[0] <= radius).sum())
    return {
        "matched": len(pairs),
        "lost": len(planted) - len(pairs),
        "doubled": doubled,
        "elsewhere": len(rest) - doubled,
    }


def read_boxes(table: Path) -> NDArray[Any]:
    """Boxes (N, 4) of a table, level-0 pixels."""
    import polars as pl

    return pl.read_parquet(table).select("x0", "y0", "x1", "y1").to_numpy()


def pipeline_alone(slide: Path) -> dict[str, Any]:
    """Count what is lost or doubled with the planted nuclei in place of the network.

    Planted nuclei that overlap so much that no NMS could tell them apart are left out beforehand.
    """
    import polars as pl

    from ercohort.config import load_config
    from ercohort.detect import detect_shard
    from ercohort.merge import merge_shards
    from ercohort.nms import greedy_nms
    from ercohort.oracle import OracleBackend
    from ercohort.slide import open_slide
    from ercohort.tiles import make_tiles

    config = load_config(Path("config/config.yaml"))
    table, rng = pl.read_parquet(slides.truth(slide)), np.random.default_rng(0)
    table = table.with_columns(score=pl.Series(rng.uniform(0.5, 1.0, len(table)), dtype=pl.Float32))
    boxes = table.select("x0", "y0", "x1", "y1").to_numpy()
    table = table[greedy_nms(boxes, table["score"].to_numpy(), config.detect.nms_iou)]
    with (
        open_slide(slide) as pixels,
        OracleBackend(table, tile_px=config.tiles.tile_px, mpp=slides.MPP, detect=config.detect) as backend,
    ):
        info = pixels.info
        tiles = make_tiles(
            width=info.width, height=info.height, bounds=info.bounds, slide_mpp=info.mpp,
            detector_mpp=slides.MPP, settings=config.tiles, mask=np.ones((1, 1), bool),
            downsample_x=info.width, downsample_y=info.height, n_shards=1,
        )  # fmt: skip
        shard = detect_shard(
            pixels, tiles, tiles, backend, settings=config.detect, background=(255.0, 255.0, 255.0)
        )
    settings = config.detect
    nuclei = merge_shards([shard.table], scale=1.0, nms_iou=settings.nms_iou, seam_ios=settings.seam_ios)
    found, wanted = (_rounded(part.select("x0", "y0", "x1", "y1").to_numpy()) for part in (nuclei, table))
    return {"lost": len(wanted - found), "doubled": len(nuclei) - len(found), "planted": len(wanted)}


def _rounded(boxes: NDArray[Any]) -> set[tuple[int, ...]]:
    return set(map(tuple, np.rint(boxes * 4).astype(int).tolist()))


def _ours(slide: Path, out: Path, precision: str | None, planted: NDArray[Any]) -> dict[str, Any]:
    done = do("run_slide", slide=str(slide), out=str(out), precision=precision)
    stages = ("start", "tissue", "tiles", "nuclei", "merge")
    return {
        "seconds": sum(done["seconds"][name] for name in stages),
        "peak_mb": max(done["peak_mb"][name] for name in stages),
        **count(read_boxes(out / "nuclei.parquet"), planted, RADIUS_UM / slides.MPP),
    }


def _peer(
    python: Path, kind: str, options: dict[str, int], slide: Path, out: Path, planted: NDArray[Any]
) -> dict[str, Any]:
    from ercohort.config import load_config

    config = load_config(ROOT / "config/config.yaml")
    arguments = {
        "slide": str(slide), "out": str(out), "model": str(ROOT / config.model),
        "score": config.detect.score, "nms_iou": config.detect.nms_iou, **options,
    }  # fmt: skip
    done = run_json([str(python), str(WORKER), kind, json.dumps(arguments)], timeout=LIMIT_S)
    return {
        "seconds": done["seconds"],
        "peak_mb": done["peak_mb"],
        **count(np.load(out), planted, RADIUS_UM / slides.MPP),
    }


def _figures(tool: str, one: dict[str, Any], ours: dict[str, Any], n_planted: int) -> list[Figure]:
    figures = [Figure(f"{tool}: time", one["seconds"], "s")]
    if not tool.startswith("ercohort"):
        target = 5.0 if tool.startswith("SAHI") else None
        figures.append(Figure("  time / ercohort's", one["seconds"] / ours["seconds"], "x", at_least=target))
    return [
        *figures,
        Figure("  peak memory", one["peak_mb"], "MB"),
        Figure("  planted nuclei counted", 100 * one["matched"] / n_planted, "%"),
        Figure("  planted nuclei lost", one["lost"], ""),
        Figure("  counted twice", one["doubled"], ""),
        Figure("  counted where none was planted", one["elsewhere"], ""),
    ]


def _draw(axes: Axes, found: dict[str, dict[str, Any]]) -> None:
    for row, (tool, one) in enumerate(found.items()):
        axes.barh(row, one["seconds"], color="C0" if tool.startswith("ercohort") else "0.7")
        text = f" {one['seconds']:.1f} s, lost {one['lost']:,}, twice {one['doubled']:,}"
        axes.text(one["seconds"], row, text, va="center", fontsize=8)
    axes.set_yticks(range(len(found)), [tool.replace(", ", ",\n") for tool in found], fontsize=8)
    axes.set_xlim(0, 1.6 * max(one["seconds"] for one in found.values()))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
