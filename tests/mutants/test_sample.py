"""A few of the damaged slides of `make mutants`, through the same steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import make, tiff_map
from tests.mutants.__main__ import ALLOWED

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_has_a_status_and_a_bound(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "--every", "60", "--json", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=590, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(found) >= 5
    for mutant in found:
        assert mutant["status"] in ALLOWED
        assert mutant["message"] or mutant["status"] == "ok"
        assert mutant["cpu_seconds"] < 60
        assert mutant["megabytes"] < 2000


def test_there_are_hundreds_and_the_same_every_time(jpeg_pyramid: Path, tmp_path: Path) -> None:
    mutants = list(make.of_tiff(jpeg_pyramid, "a"))
    assert len(mutants) > 200
    assert len({(mutant.kind, mutant.name) for mutant in mutants}) > 0.95 * len(mutants)
    again = list(make.of_tiff(jpeg_pyramid, "a"))
    for mutant, same in list(zip(mutants, again, strict=True))[::25]:
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "2").mkdir(exist_ok=True)
        first, second = mutant.write(tmp_path / "1"), same.write(tmp_path / "2")
        assert (mutant.name, first.read_bytes()) == (same.name, second.read_bytes())


def test_the_map_of_a_tiff_is_tifffiles(jpeg_pyramid: Path) -> None:
    import tifffile

    data = jpeg_pyramid.read_bytes()
    with tifffile.TiffFile(jpeg_pyramid) as tiff:
        expected = [list(zip(page.dataoffsets, page.databytecounts, strict=True)) for page in tiff.pages]
    assert [page.chunks(data) for page in tiff_map.directories(data)] == expected
