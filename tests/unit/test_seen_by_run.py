"""What a job on another machine is told of the files that its run sees."""

from ercohort.gone import is_seen_by_run, note_absent


def test_a_job_knows_which_files_its_run_sees(tmp_path):
    note_absent({"slides": ["S2"], "regions": ["S1"]}, tmp_path / "absent.json")
    assert [is_seen_by_run(name, tmp_path / "absent.json") for name in ("S1", "S2")] == [True, False]
    assert [is_seen_by_run(name, tmp_path / "absent.json", "regions") for name in ("S1", "S2")] == [
        False, True,
    ]  # fmt: skip


def test_where_no_run_wrote_it_down_nothing_is_known(tmp_path):
    assert not is_seen_by_run("S1", tmp_path / "absent.json")
    (tmp_path / "absent.json").write_text("[")
    assert not is_seen_by_run("S1", tmp_path / "absent.json")
