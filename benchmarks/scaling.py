"""Part 5: time and memory against size; an exponent of 1 is linear."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slides
from children import do, exponent
from figures import Figure, Part, number
from seed_workload import FINISHED, STAGES, run
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
    figures += [*_wider(size.area), *_threads(size.peers_area)]
    remarks = ["The exponents are those of the two largest sizes: below, starting up is most of it."]
    return Part("Scaling", figures, lambda axes: _draw(axes, series), remarks)


def _slides(largest: float) -> Series:
    points: Series = {}
    for area in (largest / 16, largest / 4, largest):
        done = _run(slides.planted(area))
        points[_megapixels(area)] = (sum(done["seconds"][name] for name in STAGES), _peak_mb(done))
    return points


def _wider(area: float) -> list[Figure]:
    """Compare a slide's memory with that of one of a 16th of its area and as many nuclei."""
    times = 16
    dense = _run(slides.planted(area / times))
    sparse = _run(slides.planted(area, nuclei_per_mm2=slides.NUCLEI_PER_MM2 / times))
    name = f"{number(_megapixels(area))} Mpx with the nuclei of {number(_megapixels(area / times))} Mpx"
    return [
        Figure(f"slide, {name}: peak memory", _peak_mb(sparse), "MB"),
        Figure("  nuclei found", sparse["row"]["n_nuclei"], ""),
        Figure("  nuclei found on the smaller slide", dense["row"]["n_nuclei"], ""),
        Figure("  peak memory / that of the smaller slide", _peak_mb(sparse) / _peak_mb(dense), "x", 1.1),
        *(
            Figure(f"  the same, {text}", sparse["peak_mb"][stage] / dense["peak_mb"][stage], "x")
            for stage, text in STAGES.items()
        ),
    ]


def _run(slide: Path, cores: int | None = None) -> dict[str, Any]:
    if cores is None and slide in FINISHED:
        return FINISHED[slide]
    with tempfile.TemporaryDirectory() as folder:
        if cores is None:
            return run(slide, Path(folder))
        return do("run_slide", cores=cores, slide=str(slide), out=folder)


def _peak_mb(done: dict[str, Any]) -> float:
    return max(done["peak_mb"][name] for name in STAGES)


def _megapixels(area: float) -> float:
    return slides.WIDTH * slides.HEIGHT * area / 1e6


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
    if len(os.sched_getaffinity(0)) < 2:
        return []
    slide = slides.planted(area)
    runs = {cores: _run(slide, cores) for cores in (1, 2)}
    figures = []
    for cores, done in runs.items():
        figures.append(
            Figure(f"detection, {cores} thread{'s' * (cores > 1)}", done["seconds"]["nuclei"], "s")
        )
        figures.append(Figure("  peak memory", done["peak_mb"]["nuclei"], "MB"))
    share = runs[1]["seconds"]["nuclei"] / runs[2]["seconds"]["nuclei"]
    return [*figures, Figure("  1 thread / 2 threads", share, "x")]


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
