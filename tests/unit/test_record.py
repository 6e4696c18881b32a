"""The record of a slide, and which errors become a status."""

import pytest

from ercohort.errors import BackendError, MachineError, ModelError, SlideError, Status
from ercohort.quality import FocusPatch, QualityRecord
from ercohort.record import SlideRecord, TissueRecord, slide_trouble
from ercohort.slide import SlideInfo

INFO = SlideInfo(
    path="a.svs", vendor="aperio", width=100, height=50, mpp=0.25, mpp_source="sheet",
    level_dimensions=((100, 50), (50, 25)), level_downsamples=(1.0, 2.0), bounds=(1, 2, 90, 40),
    has_bounds=True, background=(255, 254, 253), reader="vips", file_bytes=12,
)  # fmt: skip

TISSUE = TissueRecord(16.0, 16.5, (240.0, 241.0, 242.5), 1.5)
QUALITY = QualityRecord((FocusPatch(10, 20, 0.25), FocusPatch(40, 20, 0.5)), 0.0, 0.01, 0.6, None, 0.02)


@pytest.mark.parametrize(
    "record",
    [
        SlideRecord("a", "a.svs", Status.OK, "", INFO, TISSUE, quality=QUALITY),
        SlideRecord("a", "a.svs", Status.OK, "", INFO, TISSUE),
        SlideRecord("b", "b.svs", Status.MISSING, "no such file; put it there"),
    ],
)
def test_a_record_comes_back_as_it_was(tmp_path, record):
    record.write(tmp_path / "slide.json")
    assert SlideRecord.read(tmp_path / "slide.json") == record


def test_what_is_wrong_with_a_slide_becomes_a_status():
    seen = []
    with slide_trouble("slide.json", lambda *found: seen.append(found)):
        raise SlideError(Status.NO_MPP, "give mpp")
    assert seen == [(Status.NO_MPP, "give mpp")]


def test_an_unforeseen_error_becomes_failed_and_names_the_step():
    seen = []
    with slide_trouble("results/slides/a/slide.json", lambda *found: seen.append(found)):
        raise ZeroDivisionError("division by zero")
    ((status, message),) = seen
    assert status is Status.FAILED
    assert "ZeroDivisionError" in message
    assert "--forcerun results/slides/a/slide.json" in message


@pytest.mark.parametrize(
    "error", [OSError("full"), MemoryError(), MachineError("x"), BackendError("x"), ModelError("x")]
)
def test_what_is_wrong_with_the_machine_is_raised(error):
    seen = []
    with pytest.raises(type(error)), slide_trouble("slide.json", lambda *found: seen.append(found)):
        raise error
    assert seen == []
