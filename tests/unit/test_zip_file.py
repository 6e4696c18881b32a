"""Zips that any reader of zips opens, and damage that is noticed."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ercohort.errors import GeoJSONError
from ercohort.zip_file import Deflated, ZipWriter, deflate, read_entry

CONTENT = {
    "a.geojson": b"",
    "böse/ä.geojson": b"x" * 100_000,
    "c": np.random.default_rng(0).bytes(70_000),
}


@pytest.fixture
def path(tmp_path):
    with (tmp_path / "n.zip").open("wb") as file:
        archive = ZipWriter(file)
        for name, content in CONTENT.items():
            archive.add(name, deflate(content[at : at + 999] for at in range(0, len(content), 999)))
        archive.close()
    return tmp_path / "n.zip"


def test_the_standard_library_reads_what_was_written(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENT
        assert [info.date_time for info in archive.infolist()] == [(1980, 1, 1, 0, 0, 0)] * 3
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-t", path], capture_output=True, check=True)
    assert b"Done" in listed.stdout


def test_entries_are_read_whoever_wrote_them(path, tmp_path):
    with zipfile.ZipFile(path) as archive:
        assert {name: read_entry(archive, name) for name in archive.namelist()} == CONTENT
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "other.zip", "w", method) as archive:
            for name, content in CONTENT.items():
                archive.writestr(name, content)
        with zipfile.ZipFile(tmp_path / "other.zip") as archive:
            assert {name: read_entry(archive, name) for name in archive.namelist()} == CONTENT


def test_what_qupath_cannot_unpack_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x" * 1000)
    with (
        zipfile.ZipFile(tmp_path / "other.zip") as archive,
        pytest.raises(zipfile.BadZipFile, match="neither"),
    ):
        read_entry(archive, "a")


@pytest.mark.parametrize("seed", range(20))
def test_damage_to_an_entry_is_noticed(path, seed):
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("c")
        begin = info.header_offset + 31
    at = int(np.random.default_rng(seed).integers(begin, begin + info.compress_size))
    content[at] ^= 0x41
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        read_entry(archive, "c")


def test_what_a_zip_cannot_hold_is_refused(tmp_path):
    with (tmp_path / "n.zip").open("wb") as file, pytest.raises(GeoJSONError, match="4 GiB"):
        ZipWriter(file).add("large", Deflated([b""], 0, 2**32))
