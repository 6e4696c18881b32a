"""What every job takes of memory beside what its rule asks for, and a run that gets no more: `make memory`.

A simulated cohort runs twice: as it likes, and in a control group that ends what takes more than the limit.
Both have to give the same table. The figures are those of Snakemake's own benchmark files (`max_rss` of a job
and its children, looked at every few seconds, so jobs of seconds are seen at their start).
"""

from __future__ import annotations

import csv
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import yaml
from children import ROOT, machine, revision
from rich.console import Console
from rich.table import Table

from ercohort.simulate import simulate_slide

CONTROL = Path("/sys/fs/cgroup")
ENGINE_MB = 500
"""What `engine_mb` in common.smk answers for the CPU."""

MARGIN = 0.75
"""A job may take this share of what its rule asks for."""


def main(
    limit_mb: Annotated[
        int, typer.Option(help="Memory of the second run, all its processes together.")
    ] = 3000,
    width: Annotated[
        int, typer.Option(help="Of the larger slide, pixels; its height is three quarters.")
    ] = 12000,
    slide: Annotated[Path | None, typer.Option(help="A slide of your own in its place.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to work in, kept; else a temporary one.")] = None,
) -> None:
    """Measure every job, then run under a limit."""
    console = Console()
    console.print(f"Memory of the jobs on {machine()}, revision {revision()}")
    with tempfile.TemporaryDirectory(prefix="ercohort-memory-") as temporary:
        folder = (keep or Path(temporary)).absolute()
        slides = draw(folder, width, slide)
        free = run(folder / "free", slides, [])
        limited_folder = folder / "limited"
        with limited(limit_mb) as (enter, how, peak_mb):
            run(limited_folder, slides, ["mem_mb=" + str(limit_mb)], enter)
            peak = peak_mb()
        same = (limited_folder / "results/cohort_er.csv").read_bytes() == free
        good = show(folder / "free", console)
    console.print(f"Under {how} of {limit_mb} MB: {'the same table' if same else 'ANOTHER TABLE'}{peak}.")
    raise typer.Exit(0 if same and good else 1)


def draw(folder: Path, width: int, slide: Path | None) -> dict[str, Path]:
    """Draw a slide, a smaller one, and a flat picture that has to be converted."""
    import pyvips

    folder.mkdir(parents=True, exist_ok=True)
    slides = {"big": (slide or folder / "big.tiff").absolute(), "small": folder / "small.tiff"}
    if not slides["big"].exists():
        simulate_slide(
            slides["big"],
            width=width,
            height=width * 3 // 4,
            percent_positive=40,
            nuclei_per_mm2=2000.0,
            seed=1,
        )
    simulate_slide(slides["small"], width=3000, height=2200, percent_positive=40, seed=2)
    slides["flat"] = folder / "flat.png"
    pyvips.Image.new_from_file(str(slides["small"])).pngsave(str(slides["flat"]), compression=1)
    return {**slides, "gone": folder / "gone.svs"}


def run(
    folder: Path, slides: dict[str, Path], resources: list[str], enter: Callable[[], None] | None = None
) -> bytes:
    """Run the workflow on two cores without a GPU; return the table.

    Parameters
    ----------
    enter
        Called in Snakemake's process before it starts: it goes into the control group there.
    """
    (folder / "config").mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{name}\t{path}\t0.5\n" for name, path in slides.items())
    (folder / "config/samples.tsv").write_text("slide_id\tpath\tmpp\n" + rows)
    (folder / "config/config.yaml").write_text(
        yaml.safe_dump({"model": str(ROOT / "models/er-yolov8n.onnx")})
    )
    done = snakemake(folder, ["--cores", "2", "--resources", "gpu=0", *resources], enter)
    if done.returncode:
        raise SystemExit(f"{folder}: the run failed:\n{done.stderr[-2000:]}")
    return (folder / "results/cohort_er.csv").read_bytes()


def snakemake(
    folder: Path, arguments: list[str], enter: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a working directory."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, preexec_fn=enter)


@contextmanager
def limited(limit_mb: int) -> Iterator[tuple[Callable[[], None], str, Callable[[], str]]]:
    """Make a control group of so much memory; without the right to, limit the address space of each process.

    Yields
    ------
    What a process calls to come under the limit, the name of the limit, and what says how near it came.
    """
    for parent, name, peak in (
        (CONTROL / "memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
        (CONTROL, "memory.max", "memory.peak"),
    ):
        group = parent / f"ercohort-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit_mb * 1_000_000))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        try:
            yield (
                lambda group=group: (group / "cgroup.procs").write_text(str(os.getpid())) and None,
                "a control group",
                lambda group=group, peak=peak: _peak(group, peak),
            )
        finally:
            group.rmdir()
        return
    # Address space, which libraries reserve and never use, for each process alone: another, weaker limit.
    space = (limit_mb * 1_000_000,) * 2
    yield lambda: resource.setrlimit(resource.RLIMIT_AS, space), "an address space", lambda: ""


def _peak(group: Path, name: str) -> str:
    killed = re.search(r"oom_kill (\d+)", "".join(
        file.read_text() for file in (group / "memory.oom_control", group / "memory.events") if file.exists()
    ))  # fmt: skip
    taken = int((group / name).read_text()) / 1e6 if (group / name).exists() else float("nan")
    return (
        f"; at most {taken:,.0f} MB, files in the cache included; {killed[1] if killed else '?'} jobs killed"
    )


def show(folder: Path, console: Console) -> bool:
    """Print the most that a job of each rule took; False if one took more than its share."""
    table = Table("Rule", "Took, MB", "mem_mb", "Share", box=None)
    good, asked = True, requests()
    for rule, took in sorted(measured(folder).items()):
        share = took / asked[rule]
        good &= share <= MARGIN
        table.add_row(
            rule,
            f"{took:.0f}",
            f"{asked[rule]}",
            f"{100 * share:.0f} %",
            style="" if share <= MARGIN else "red",
        )
    console.print(table)
    return good


def measured(folder: Path) -> dict[str, float]:
    """Peak memory by rule, MB, of Snakemake's benchmark files."""
    took: dict[str, float] = {}
    for path in (folder / "results/benchmarks").rglob("*.tsv"):
        rule = "detect_shard" if path.stem.startswith("detect_") else path.stem
        with path.open(newline="") as file:
            values = [row["max_rss"] for row in csv.DictReader(file, delimiter="\t")]
        took[rule] = max(
            [took.get(rule, 0.0), *(float(value) * 2**20 / 1e6 for value in values if value[0].isdigit())]
        )
    return took


def requests() -> dict[str, int]:
    """Return the mem_mb that each rule asks for without a GPU."""
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    found = re.findall(r"^rule (\w+):((?:(?!^rule ).)*)", text, re.MULTILINE | re.DOTALL)
    asked = {rule: re.search(r"mem_mb=(?:reader_mb\()?(\w+)", body) for rule, body in found}
    return {rule: ENGINE_MB if mb[1] == "engine_mb" else int(mb[1]) for rule, mb in asked.items() if mb}


if __name__ == "__main__":
    typer.run(main)
