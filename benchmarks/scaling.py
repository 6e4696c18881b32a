"""Part 3: time and memory against size; an exponent of 1 is linear."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import slides
from children import do, exponent
from figures import Figure, Part, number
from seed_workload import STAGES
from sizes import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[float, tuple[float, float]]
"""Size to seconds and peak MB."""


def measure(size: Size) -> Part:
    """Grow the slide, the number of boxes, the QuPath file and the number of threads."""
    series = {
        "slide": _slides(size.area),
        "merge": _merges(size.merged),
        **_files(size.exported),
    }
    units = {"slide": "Mpx"}
    figures = []
    for name, points in series.items():
        for at, (seconds, peak) in points.items():
            figures.append(Figure(f"{name}, {number(at)} {units.get(name, 'nuclei')}", seconds, "s"))
            figures.append(Figure("  peak memory", peak, "MB"))
        sizes = sorted(points)[-2:]  # below that, starting up is most of the time
        figures.append(Figure("  exponent of the time", exponent(sizes, [points[s][0] for s in sizes]), ""))
        figures.append(Figure("  exponent of the memory", exponent(sizes, [points[s][1] for s in sizes]), ""))
    return Part("Scaling", figures + _threads(size.peers_area), lambda axes: _draw(axes, series))


def _slides(largest: float) -> Series:
    points: Series = {}
    for area in (largest / 16, largest / 4, largest):
        slide = slides.planted(area)
        with tempfile.TemporaryDirectory() as folder:
            done = do("run_slide", slide=str(slide), out=folder)
        seconds = sum(done["seconds"][name] for name in STAGES)
        peak = max(done["peak_mb"][name] for name in STAGES)
        points[slides.WIDTH * slides.HEIGHT * area / 1e6] = (seconds, peak)
    return points


def _merges(sizes: tuple[int, ...]) -> Series:
    points: Series = {}
    for n in sizes:
        done = do("merge", n=n)
        points[n] = (done["seconds"], done["peak_mb"])
    return points


def _files(sizes: tuple[int, ...]) -> dict[str, Series]:
    written: Series = {}
    read: Series = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            do("make_nuclei", n=n, folder=folder)
            for points, task in ((written, "write_geojson"), (read, "validate_geojson")):
                done = do(task, folder=folder)
                points[n] = (done["seconds"], done["peak_mb"])
    return {"GeoJSON written": written, "GeoJSON validated": read}


def _threads(area: float) -> list[Figure]:
    slide, seconds = slides.planted(area), {}
    for cores in (1, 2):
        if cores > len(os.sched_getaffinity(0)):
            return []
        with tempfile.TemporaryDirectory() as folder:
            done = do("run_slide", cores=cores, slide=str(slide), out=str(Path(folder)))
        seconds[cores] = done["seconds"]["nuclei"]
    return [
        *(Figure(f"detection, {cores} threads", value, "s") for cores, value in seconds.items()),
        Figure("  1 thread / 2 threads", seconds[1] / seconds[2], "x"),
    ]


def _draw(axes: Axes, series: dict[str, Series]) -> None:
    for name, points in series.items():
        if name == "slide":
            continue
        axes.loglog(list(points), [seconds for seconds, _ in points.values()], "o-", label=name)
    # Nuclei of a slide, so that all lines share an axis.
    per_mpx = slides.NUCLEI_PER_MM2 * slides.TISSUE_SHARE * slides.MPP**2
    slide = series["slide"]
    nuclei = [size * per_mpx for size in slide]
    axes.loglog(nuclei, [seconds for seconds, _ in slide.values()], "o-", label="whole slide")
    axes.set_xlabel("nuclei")
    axes.set_ylabel("seconds")
    axes.legend(fontsize=8, frameon=False)
