"""Files appear whole or not at all."""

import errno
import shutil
import stat

import polars as pl
import pytest

from ercohort.errors import DiskError
from ercohort.files import atomic_path, read_json, write_json, write_table


def test_a_file_that_was_not_finished_is_never_seen(tmp_path):
    final = tmp_path / "table.csv"
    final.write_text("old")

    def write_half():
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            assert final.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert final.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]


def test_a_finished_file_replaces_the_old_one_and_others_may_read_it(tmp_path):
    with atomic_path(tmp_path / "deep/er/table.csv") as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
    final = tmp_path / "deep/er/table.csv"
    assert final.read_text() == "new"
    assert stat.S_IMODE(final.stat().st_mode) & 0o044


def test_json_refuses_what_json_cannot_hold(tmp_path):
    write_json(tmp_path / "a.json", {"µ": [1, None]})
    assert read_json(tmp_path / "a.json") == {"µ": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"µ": [1, None]}


def test_a_table_has_the_columns_of_its_schema(tmp_path):
    schema = {"b": pl.Int32, "a": pl.Float32}
    write_table(tmp_path / "t.parquet", pl.DataFrame({"a": [1.0], "b": [2], "c": ["x"]}), schema)
    assert dict(pl.read_parquet(tmp_path / "t.parquet").schema) == schema


def test_equal_tables_are_equal_bytes_in_whatever_pieces_they_lie(tmp_path):
    """More rows than a row group has: left to itself, polars cuts the groups by the chunks."""
    rows = pl.DataFrame({"a": pl.int_range(0, 600_000, eager=True) * 7 % 1000})
    pieces = pl.concat([rows[:100_000], rows[100_000:150_000], rows[150_000:]], rechunk=False)
    assert pieces.n_chunks() == 3
    write_table(tmp_path / "one.parquet", rows, {"a": pl.Int32})
    write_table(tmp_path / "three.parquet", pieces, {"a": pl.Int32})
    assert (tmp_path / "three.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    final = tmp_path / "table.csv"
    for left in (".table.csv.abc.tmp.csv", "..table.csv.abc.tmp.csv.def.tmp.csv"):
        (tmp_path / left).write_text("half")
    (tmp_path / ".table.csv.abc.tmp").mkdir()
    with atomic_path(final) as first, atomic_path(final) as second:
        assert {item for item in tmp_path.iterdir()} == {first, second}
        first.write_text("first")
        second.write_text("second")
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("words", ["No space left on device (os error 28)", "write: No space left on device"])
def test_a_full_disk_is_said_by_the_name_of_the_file(tmp_path, words):
    def write():
        with atomic_path(tmp_path / "deep/t.parquet") as outer, atomic_path(outer):
            raise RuntimeError(words)  # what polars and libvips raise

    with pytest.raises(
        DiskError, match=r"deep/t\.parquet: no space left on its disk; make room and"
    ) as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert ".tmp" not in str(caught.value)
    assert not list((tmp_path / "deep").iterdir())


def test_errors_of_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError, match="a_slide"), atomic_path(tmp_path / "a.tif"):
        raise PermissionError(errno.EACCES, "denied", "/mnt/a_slide")


def test_a_folder_that_is_removed_meanwhile_is_said_so(tmp_path):
    def write():
        with atomic_path(tmp_path / "deep/a.json") as temporary:
            shutil.rmtree(temporary.parent)

    with pytest.raises(DiskError, match="its folder was removed while it was written"):
        write()
