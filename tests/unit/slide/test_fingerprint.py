"""A slide that was replaced is another one; a slide that was touched or moved is the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ercohort.slide.convert import needs_conversion
from ercohort.slide.fingerprint import bytes_on_disk, fingerprint


def noise(path: Path, n: int, seed: int = 0) -> Path:
    path.write_bytes(np.random.default_rng(seed).bytes(n))
    return path


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("a.svs", "a.tif", "a.png"):
        os.mkfifo(tmp_path / name)
        assert not needs_conversion(tmp_path / name)
        assert fingerprint(str(tmp_path / name)) is None


def test_touching_and_moving_change_nothing(tmp_path):
    slide = noise(tmp_path / "a.svs", 1_000_000)
    before = fingerprint(str(slide))
    os.utime(slide, (1, 1))
    shutil.move(slide, tmp_path / "b.svs")
    assert fingerprint(str(tmp_path / "b.svs")) == before


def test_a_copy_of_the_same_size_whose_end_is_lost_is_another(tmp_path):
    slide = noise(tmp_path / "a.svs", 1_000_000)
    whole = fingerprint(str(slide))
    slide.write_bytes(slide.read_bytes()[:600_000] + bytes(400_000))
    assert fingerprint(str(slide)) != whole


def test_the_folder_of_a_mirax_slide_belongs_to_it(tmp_path):
    slide = noise(tmp_path / "a.mrxs", 100)
    alone = fingerprint(str(slide))
    (tmp_path / "a").mkdir()
    noise(tmp_path / "a/Data0000.dat", 5_000)
    assert fingerprint(str(slide)) != alone
    assert bytes_on_disk(slide) == 5_100
    slide.unlink()
    assert fingerprint(str(slide)) is None  # what is left is no slide


def test_dicom_is_all_files_of_its_folder(tmp_path):
    one = noise(tmp_path / "1.dcm", 10)
    assert bytes_on_disk(tmp_path) == bytes_on_disk(one) == 10
    noise(tmp_path / "2.dcm", 20)
    assert bytes_on_disk(tmp_path) == bytes_on_disk(one) == 30
    assert fingerprint(str(one)) != fingerprint(str(tmp_path / "2.dcm"))
    assert fingerprint(str(tmp_path / "3.dcm")) is None


def test_what_is_not_there_has_none(tmp_path):
    assert fingerprint(str(tmp_path / "gone.svs")) is None
    assert fingerprint(str(tmp_path)) is None
    assert fingerprint("\0") is None
