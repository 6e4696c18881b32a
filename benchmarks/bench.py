"""One command that measures everything: `make bench`, `make bench FULL=1`, `make bench BASE=<revision>`.

Prints tables and writes `benchmarks/results.json` and `benchmarks/results.png`. With `--base` the seed
workload runs on another revision and on this one in turn, and the ratios are printed instead.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import first_run
import overhead
import peers
import precisions
import scaling
import seed_workload
from children import ROOT, ChildError, machine, revision
from figures import Part, draw, show, write_results
from rich.console import Console
from sizes import SIZES, Size

PARTS: dict[str, Callable[..., Part]] = {
    "seed": seed_workload.measure,
    "detection": seed_workload.measure_detection,
    "peers": peers.measure,
    "precision": precisions.measure,
    "scaling": scaling.measure,
    "overhead": overhead.measure,
    "demo": first_run.measure,
}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if left out")
    parser.add_argument("--size", choices=[*SIZES], default="part", help="how much is measured")
    parser.add_argument("--base", help="compare with this revision")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"{machine()}; revision {revision()}", highlight=False)
    try:
        seed_workload.warm_up()
        if options.base:
            compare(options.base, SIZES[options.size], console)
        else:
            measure(options.parts or list(PARTS), options.size, options.out, console)
    except ChildError as error:
        raise SystemExit(f"bench: {error}") from None


def measure(names: list[str], size: str, out: Path, console: Console) -> None:
    """Measure the parts, one after the other; what is measured is written even if a later part fails."""
    about = {
        "machine": machine(),
        "revision": revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": size,
    }
    parts = []
    for name in names:
        part = PARTS[name](SIZES[size])
        parts.append(part)
        show(part, console)
        write_results(out / "results.json", parts, about)
    draw(out / "results.png", parts, f"{about['machine']} · {about['revision']} · simulated slides")
    console.print(f"Written to {out / 'results.json'} and {out / 'results.png'}", highlight=False)


def compare(base: str, size: Size, console: Console) -> None:
    """Print this version's times over another's, pair by pair."""
    with worktree(base) as source:
        figures, ratios = seed_workload.compare(source, size)
    remarks = [f"{name}: {', '.join(f'{ratio:.3f}' for ratio in values)}" for name, values in ratios.items()]
    show(Part(f"This version's seconds over those of {base} (median)", figures, None, remarks), console)


@contextmanager
def worktree(base: str) -> Iterator[Path]:
    """Check another revision out beside this one, for as long as it is needed."""
    folder = Path(__file__).with_name(".base")
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--force", "--detach", str(folder), base], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
