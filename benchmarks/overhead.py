"""Part 6: what the workflow adds to the work: dry runs, runs with nothing to do, seconds per slide."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import yaml
from children import ROOT, ChildError, do
from figures import Figure, Part
from sizes import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW, MORE = 2, 8


def measure(size: Size) -> Part:
    """Time Snakemake on sheets of up to 1,000 slides, and on a few slides that it really runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = folder / "tiny.tiff"
        do("simulate", path=str(slide), width=900, height=700, percent_positive=40.0, seed=1)
        dry = {n: _seconds(_folder(folder / f"dry-{n}", slide, n), "--dry-run") for n in size.sheets}
        runs = {}
        for n in (FEW, MORE):
            runs[n] = _seconds(_folder(folder / f"run-{n}", slide, n))
        nothing = {}
        for n in size.sheets:
            made = _finished(folder / f"done-{n}", folder / f"run-{FEW}", slide, n)
            nothing[n] = _seconds(made, saying="Nothing to be done")
        work = do("run_slide", slide=str(slide), out=str(folder / "by-hand"))["seconds"]
        load = do("load_network", path=str(folder / "engine.openvino"))
    per_slide = (runs[MORE] - runs[FEW]) / (MORE - FEW)
    by_hand = sum(work.values()) - work["start"] - load["compiled anew"]
    figures = [
        *(_sheet("dry run", n, seconds) for n, seconds in dry.items()),
        *(_sheet("run with nothing to do", n, seconds) for n, seconds in nothing.items()),
        Figure("one more tiny slide in a run", per_slide, "s"),
        Figure("the same slide by hand, in a process that runs already and has the network", by_hand, "s"),
        Figure("loading the network: compiled anew", load["compiled anew"], "s"),
        Figure("  as the engine step kept it", load["kept"], "s"),
        Figure("overhead of the workflow per slide", per_slide - by_hand, "s", 2.0),
    ]
    return Part("Workflow overhead", figures, lambda axes: _draw(axes, dry, nothing))


def _sheet(what: str, n: int, seconds: float) -> Figure:
    return Figure(f"{what}, {n:,} slides", seconds, "s", 10.0 if n == 1000 else None)


def _folder(path: Path, slide: Path, n: int) -> Path:
    """Make a working directory whose sheet names the same slide `n` times."""
    (path / "config").mkdir(parents=True)
    rows = "".join(f"s{number:04d}\t{slide}\n" for number in range(n))
    (path / "config/samples.tsv").write_text("slide_id\tpath\n" + rows)
    settings = {"model": str(ROOT / "models/er-yolov8n.onnx")}
    (path / "config/config.yaml").write_text(yaml.safe_dump(settings))
    return path


def _finished(path: Path, done: Path, slide: Path, n: int) -> Path:
    """Make a working directory in which all is done: one slide's files under every name."""
    _folder(path, slide, n)
    but_slides = shutil.ignore_patterns("slides", "logs", "benchmarks")
    shutil.copytree(done / "results", path / "results", ignore=but_slides, dirs_exist_ok=True)
    for number in range(n):
        shutil.copytree(done / "results/slides/s0000", path / f"results/slides/s{number:04d}")
    _seconds(path, "--touch")
    return path


def _seconds(folder: Path, *arguments: str, saying: str = "") -> float:
    """Run Snakemake in a folder; it has to say so much."""
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores",
        str(len(os.sched_getaffinity(0))), "--resources", "gpu=0", *arguments,
    ]  # fmt: skip
    begun = perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = perf_counter() - begun
    if done.returncode or saying not in done.stdout + done.stderr:
        raise ChildError("\n".join(done.stderr.splitlines()[-8:]))
    return seconds


def _draw(axes: Axes, dry: dict[int, float], nothing: dict[int, float]) -> None:
    axes.loglog(list(dry), list(dry.values()), "o-", label="dry run")
    axes.loglog(list(nothing), list(nothing.values()), "o-", label="nothing to do")
    axes.axhline(10.0, color="0.7", linestyle=":")
    axes.set_xlabel("slides in the sheet")
    axes.set_ylabel("seconds")
    axes.legend(fontsize=8, frameon=False)
