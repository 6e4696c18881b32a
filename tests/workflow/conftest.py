"""A folder in which the workflow runs as a user would run it, on a small simulated cohort."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml

from ercohort.simulate import simulate_slide

ROOT = Path(__file__).parents[2]
TEXT = "slide_id\tpath\tmpp\tblock\n"


@dataclass(frozen=True)
class Folder:
    """A working directory with a sheet and a config."""

    path: Path

    def write_sheet(self, *rows: tuple[str, ...]) -> None:
        text = TEXT + "".join("\t".join(row) + "\n" for row in rows)
        (self.path / "config/samples.tsv").write_text(text)

    def write_config(self, **values: object) -> None:
        values = {"model": str(ROOT / "models/er-yolov8n.onnx"), "precision": "f32", **values}
        (self.path / "config/config.yaml").write_text(yaml.safe_dump(values))

    def snakemake(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--cores", "2", "--resources", "gpu=1", *arguments]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def table(self) -> pl.DataFrame:
        return pl.read_csv(self.path / "results/cohort_er.csv")


def ran(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many jobs of each rule a run (or a dry run) announced."""
    lines = (result.stdout + result.stderr).splitlines()
    counts: dict[str, int] = {}
    for number, line in enumerate(lines):
        if line.startswith("job") and "count" in line:
            for row in lines[number + 2 :]:
                cells = row.split()
                if len(cells) != 2 or cells[0] == "total":
                    break
                counts[cells[0]] = int(cells[1])
            break
    return counts


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small simulated slides and a picture without tissue."""
    folder = tmp_path_factory.mktemp("slides")
    simulate_slide(folder / "one.tif", width=1500, height=1100, mpp=0.5, percent_positive=60, seed=1)
    simulate_slide(folder / "two.tif", width=1200, height=1300, mpp=0.5, percent_positive=0, seed=2)
    simulate_slide(
        folder / "glass.tif", width=1200, height=1200, mpp=0.5, percent_positive=0, seed=3, tissue=False
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "config").mkdir()
    made = Folder(tmp_path)
    made.write_config()
    return made
