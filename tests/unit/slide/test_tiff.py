"""The pure-Python look into TIFF files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ercohort.errors import SlideError, Status
from ercohort.slide import open_slide
from ercohort.slide.tiff import MAX_PAGES, TiffLayoutError, TiffPage, read_pages
from tests import slides
from tests.mutants import tiff_map as tm


def pages_or_none(path: Path) -> list[TiffPage] | None:
    try:
        return read_pages(path)
    except TiffLayoutError:
        return None


def patched(source: Path, path: Path, tag: int, value: int | None) -> Path:
    """Copy a TIFF; a tag of its first page becomes one number, or zeros where it lists its values."""
    data = bytearray(source.read_bytes())
    entry = tm.directories(data)[0].entries[tag]
    if value is None:
        data[entry.values_at : entry.end] = bytes(entry.end - entry.values_at)
    else:
        struct.pack_into("<HII", data, entry.at + 2, 4, 1, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        (tm.WIDTH, 500, "500 x 1103 px in tiles of 256 x 256 px has 10 of them, and the file has 30"),
        (tm.WIDTH, 2**32 - 1, "and the file has 30"),
        (tm.HEIGHT, 65535, "has 1536 of them, and the file has 30"),
        (tm.TILE_WIDTH, 1, "in tiles of 1 x 256 px has 7505 of them"),
        (tm.TILE_HEIGHT, 2**31, "and the file has 30"),
        (tm.TILE_HEIGHT, 0, "no size"),
        (tm.TILE_OFFSETS, 8, "has 30 of them, and the file has 1"),
        (tm.TILE_SIZES, None, "has 30 of them, and the file has 0"),
        (tm.PHOTOMETRIC, 0, "a page of 3 channels says that it has one ('white is zero')"),
        (tm.PHOTOMETRIC, 3, "says that it has one ('palette')"),
    ],
)
def test_a_page_that_contradicts_itself_is_refused_and_not_scrambled(
    jpeg_pyramid: Path, tmp_path: Path, tag: int, value: int | None, why: str
) -> None:
    """OpenSlide reads most of these without an error: scrambled, or as bare glass."""
    path = patched(jpeg_pyramid, tmp_path / "a.tiff", tag, value)
    assert why in str(read_pages(path)[0].fault)
    with pytest.raises(SlideError) as caught:
        open_slide(path, mpp=0.5)
    assert caught.value.status is Status.UNREADABLE


def test_sound_pages_have_no_fault(jpeg_pyramid: Path, deflate_pyramid: Path, svs: Path, scn: Path) -> None:
    for path in (jpeg_pyramid, deflate_pyramid, svs, scn):
        assert [page.fault for page in read_pages(path)] == [None] * len(read_pages(path))


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
