"""Part 7: `make demo` in a fresh clone, as a newcomer types it, on a machine that has the packages."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
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
        clone, packages = Path(name, "ercohort"), Path(name, "packages")
        _clone(clone)
        environment = clean_environment()
        fetch(packages, environment)
        # What pip finds there it does not fetch, and it can fetch nothing else.
        environment |= {"PIP_FIND_LINKS": str(packages), "PIP_NO_INDEX": "1"}
        cores = str(len(os.sched_getaffinity(0)))
        make = ["make", f"CORES={cores}", f"PYTHON={base_python()}"]
        setup = _run([*make, "setup"], clone, environment)
        run = _run([*make, "demo"], clone, environment)
        if not (clone / "results/cohort_er.csv").exists():
            raise ChildError("`make demo` wrote no table")
    return Part(
        "Demo",
        [
            Figure("make demo in a fresh clone", setup + run, "s", TARGET_S),
            Figure("  environment set up", setup, "s"),
            Figure("  simulated cohort drawn and run", run, "s"),
        ],
        None,
        [f"clone of {revision().rstrip('+')}, {cores} cores; packages on disk, nothing compiled"],
    )


def fetch(packages: Path, environment: dict[str, str]) -> None:
    """Have all packages on this disk, those that come as sources built, and what builds ercohort itself."""
    clone = packages.with_name("to-fetch")
    _clone(clone)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    needed = [".", *tomllib.loads((clone / "pyproject.toml").read_text())["build-system"]["requires"]]
    _run([*pip, "--constraint", "constraints.txt", "--wheel-dir", str(packages), *needed], clone, environment)


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


def _clone(folder: Path) -> None:
    _run(["git", "clone", "--quiet", str(ROOT), str(folder)], ROOT, dict(os.environ))


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command; return its seconds."""
    begun = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildError(f"{' '.join(command)}: " + "\n".join((done.stdout + done.stderr).splitlines()[-8:]))
    return perf_counter() - begun
