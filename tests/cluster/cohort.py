"""A small cohort with every kind of row, and Snakemake in a folder of its own, here or on a cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ercohort.simulate import simulate_slide

ROOT = Path(__file__).parents[2]
HERE = ("--cores", "2", "--resources", "gpu=0", "--quiet", "rules")
# Beside the profile: no account and no accounting database here, and no minutes to wait between two looks.
SLURM = (
    "--workflow-profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2",
    "--max-status-checks-per-second", "1", "--latency-wait", "10", "--set-threads", "detect_shard=2",
)  # fmt: skip


def write_slides(folder: Path) -> None:
    """Write two slides with tissue and one without."""
    folder.mkdir()
    for seed, name in enumerate(("one", "two")):
        simulate_slide(
            folder / f"{name}.tif", width=3000, height=2500, mpp=0.5, percent_positive=50, seed=seed
        )
    simulate_slide(
        folder / "glass.tif", width=1200, height=1200, mpp=0.5, percent_positive=0, seed=3, tissue=False
    )


@dataclass
class Run:
    """A folder with a sheet and a config, in which Snakemake runs."""

    path: Path
    slides: Path
    names: tuple[str, ...] = ("one", "two", "glass", "gone")
    screen: Path = field(init=False)

    def __post_init__(self) -> None:
        files = {file.stem: file for file in self.slides.iterdir()}
        rows = [f"{name}\t{files.get(name, self.slides / 'gone.svs')}\n" for name in self.names]
        (self.path / "config").mkdir(parents=True)
        (self.path / "config/samples.tsv").write_text("slide_id\tpath\n" + "".join(rows))
        # The GPUs of the tests cannot compute: a job is given one, and uses the CPU.
        config = {"model": str(ROOT / "models/er-yolov8n.onnx"), "backend": "openvino", "precision": "f32"}
        (self.path / "config/config.yaml").write_text(yaml.safe_dump(config))
        (self.path / "profiles").symlink_to(ROOT / "profiles")
        self.screen = self.path / "screen.txt"

    def start(self, *arguments: str, python: str = sys.executable) -> subprocess.Popen[bytes]:
        """Start Snakemake; what it prints goes to `screen`."""
        command = [python, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
        with self.screen.open("wb") as screen:
            return subprocess.Popen(
                command,
                cwd=self.path,
                stdout=screen,
                stderr=screen,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes], seconds: float = 2000) -> tuple[int, str]:
        """Wait for Snakemake; return its exit status and what it printed."""
        try:
            code = process.wait(seconds)
        finally:
            kill(process)
        return code, self.screen.read_text()

    def table(self) -> str:
        """Return the cohort's table."""
        return (self.path / "results/cohort_er.csv").read_text()

    def detecting(self, name: str) -> bool:
        """Whether the first tiles of a slide have come back from the network."""
        log = self.path / f"results/logs/{name}/detect_1-of-1.log"
        return log.exists() and re.search(r"\d+ of \d+ tiles", log.read_text()) is not None


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a Snakemake and its local jobs; nothing happens where it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
