"""Kill a run at random moments, many times: `make chaos` prints the table of docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.folder import make_cohort, make_inputs, results, run
from tests.faults.killing import TARGETS, play

HEAD = (
    "| seed | killed | after s | finished before | made after | commands | files seen whole | s | trouble |"
)


def main() -> int:
    """Play the rounds; return 1 if any of them found trouble."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=36)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ercohort-chaos-"))
    inputs = make_inputs(folder / "inputs")
    lasted, expected = _undisturbed(folder, inputs)
    print(f"undisturbed: {lasted:.0f} s, {len(expected)} files compared; everything is in {folder}\n")
    print(HEAD, "|".join(["", *["---"] * 9, ""]), sep="\n", flush=True)
    n_bad = n_killed = 0
    for number in range(given.rounds):
        seed = given.seed + number
        rng = random.Random(seed)
        # Moments are spread evenly: one from each part of the run, in shuffled order.
        share = (number * 7 % given.rounds + rng.random()) / given.rounds
        threads = 2 if number // len(TARGETS) % 2 else 8  # shards side by side, or one after the other
        made = play(
            folder / f"round-{seed}", inputs, expected, TARGETS[number % len(TARGETS)], share * lasted, rng,
            "--set-threads", f"detect_shard={threads}",
        )  # fmt: skip
        print(
            f"| {seed} | {made.killed} | {made.moment_s:.1f} | {made.n_finished} files, "
            f"{made.n_shards_finished} shards | {made.n_made_after} files | {made.n_commands} "
            f"| {made.n_whole} | {made.seconds:.0f} | {'; '.join(made.trouble) or 'none'} |",
            flush=True,
        )
        n_bad += bool(made.trouble)
        n_killed += made.killed != "nothing"
        if not made.trouble:
            shutil.rmtree(folder / f"round-{seed}")
    print(f"\n{given.rounds} rounds, {n_killed} killed while something ran, {n_bad} with trouble")
    if not n_bad:
        shutil.rmtree(folder)
    return int(n_bad > 0)


def _undisturbed(folder: Path, inputs: Path) -> tuple[float, dict[str, str]]:
    """Run the cohort twice, the first time for caches; return how long it took and what it made."""
    for name in ("first", "undisturbed"):
        begun = time.monotonic()
        made = make_cohort(folder / name, inputs)
        assert run(made, folder / f"{name}.log") == 0, folder / f"{name}.log"
    return time.monotonic() - begun, results(folder / "undisturbed")


if __name__ == "__main__":
    sys.exit(main())
