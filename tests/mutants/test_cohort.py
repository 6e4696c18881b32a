"""Bad slides through the workflow itself: each is a row, whatever it does to the process that reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests import slides
from tests.faulty_reader import faulty_environment
from tests.tiny_onnx import TISSUE, write_detector

ROOT = Path(__file__).parents[2]
FAULT_AT = (900, 100)
"""In the window of one tile, away from where the tissue step looks."""

pytestmark = pytest.mark.slow


def write_tissue(path: Path) -> Path:
    """Write a small slide of plain tissue, 2 x 2 tiles."""
    picture = slides.glass(1100, 1100)
    picture[100:1000, 100:1000] = TISSUE
    picture[104:996:2, 104:996] -= 30
    return slides.write_pyramid(path, picture)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory):
    """A run over slides that crash their reader, hang it or cannot be read, beside a sound one."""
    folder = tmp_path_factory.mktemp("cohort")
    inputs = folder / "in put's"
    inputs.mkdir()
    write_tissue(inputs / "sound.tif")
    shutil.copy(inputs / "sound.tif", inputs / "crash.tif")
    for suffix in ("tif", "png"):
        os.mkfifo(inputs / f"pipe.{suffix}")
    (inputs / "loop.tif").symlink_to("loop.tif")
    shutil.copy(inputs / "sound.tif", inputs / "no right.tif")
    (inputs / "no right.tif").chmod(0)
    (inputs / "bomb.bmp").write_bytes(_bomb())
    names = sorted(path.name for path in inputs.iterdir())
    (folder / "config").mkdir()
    rows = [f"{name.replace(' ', '_')}\t{inputs / name}\t0.5" for name in names]
    (folder / "config/samples.tsv").write_text("slide_id\tpath\tmpp\n" + "\n".join(rows) + "\n")
    values = {"model": str(write_detector(folder / "tiny.onnx")), "precision": "f32"}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(values))
    environment = {**os.environ, **faulty_environment(folder, "SIGSEGV", FAULT_AT), "FAULT_IN": "crash.tif"}
    result = subprocess.run(
        [
            *_without_rights_of_root(), sys.executable, "-m", "snakemake", "--snakefile",
            str(ROOT / "Snakefile"), "--resources", "gpu=0", "--cores", "2",
            "results/cohort_er.csv", "results/slides/crash.tif/overlay.jpg",
        ],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    return folder, result


def _bomb() -> bytes:
    """A BMP of 54 bytes that states 2 million x 2 million pixels."""
    side = (2_000_000).to_bytes(4, "little")
    head = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    return head + side + side + b"\1\0\x18\0" + bytes(24)


def _without_rights_of_root() -> list[str]:
    """Root may read everything: without these capabilities it is a user like others."""
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def table(cohort) -> dict[str, dict[str, object]]:
    folder, result = cohort
    assert result.returncode == 0, result.stdout + result.stderr
    rows = pl.read_csv(folder / "results/cohort_er.csv").rows(named=True)
    return {str(row["slide_id"]): row for row in rows}


def test_each_ends_as_its_status(table) -> None:
    assert {name: row["status"] for name, row in table.items()} == {
        "bomb.bmp": "unreadable",
        "crash.tif": "partial",
        "loop.tif": "missing",
        "no_right.tif": "unreadable",
        "pipe.png": "unreadable",
        "pipe.tif": "unreadable",
        "sound.tif": "no_nuclei",
    }
    assert "rights" in str(table["no_right.tif"]["message"])
    assert "not a file" in str(table["pipe.tif"]["message"])


def test_the_tile_that_crashed_is_listed_and_the_others_were_read(cohort, table) -> None:
    folder, result = cohort
    assert (table["crash.tif"]["n_tiles"], table["crash.tif"]["n_tiles_failed"]) == (4, 1)
    failed = pl.read_csv(folder / "results/slides/crash.tif/failed_tiles.csv")
    (row,) = failed.rows(named=True)
    assert row["x"] <= FAULT_AT[0] < row["x"] + 640
    assert row["y"] <= FAULT_AT[1] < row["y"] + 640
    assert "crashes the slide reader (SIGSEGV)" in row["message"]
    assert len(pl.read_csv(folder / "results/slides/sound.tif/failed_tiles.csv")) == 0
    # Detection and pictures met it once in the job itself, which died of it, and then in children of theirs:
    # once in the tile, and once in every window that a picture has there.
    assert len(set((folder / "fault.log").read_text().splitlines())) >= 4
    assert (result.stdout + result.stderr).count("Trying to restart") == 2
