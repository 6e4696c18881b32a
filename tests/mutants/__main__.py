"""`make mutants`: every damaged slide through the workflow's steps, and a table of what became of them."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ercohort.simulate import simulate_slide
from tests import slides
from tests.mutants import job, make

ALLOWED = {"ok", "partial", "no_tissue", "no_nuclei", "missing", "unreadable", "no_mpp"}
"""What a damaged slide may end as; `failed` is for what nobody foresaw."""

NUMBERS = ("seconds", "cpu_seconds", "megabytes")

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "slides"
REAL_SLIDES = {"CMU-1-Small-Region.svs": "real SVS", "test3-TRITC-2-560.ndpi": "real NDPI"}


def all_mutants(folder: Path) -> Iterator[make.Mutant]:
    """Write the sound slides to `folder`, and yield what is made of them."""
    # In a fork: this process must not hold threads of the libraries when it forks the steps.
    assert job.measured(partial(_write_sound, folder))[0] == 0
    classic = folder / "classic.tif"
    for name, label in REAL_SLIDES.items():
        if (REAL / name).exists():
            yield from make.of_tiff(REAL / name, label)
        else:
            print(f"{label}: {REAL / name} is not here; left out")
    yield from make.of_tiff(classic, "simulated TIFF")
    yield from make.of_names(classic)
    yield from make.of_no_slide(classic)
    for suffix in (".png", ".jpg", ".bmp"):
        yield from make.of_pictures(folder / f"picture{suffix}")


def _write_sound(folder: Path) -> None:
    import pyvips
    from PIL import Image

    simulated = folder / "simulated.tif"
    simulate_slide(simulated, width=1500, height=1100, mpp=0.5, percent_positive=60, seed=1)
    pyvips.Image.new_from_file(str(simulated)).tiffsave(
        str(folder / "classic.tif"), tile=True, pyramid=True, compression="jpeg", Q=85,
        tile_width=256, tile_height=256,
    )  # fmt: skip
    picture = Image.fromarray(slides.stained_field(700, 600))
    for suffix in (".png", ".jpg", ".bmp"):
        picture.save(folder / f"picture{suffix}")


def examine(mutant: make.Mutant, *, work: Path) -> dict[str, Any]:
    """Take one mutant through the steps, in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        (folder / "input").mkdir()
        (folder / "out").mkdir()
        log = os.open(folder / "out/log", os.O_CREAT | os.O_WRONLY)
        screen = os.dup(2)
        os.dup2(log, 2)
        try:
            path = mutant.write(folder / "input")
            result = job.take_through(path, mutant.mpp, shared=work, folder=folder / "out")
            found = asdict(result)
        except job.StepDiedError as error:
            found = {"status": "NO ROW", "message": str(error), "died": (), **dict.fromkeys(NUMBERS, 0.0)}
        finally:
            os.dup2(screen, 2)
            os.close(log)
            os.close(screen)
        return {"kind": mutant.kind, "name": mutant.name, **found}


def main() -> int:
    """Run all, print the table; 1 if any ended as it should not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only those whose kind or name holds this")
    parser.add_argument("--every", type=int, default=1, help="only every so manyth")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for every result, one a line")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        job.write_engine(work)
        chosen = [m for m in all_mutants(work) if asked.only in f"{m.kind} {m.name}"][:: asked.every]
        examine_all = _many(chosen, work, asked.jobs)
        results = []
        for found in examine_all:
            results.append(found)
            if asked.json:
                with asked.json.open("a") as file:
                    file.write(json.dumps(found) + "\n")
            odd = found["status"] == "no_tissue" and "NDPI" not in found["name"]
            if found["status"] not in ALLOWED or found["died"] or found["seconds"] > 60 or odd:
                print(f"{found['kind']}, {found['name']}: {found['status']} in {found['seconds']:.1f} s")
                print(f"    {', '.join(found['died'])} {found['message'][-1500:]}", flush=True)
    _print_table(results)
    bad = [found for found in results if found["status"] not in ALLOWED]
    print(f"{len(results)} mutants, {len(bad)} of them without a proper end")
    return int(bool(bad))


def _many(chosen: list[make.Mutant], work: Path, jobs: int) -> Iterator[dict[str, Any]]:
    global _chosen
    _chosen = chosen
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(partial(_examine_number, work=work), range(len(chosen)))


_chosen: list[make.Mutant] = []


def _examine_number(number: int, *, work: Path) -> dict[str, Any]:
    return examine(_chosen[number], work=work)


def _print_table(results: list[dict[str, Any]]) -> None:
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for found in results:
        kinds[found["kind"]].append(found)
    print("| kind | mutants | ended as | jobs that died | longest step, s | its CPU, s | its memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for kind, those in kinds.items():
        counts = Counter(found["status"] for found in those)
        ended = ", ".join(f"{status} {n}" for status, n in sorted(counts.items()))
        died = sum(len(found["died"]) for found in those)
        most = " | ".join(f"{max(found[name] for found in those):.0f}" for name in NUMBERS)
        print(f"| {kind} | {len(those)} | {ended} | {died} | {most} |")


if __name__ == "__main__":
    sys.exit(main())
