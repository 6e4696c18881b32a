"""Slides whose file went away keep their results."""

from __future__ import annotations

import pytest

from ercohort.config import TissueSettings
from ercohort.errors import MachineError
from ercohort.files import write_json
from ercohort.gone import Source, find_regions, find_source, kept_line
from ercohort.sheet import Sample
from ercohort.slide.fingerprint import fingerprint
from ercohort.steps.tissue import mask_tissue


def results(folder, path, status="ok", made_of="123-abc"):
    made = {"row": {"status": status}, "slide": {"path": path, "fingerprint": made_of}}
    write_json(folder / "summary.json", made)
    return folder


def test_a_slide_that_is_there_is_what_it_is(tmp_path):
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"slide")
    now = fingerprint(str(slide))
    assert find_source(Sample("a", str(slide)), tmp_path / "none") == Source(str(slide), now)
    made = results(tmp_path / "a", str(slide))
    assert find_source(Sample("a", str(slide)), made) == Source(str(slide), now)


@pytest.mark.parametrize("in_sheet", ["/mnt/scans/a.svs", "scans/a.svs"])
def test_a_finished_slide_that_is_gone_is_what_it_was(tmp_path, in_sheet):
    made = results(tmp_path, "/mnt/scans/a.svs")
    assert find_source(Sample("a", in_sheet), made) == Source("/mnt/scans/a.svs", "123-abc", is_kept=True)


def test_a_link_to_a_share_that_is_not_mounted_is_a_slide_that_is_gone(tmp_path):
    link = tmp_path / "a.svs"
    link.symlink_to(tmp_path / "share/a.svs")
    made = results(tmp_path / "made", str(link))
    assert find_source(Sample("a", str(link)), made) == Source(str(link), "123-abc", is_kept=True)


def test_a_finished_slide_that_this_user_may_not_read_is_kept(tmp_path, monkeypatch):
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"slide")
    made = results(tmp_path / "made", str(slide))
    monkeypatch.setattr("ercohort.gone.fingerprint", lambda _: None)
    assert find_source(Sample("a", str(slide)), made) == Source(str(slide), "123-abc", is_kept=True)


def test_regions_that_are_gone_are_those_that_the_results_were_made_with(tmp_path):
    roi = tmp_path / "a.geojson"
    sample = Sample("a", "/mnt/a.svs", roi=str(roi))
    assert find_regions(Sample("a", "/mnt/a.svs"), tmp_path) is None
    assert find_regions(sample, tmp_path) == Source(str(roi), None)
    roi.write_text("{}")
    there = find_regions(sample, tmp_path)
    assert there is not None
    assert not there.is_kept
    roi.unlink()
    made_of = {"path": "/mnt/a.svs", "fingerprint": "1", "regions": {"path": str(roi), "fingerprint": "abc"}}
    write_json(tmp_path / "summary.json", {"row": {"status": "ok"}, "slide": made_of})
    assert find_regions(sample, tmp_path) == Source(str(roi), "abc", is_kept=True)
    # A name that was mistyped since is told as that.
    other = Sample("a", "/mnt/a.svs", roi="b.geojson")
    assert find_regions(other, tmp_path) == Source("b.geojson", None)


def test_without_results_a_slide_that_is_gone_is_missing(tmp_path):
    gone = Source("/mnt/a.svs", None)
    assert find_source(Sample("a", "/mnt/a.svs"), tmp_path / "none") == gone
    assert find_source(Sample("a", "/mnt/a.svs"), results(tmp_path, "/mnt/a.svs", "missing", None)) == gone


def test_another_file_that_is_not_there_does_not_take_the_place_of_results(tmp_path):
    made = results(tmp_path, "/mnt/a.svs")
    found = find_source(Sample("a", "/mnt/b.svs"), made)
    assert found.path == "/mnt/b.svs"
    assert found.fingerprint not in (None, "123-abc")  # so the step runs, and says that it is not there


def test_a_file_that_is_expected_and_gone_is_no_status(tmp_path):
    with pytest.raises(MachineError, match="it was there before, and is gone or closed to this user"):
        mask_tissue(
            slide_id="a", path="/mnt/a.svs", readable="/mnt/a.svs", mpp=None, settings=TissueSettings(),
            folder=tmp_path, expected=True,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_few_kept_slides_are_named_and_many_counted():
    assert kept_line([]) == ""
    assert kept_line(["a", "b"]).startswith(
        "2 finished slides are not there now (or their regions, or this user may not read them), and their "
        "results are kept: a, b;"
    )
    assert "e and 3 more" in kept_line(list("abcdefgh"))
