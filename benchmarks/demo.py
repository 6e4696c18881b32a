"""Part 7: `make demo` in a fresh clone, as a newcomer types it, on a machine that has the packages."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from children import ROOT, ChildError, revision
from figures import Figure, Part
from sizes import Size

TARGET_S = 120.0


def measure(size: Size) -> Part:
    """Time the set-up and the run apart; only once, in the whole benchmark."""
    if not size.once:
        return Part("Demo", [], None, ["`make demo` in a fresh clone is measured by FULL=1 alone"])
    with tempfile.TemporaryDirectory() as name:
        clone, log = Path(name, "ercohort"), Path(name, "pip.log")
        _run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(name), {})
        environment = clean_environment() | {"PIP_LOG": str(log)}
        cores = str(len(os.sched_getaffinity(0)))
        make = ["make", f"CORES={cores}", f"PYTHON={base_python()}"]
        setup = _run([*make, "setup"], clone, environment)
        run = _run([*make, "demo"], clone, environment)
        if not (clone / "results/cohort_er.csv").exists():
            raise ChildError("`make demo` wrote no table")
        downloaded = n_downloaded(log.read_text())
    return Part(
        "Demo",
        [
            Figure("make demo in a fresh clone", setup + run, "s", TARGET_S),
            Figure("  environment set up", setup, "s"),
            Figure("  simulated cohort drawn and run", run, "s"),
            Figure("packages that pip had to download", downloaded, ""),
        ],
        None,
        [f"clone of {revision().rstrip('+')}, {cores} cores, nothing compiled before"],
    )


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what belongs to its own Python."""
    own = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "NUMBA_CACHE_DIR"}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    inside = Path(sys.prefix) / "bin"
    folders = [folder for folder in kept["PATH"].split(os.pathsep) if Path(folder) != inside]
    return kept | {"PATH": os.pathsep.join(folders)}


def base_python() -> str:
    """Name the Python that this environment was made from."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


def n_downloaded(log: str) -> int:
    """Count the files that pip fetched, by its log."""
    return sum(line.split(maxsplit=1)[-1].lstrip().startswith("Downloading ") for line in log.splitlines())


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command; return its seconds."""
    begun = perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment or None, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChildError(f"{' '.join(command)}: " + "\n".join((done.stdout + done.stderr).splitlines()[-8:]))
    return perf_counter() - begun
