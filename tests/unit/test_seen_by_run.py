"""What a job on another machine is told of the slides that its run sees."""

from ercohort.gone import is_seen_by_run, note_absent
from ercohort.sheet import Sample


def test_a_job_knows_which_slides_its_run_sees(tmp_path):
    slide, link = tmp_path / "S1.svs", tmp_path / "S3.svs"
    slide.touch()
    link.symlink_to(tmp_path / "nowhere")
    paths = {"S1": slide, "S2": tmp_path / "S2.svs", "S3": link}
    samples = [Sample(slide_id=name, path=str(path), mpp=None, extra={}) for name, path in paths.items()]
    note_absent(samples, tmp_path / "absent.json")
    slide.unlink()
    assert [is_seen_by_run(name, tmp_path / "absent.json") for name in paths] == [True, False, True]


def test_where_no_run_wrote_it_down_nothing_is_known(tmp_path):
    assert not is_seen_by_run("S1", tmp_path / "absent.json")
    (tmp_path / "absent.json").write_text("[")
    assert not is_seen_by_run("S1", tmp_path / "absent.json")
