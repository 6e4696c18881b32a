"""One round: kill something of a run at some moment, give the same command again, compare."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from base64 import urlsafe_b64decode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.folder import kill_group, left_over, make_cohort, results, run, start
from tests.faults.watcher import Watcher

TARGETS = ("snakemake", "job", "both", "group")
MOST_COMMANDS = 4


@dataclass(frozen=True)
class Round:
    """What one round did and found; `trouble` is empty where all is well."""

    target: str
    moment_s: float
    killed: str
    n_finished: int
    n_shards_finished: int
    n_made_after: int
    n_commands: int
    n_whole: int
    seconds: float
    trouble: tuple[str, ...]


def play(
    folder: Path,
    inputs: Path,
    expected: dict[str, str],
    target: str,
    moment_s: float,
    rng: random.Random,
    *arguments: str,
) -> Round:
    """Run a cohort, kill `target` after `moment_s` seconds, and run it until it ends well."""
    make_cohort(folder, inputs)
    begun = time.monotonic()
    trouble: list[str] = []
    first, log = folder / "first.log", folder / "again.log"
    with Watcher(folder / "results") as watcher:
        process = start(folder, first, *arguments)
        time.sleep(moment_s)
        killed = _kill(process, target, rng)
        if target == "job":  # Snakemake lives, and ends as it does
            process.wait(600)
        done = finished(folder)
        time.sleep(0.1)  # for the watcher to take in what was made before
        n_before, n_commands = len(watcher.seen), 1
        code = process.poll() if target == "job" else None
        while code != 0 and n_commands < MOST_COMMANDS:
            n_commands += 1
            code = run(folder, log, *arguments)
        kill_group(process)
        if code != 0:
            trouble.append(f"exit code {code} after {n_commands} commands: see {log}")
    made_after = [str(path.relative_to(folder)) for path in watcher.seen[n_before:]]
    if redone := done & set(made_after):
        trouble.append(f"made twice: {', '.join(sorted(redone))}")
    trouble += watcher.bad + left_over(folder)
    found = results(folder)
    trouble += [f"differs: {path}" for path in sorted(expected.keys() | found.keys())
                if expected.get(path) != found.get(path)]  # fmt: skip
    if (folder / ".snakemake/locks").is_dir() and any((folder / ".snakemake/locks").iterdir()):
        trouble.append("Snakemake's own lock is left")
    return Round(
        target, moment_s, killed, len(done), len([path for path in done if "/shards/" in path]) // 2,
        len(made_after), n_commands, len(watcher.seen), time.monotonic() - begun, tuple(trouble),
    )  # fmt: skip


def finished(folder: Path) -> set[str]:
    """Return the outputs that are there and that Snakemake has noted as complete."""
    markers = folder / ".snakemake/incomplete"
    unfinished = {
        urlsafe_b64decode("".join(part.lstrip("@") for part in path.relative_to(markers).parts)).decode()
        for path in markers.rglob("*")
        if path.is_file() and path.name != "migration_underway"
    }
    noted = folder / ".snakemake/metadata"
    names = {
        urlsafe_b64decode("".join(part.lstrip("@") for part in path.relative_to(noted).parts)).decode()
        for path in noted.rglob("*")
        if path.is_file()
    }
    return {name for name in names - unfinished if (folder / name).exists()}


def _kill(process: subprocess.Popen[bytes], target: str, rng: random.Random) -> str:
    """Kill it, and say what was killed."""
    jobs = _jobs(process)
    if target == "job":
        while not jobs and process.poll() is None:
            time.sleep(0.05)
            jobs = _jobs(process)
    names = []
    if target in ("snakemake", "both"):
        names.append("Snakemake" if process.poll() is None else "nothing")
        process.kill()
    if target in ("job", "both") and jobs:
        pid, name = rng.choice(jobs)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            names.append(name)
    if target == "group":
        names = ["Snakemake", *(name for _, name in jobs)] if process.poll() is None else ["nothing"]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if target != "job":
        process.wait()
    return " + ".join(names) or "nothing"


def _jobs(process: subprocess.Popen[bytes]) -> list[tuple[int, str]]:
    """Return the jobs that run, by process id and script."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                script = [part for part in child.cmdline() if "/.snakemake/scripts/" in part]
                if script and "python" in child.name():
                    found.append((child.pid, script[0].rpartition("/")[2].split(".", 1)[1]))
    return sorted(found)
