"""Real slides, sound and bad."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ercohort.errors import SlideError, Status
from ercohort.slide import open_slide
from ercohort.slide.convert import convert, needs_conversion
from ercohort.slide.probe import probe

pytestmark = pytest.mark.real_data


def test_aperio_svs(shared_data: Path) -> None:
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    info = probe(path)
    assert (info.vendor, info.reader) == ("aperio", "vips")
    assert (info.width, info.height) == (2220, 2967)
    assert (info.mpp, info.mpp_source) == (0.499, "file")
    assert not needs_conversion(path)
    with (
        open_slide(path, info=info) as fast,
        open_slide(path, info=replace(info, reader="openslide")) as plain,
    ):
        for window in [(0, 0, 640, 640), (1700, 2500, 640, 640), (-100, 1000, 1280, 1280)]:
            for mpp in (0.499, 0.5, 1.0):
                np.testing.assert_array_equal(fast.read(*window, mpp=mpp), plain.read(*window, mpp=mpp))


@pytest.mark.parametrize("name", ["test3-DAPI-2-387.ndpi", "test3-TRITC-2-560.ndpi"])
def test_hamamatsu_ndpi(name: str, shared_data: Path) -> None:
    path = shared_data / "slides" / name
    info = probe(path)
    assert (info.vendor, info.reader) == ("hamamatsu", "openslide")
    assert (info.width, info.height) == (3968, 4864)
    assert info.mpp == pytest.approx(0.2282, abs=1e-4)
    assert info.level_downsamples == (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    assert not needs_conversion(path)
    with open_slide(path, info=info) as slide:
        fine = slide.read(1024, 1024, 512, 512)
        coarse = slide.read(1024, 1024, 512, 512, size=(64, 64))
    means = fine.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3))
    assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("nonsense-mpp.tiff", Status.NO_MPP, "352.858"),
        ("small_dicom.dcm", Status.UNREADABLE, "small_dicom.dcm"),
        ("smalltif.tif", Status.UNREADABLE, "no slide"),
    ],
)
def test_bad_files(name: str, status: Status, says: str, shared_data: Path) -> None:
    with pytest.raises(SlideError) as caught:
        probe(shared_data / "slides" / "bad" / name)
    assert caught.value.status is status
    assert says in caught.value.message


def test_nonsense_scale_is_cured_by_the_sheet(shared_data: Path) -> None:
    info = probe(shared_data / "slides" / "bad" / "nonsense-mpp.tiff", mpp=0.5)
    assert (info.width, info.height, info.mpp, info.mpp_source) == (300, 250, 0.5, "sheet")


def test_flat_tiff_needs_conversion_and_a_scale(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "slides" / "bad" / "smalltif.tif"
    assert needs_conversion(path)
    with pytest.raises(SlideError, match=r"264\.583") as caught:
        convert(path, tmp_path / "a.tiff", mpp=None)
    assert caught.value.status is Status.NO_MPP
    convert(path, tmp_path / "a.tiff", mpp=0.5)
    assert probe(tmp_path / "a.tiff").width == 640
