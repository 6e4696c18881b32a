"""A cohort of a thousand slides with bad ones among them: `make thousand`, or any number with --slides.

Draws tiny simulated slides, runs the workflow over them as a lab would, and checks the table against what was
put on disk. Asked for by name, since it takes as long as a thousand slides take.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Annotated

import polars as pl
import psutil
import typer
import yaml
from children import ROOT, machine, revision
from figures import Figure, Part, show
from rich.console import Console
from rich.progress import Progress, track

from ercohort.simulate import simulate_slide

BAD_EVERY = 50
BAD = ("missing", "cut off", "empty", "text", "glass")
STATUS = {
    "good": "ok", "missing": "missing", "cut off": "unreadable", "empty": "unreadable",
    "text": "unreadable", "glass": "no_tissue",
}  # fmt: skip
MAIN_PROCESS_MB = 1000.0
ERCOHORT = Path(sys.executable).with_name("ercohort")


@dataclass(frozen=True)
class Planned:
    """One row of the sheet: its id and what was put where it points to."""

    slide_id: str
    kind: str


def main(
    slides: Annotated[int, typer.Option(help="Rows of the sheet.")] = 1000,
    recheck: Annotated[int, typer.Option(help="One slide in so many is run again by hand.")] = 100,
    keep: Annotated[Path | None, typer.Option(help="Folder to work in, kept; else a temporary one.")] = None,
) -> None:
    """Run a cohort of simulated slides, 2 % of them bad, and check its table."""
    console = Console()
    console.print(f"{slides:,} simulated slides on {machine()}, revision {revision()}")
    with tempfile.TemporaryDirectory(prefix="ercohort-thousand-") as temporary:
        folder = (keep or Path(temporary)).absolute()
        part = measure(folder, slides, recheck)
    show(part, console)
    if any(figure.reached is False for figure in part.figures):
        raise typer.Exit(1)


def measure(folder: Path, n: int, recheck: int) -> Part:
    """Draw, run, check, change; all figures with what they have to be."""
    planned = draw(folder, n + 1)
    sheet(folder, planned[:n])
    dry, _ = snakemake(folder, "--dry-run")
    begun = perf_counter()
    memory = watched_run(folder, n)
    run_s = perf_counter() - begun
    table = pl.read_csv(folder / "results/cohort_er.csv", infer_schema=False)
    wrong = wrong_rows(folder, table, planned[:n])
    by_hand = differing(folder, planned[:n], recheck)
    nothing, said = snakemake(folder, "--dry-run")
    if "Nothing to be done" not in said:
        wrong.append("a second run would not say that there is nothing to do")
    sheet(folder, planned)
    plan, said = snakemake(folder, "--dry-run")
    one_more, _ = snakemake(folder)
    rows = pl.read_csv(folder / "results/cohort_er.csv", infer_schema=False).height
    wrong += [] if rows == n + 1 else [f"{rows} rows after a slide was added to {n}"]
    figures = [
        Figure("dry run before anything is done", dry, "s", 10.0 if n == 1000 else None),
        Figure("run to the table", run_s, "s"),
        Figure("  per slide", run_s / n, "s"),
        Figure("main process, memory at a quarter of the run", memory[len(memory) // 4], "MB"),
        Figure("  at its end", memory[-1], "MB"),
        Figure("  most", max(memory), "MB", MAIN_PROCESS_MB),
        Figure("rows that are not what was put on disk", len(wrong), "", 0.0),
        Figure(f"slides run again by hand, one in {recheck}", by_hand[0], ""),
        Figure("  whose nuclei or row differ", by_hand[1], "", 0.0),
        Figure("second run, nothing to do", nothing, "s", 10.0 if n == 1000 else None),
        Figure("plan after one slide was added", plan, "s", 10.0 if n == 1000 else None),
        Figure("run of that slide and the table", one_more, "s"),
    ]
    counts = ", ".join(f"{count:,} {status}" for status, count in Counter(table["status"]).most_common())
    return Part("A cohort of simulated slides", figures, remarks=[counts, *wrong[:10]])


def draw(folder: Path, n: int) -> list[Planned]:
    """Draw the slides, the last one good, and spoil the bad ones; what lies there already is kept."""
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    planned = [
        Planned(f"s{number:05d}", BAD[number // BAD_EVERY % len(BAD)] if number % BAD_EVERY == 7 else "good")
        for number in range(n - 1)
    ] + [Planned(f"s{n - 1:05d}", "good")]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(draw_one, folder, number, row) for number, row in enumerate(planned)]
        for job in track(jobs, "drawing slides"):
            job.result()
    return planned


def draw_one(folder: Path, number: int, row: Planned) -> None:
    """Draw one slide, or what stands in its place."""
    path = folder / f"slides/{row.slide_id}.tiff"
    if path.exists() or row.kind == "missing":
        return
    if row.kind in ("empty", "text"):
        path.write_text("This file has the name of a slide.\n" * (row.kind == "text"))
        return
    simulate_slide(
        path, width=700, height=500, percent_positive=float(number % 101), seed=number, threads=1,
        tissue=row.kind != "glass",
    )  # fmt: skip
    if row.kind == "cut off":
        os.truncate(path, path.stat().st_size * 6 // 10)


def sheet(folder: Path, planned: list[Planned]) -> None:
    """Write the sheet and the config of a working directory."""
    (folder / "config").mkdir(exist_ok=True)
    rows = "".join(f"{row.slide_id}\tslides/{row.slide_id}.tiff\n" for row in planned)
    (folder / "config/samples.tsv").write_text("slide_id\tpath\n" + rows)
    settings = {"model": str(ROOT / "models/er-yolov8n.onnx")}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))


def command(*arguments: str) -> list[str]:
    """Snakemake as a lab would call it, on a machine without a GPU."""
    cores = str(len(os.sched_getaffinity(0)))
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", cores,
        "--resources", "gpu=0", *arguments,
    ]  # fmt: skip


def snakemake(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run Snakemake; seconds, and what it said."""
    begun = perf_counter()
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"snakemake ended with {done.returncode}:\n" + done.stdout[-3000:])
    return seconds, done.stdout


def watched_run(folder: Path, n: int) -> list[float]:
    """Run the cohort with a progress bar; returns the memory of the main process, MB, a value a second."""
    memory: list[float] = []
    ended = Event()
    with (folder / "run.log").open("w") as log:
        process = subprocess.Popen(command(), cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        main_process = psutil.Process(process.pid)

        def watch() -> None:
            with Progress() as progress:
                task = progress.add_task("running the cohort", total=n)
                while not ended.wait(1.0):
                    try:
                        memory.append(main_process.memory_info().rss / 1e6)
                    except psutil.Error:
                        return
                    progress.update(task, completed=len(list(folder.glob("results/slides/*/heatmap.png"))))

        watcher = Thread(target=watch)
        watcher.start()
        code = process.wait()
        ended.set()
        watcher.join()
    if code:
        raise SystemExit(f"snakemake ended with {code}: {folder / 'run.log'}")
    return memory


def expected(folder: Path, row: Planned) -> str:
    """Status that a slide must have; on one this small the simulator may find no place for a tumour."""
    truth = folder / f"slides/{row.slide_id}.truth.parquet"
    if row.kind == "good" and pl.scan_parquet(truth).select(pl.len()).collect().item() == 0:
        return "no_nuclei"
    return STATUS[row.kind]


def wrong_rows(folder: Path, table: pl.DataFrame, planned: list[Planned]) -> list[str]:
    """Compare the table with what was put on disk; one line for every row that is not so."""
    found = dict(zip(table["slide_id"], table["status"], strict=True))
    lines = [
        f"{row.slide_id} ({row.kind}): {found.get(row.slide_id, 'no row')}"
        for row in planned
        if found.get(row.slide_id) != expected(folder, row)
    ]
    if table["slide_id"].to_list() != [row.slide_id for row in planned]:
        lines.append("the rows are not those of the sheet, in its order")
    return lines


def differing(folder: Path, planned: list[Planned], every: int) -> tuple[int, int]:
    """Run one slide in `every` by hand; how many, and how many differ from the cohort's."""
    chosen = [row for row in planned if row.kind == "good"][::every]
    different = 0
    for row in track(chosen, "the same by hand"):
        out = folder / "by-hand" / row.slide_id
        by_hand = ["run", f"slides/{row.slide_id}.tiff", "--out", str(out), "--gpu", "0"]
        subprocess.run([ERCOHORT, *by_hand], cwd=folder, check=True, capture_output=True)
        cohort = folder / "results/slides" / row.slide_id
        same = (out / "nuclei.parquet").read_bytes() == (cohort / "nuclei.parquet").read_bytes()
        same &= counted(out) == counted(cohort)
        different += not same
    shutil.rmtree(folder / "by-hand", ignore_errors=True)
    return len(chosen), different


def counted(folder: Path) -> dict[str, object]:
    """Return a slide's row without what the time or the machine decides."""
    row = json.loads((folder / "summary.json").read_text())["row"]
    return {name: value for name, value in row.items() if name != "seconds"}


if __name__ == "__main__":
    typer.run(main)
