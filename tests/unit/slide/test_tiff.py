"""The pure-Python look into TIFF files."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ercohort.slide.tiff import MAX_PAGES, TiffLayoutError, TiffPage, read_pages
from tests import slides


def pages_or_none(path: Path) -> list[TiffPage] | None:
    try:
        return read_pages(path)
    except TiffLayoutError:
        return None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_are_read_in_every_flavour(tmp_path: Path, order: str, big: bool) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as tiff:
        tiff.write(
            np.zeros((300, 500, 3), np.uint8), tile=(128, 128), photometric="rgb", compression="deflate"
        )
        tiff.write(np.zeros((30, 50), np.uint16), photometric="minisblack")
    first, second = read_pages(path)
    assert (first.index, first.width, first.height, first.tiled) == (0, 500, 300, True)
    assert (first.samples, first.bits, first.compression) == (3, 8, 32946)
    assert (second.index, second.width, second.height, second.tiled) == (1, 50, 30, False)
    assert (second.samples, second.bits) == (1, 16)


def test_a_loop_of_pages_is_an_error(jpeg_pyramid: Path, tmp_path: Path) -> None:
    with pytest.raises(TiffLayoutError, match="loop"):
        read_pages(slides.loop_pages(jpeg_pyramid, tmp_path / "loop.tif"))


def test_no_first_page_is_an_error(jpeg_pyramid: Path, tmp_path: Path) -> None:
    with pytest.raises(TiffLayoutError, match="no page"):
        read_pages(slides.zero_first_page(jpeg_pyramid, tmp_path / "zero.tif"))


def test_endless_pages_end(tmp_path: Path) -> None:
    path = tmp_path / "many.tif"
    tifffile.imwrite(
        path, np.zeros((MAX_PAGES + 10, 8, 8), np.uint8), photometric="minisblack", metadata=None
    )
    assert len(read_pages(path)) == MAX_PAGES


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200), head=st.sampled_from([b"", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"]))
def test_junk_is_never_more_than_a_layout_error(tmp_path: Path, junk: bytes, head: bytes) -> None:
    path = tmp_path / "junk.tif"
    path.write_bytes(head + junk)
    assert pages_or_none(path) is None or len(read_pages(path)) <= MAX_PAGES


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), value=st.integers(0, 255), keep=st.integers(0, 4000))
def test_changed_bytes_are_never_more_than_a_layout_error(
    tmp_path: Path, place: int, value: int, keep: int
) -> None:
    source = tmp_path / "source.tif"
    if not source.exists():
        tifffile.imwrite(source, np.zeros((64, 64, 3), np.uint8), tile=(16, 16), photometric="rgb")
    data = bytearray(source.read_bytes())
    data[place % len(data)] = value
    path = tmp_path / "changed.tif"
    path.write_bytes(data[: max(keep, 16)])
    pages = pages_or_none(path)
    assert pages is None or len(pages) >= 1
