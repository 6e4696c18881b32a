"""Part 1: one large slide, from opening it to a validated QuPath file, against its floors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slides
from children import ROOT, do
from figures import Figure, Part
from sizes import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# `run_slide` names what it does; the pictures come after the file that the time is measured to.
STAGES = {
    "start": "model, imports", "tissue": "tissue mask", "tiles": "tile manifest, network loaded",
    "nuclei": "detection", "merge": "merge", "QuPath file": "GeoJSON, validated",
}  # fmt: skip
SEED_SECONDS = 60.0
FINISHED: dict[Path, dict[str, Any]] = {}
"""Runs of this version on all cores, by slide: no slide is run again for another part."""


def measure(size: Size) -> Part:
    """Run the workload, or a part of its area, and its floors."""
    slide, full = slides.planted(size.area), size.area == 1.0
    with tempfile.TemporaryDirectory() as folder:
        done = run(slide, Path(folder))
        floors = do("floors", slide=str(slide), out=folder)
    seconds, peaks = done["seconds"], done["peak_mb"]
    total = sum(seconds[name] for name in STAGES)
    targets = {"merge": 2.0, "QuPath file": 4.0} if full else {}
    figures = [
        Figure("open slide to validated GeoJSON", total, "s", SEED_SECONDS if full else None),
        *(Figure(f"  {text}", seconds[name], "s", targets.get(name)) for name, text in STAGES.items()),
        Figure("pictures, afterwards", seconds["pictures"], "s"),
        Figure("peak memory", max(peaks[name] for name in STAGES), "MB", 2000.0),
        *(Figure(f"  {text}", peaks[name], "MB") for name, text in STAGES.items()),
        Figure("floor: reading the tiles alone", floors["read"], "s"),
        Figure("floor: network alone", floors["network"], "s"),
        Figure("floor: writing the same bytes", floors["write"], "s"),
        Figure("slowest floor / wall", max(floors["read"], floors["network"], floors["write"]) / total, ""),
        Figure("nuclei found", done["row"]["n_nuclei"], ""),
        Figure("tiles", floors["n_tiles"], ""),
    ]
    remarks = [
        f"{slide.name}, {done['row']['backend']} {done['row']['precision']}; "
        + (
            "the whole workload"
            if full
            else f"1/{1 / size.area:.0f} of the workload's area; FULL=1 runs all of it"
        )
    ]
    return Part("Seed workload", figures, lambda axes: _draw(axes, seconds, floors), remarks)


def run(slide: Path, out: Path, source: Path = ROOT) -> dict[str, Any]:
    """Take the slide through `run_slide` of a source tree."""
    done = do("run_slide", source=source, slide=str(slide), out=str(out))
    if source == ROOT:
        FINISHED[slide] = done
    return done


def warm_up(source: Path = ROOT) -> None:
    """Take a small slide the whole way, so that no loop is compiled while time is taken."""
    with tempfile.TemporaryDirectory() as folder:
        run(slides.planted(1 / 1024), Path(folder), source)


def compare(other: Path, size: Size) -> tuple[list[Figure], dict[str, list[float]]]:
    """Run another source tree and this one in turn on the same slide.

    Returns
    -------
    figures
        Median over the pairs of this version's seconds over the other's, for every stage.
    ratios
        The ratio of every pair.
    """
    slide = slides.planted(size.area)
    warm_up(other)
    ratios: dict[str, list[float]] = {text: [] for text in ("all", *STAGES.values())}
    for _ in range(size.pairs):
        times = []
        for source in (other, ROOT):
            with tempfile.TemporaryDirectory() as folder:
                seconds = run(slide, Path(folder), source)["seconds"]
            times.append({"all": sum(seconds[name] for name in STAGES)} | {
                text: seconds[name] for name, text in STAGES.items()
            })  # fmt: skip
        for text in ratios:
            ratios[text].append(times[1][text] / times[0][text])
    middle = {text: sorted(values)[len(values) // 2] for text, values in ratios.items()}
    return [Figure(text, value, "x") for text, value in middle.items()], ratios


def measure_detection(size: Size) -> Part:
    """Time the detection stage against reading and network alone, on four kinds of slide.

    A TIFF of 40x has a level of 20x; an SVS of 40x has none, so that four times the pixels are decoded.
    """
    area = size.detection_area
    at_20x, at_40x = slides.planted(area), slides.planted(area, mpp=slides.MPP / 2)
    kinds = {
        "generic TIFF": at_20x,
        "SVS": slides.as_svs(at_20x, slides.MPP),
        "40x TIFF, its level of 20x": at_40x,
        "40x SVS, levels 1, 4, 16": slides.as_svs(at_40x, slides.MPP / 2),
    }
    figures = []
    for name, slide in kinds.items():
        times = do("detection", slide=str(slide), tiles=size.detection_tiles, repeat=size.repeat)
        figures += [
            Figure(f"{name}: stage / (reading + network)", times["overhead"], "x", 1.15),
            Figure("  stage", 1e3 * times["stage"], "ms/tile"),
            Figure("  network alone", 1e3 * times["network"], "ms/tile"),
            Figure("  reading alone", 1e3 * times["read"], "ms/tile"),
        ]
    return Part("Detection", figures, None, ["Each alone with all cores; added, since they share them."])


def _draw(axes: Axes, seconds: dict[str, float], floors: dict[str, Any]) -> None:
    names = {text: seconds[name] for name, text in STAGES.items()}
    alone = {"reading alone": floors["read"], "network alone": floors["network"]}
    left = 0.0
    for text, value in names.items():
        axes.barh(0, value, left=left, label=f"{text} {value:.1f} s")
        left += value
    for row, value in enumerate(alone.values(), start=1):
        axes.barh(row, value, color="0.7")
        axes.text(value, row, f" {value:.1f} s", va="center")
    axes.set_yticks(range(3), ["whole run", *alone])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
