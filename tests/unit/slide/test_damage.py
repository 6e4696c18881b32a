"""Damaged slides: an error or the true pixels, never grey or black ones, and never a dead reader."""

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ercohort.errors import SlideError, Status
from ercohort.simulate import simulate_slide
from ercohort.slide import Slide, open_slide
from tests import slides

TILE = (256, 256)  # x, y of tile 7 of 6 tiles a row
READERS = ["vips", "openslide"]


def tiles_of(slide: Slide) -> list[tuple[int, int]]:
    return [(x, y) for y in range(0, slide.info.height, 256) for x in range(0, slide.info.width, 256)]


def read_or_none(slide: Slide, at: tuple[int, int]) -> np.ndarray | None:
    try:
        return slide.read(*at, 256, 256)
    except SlideError:
        return None


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["jpeg_pyramid", "deflate_pyramid", "svs"])
def whole(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


@pytest.mark.parametrize("start", [0.0, 0.5, 0.9])
def test_a_damaged_tile_fails_alone(whole: Path, reader: str, start: float, tmp_path: Path) -> None:
    """libvips gives grey or black pixels and no error for most of these."""
    damaged = slides.damage_tile(whole, tmp_path / whole.name, 7, start=start)
    with open_slide(whole) as sound, open_slide(damaged, info=replace(sound.info, reader=reader)) as slide:
        for at in tiles_of(slide) * 2:
            pixels = read_or_none(slide, at)
            if at == TILE:
                assert pixels is None
            else:
                np.testing.assert_array_equal(pixels, sound.read(*at, 256, 256))


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_damaged_tile_fails_alone_among_threads(
    whole: Path, reader: str, start: float, tmp_path: Path
) -> None:
    damaged = slides.damage_tile(whole, tmp_path / whole.name, 7, start=start)
    with open_slide(whole) as sound, open_slide(damaged, info=replace(sound.info, reader=reader)) as slide:
        places = tiles_of(slide) * 3
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda at: read_or_none(slide, at), places))
        for at, pixels in zip(places, results, strict=True):
            if at == TILE:
                assert pixels is None
            else:
                np.testing.assert_array_equal(pixels, sound.read(*at, 256, 256))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_slide_cut_short_fails_where_it_is_cut(
    field: slides.Array, reader: str, share: float, tmp_path: Path
) -> None:
    """The page list lies before the pixels: the slide opens, and its end cannot be read."""
    levels = [slides.halve(field), field]
    whole = slides.write_levels(tmp_path / "whole.tiff", levels, tile=256)
    cut = slides.truncate(whole, tmp_path / "cut.tiff", share)
    with open_slide(whole) as sound:
        info = replace(sound.info, reader=reader, path=str(cut))
        with open_slide(cut, info=info) as slide:
            assert slide.info.level_dimensions[0] == (1501, 1103)
            results = {at: read_or_none(slide, at) for at in tiles_of(slide)}
        for at, pixels in results.items():
            if pixels is not None:
                np.testing.assert_array_equal(pixels, sound.read(*at, 256, 256))
    failed = sum(pixels is None for pixels in results.values())
    assert 0 < failed < len(results)


@pytest.mark.parametrize("kind", ["jpeg_pyramid", "svs", "scn"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_slides_cut_anywhere_are_an_error_or_sound(
    kind: str, share: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole = Path(request.getfixturevalue(kind))
    cut = slides.truncate(whole, tmp_path / whole.name, share)
    with pytest.raises(SlideError) as caught, open_slide(cut) as slide:
        slide.overview(0.5)
    assert caught.value.status is Status.UNREADABLE
    assert "copy it again" in caught.value.message


@pytest.mark.parametrize("breaking", [slides.loop_pages, slides.zero_first_page])
def test_broken_page_lists(breaking: object, jpeg_pyramid: Path, tmp_path: Path) -> None:
    path = breaking(jpeg_pyramid, tmp_path / "a.tiff")  # type: ignore[operator]
    with pytest.raises(SlideError, match="damaged") as caught:
        open_slide(path)
    assert caught.value.status is Status.UNREADABLE


def test_the_shared_handle_is_replaced(
    jpeg_pyramid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound tiles after a damaged one do not each open the file anew."""
    damaged = slides.damage_tile(jpeg_pyramid, tmp_path / "a.tiff", 7)
    with open_slide(damaged) as slide:
        assert read_or_none(slide, TILE) is None
        monkeypatch.setattr("openslide.OpenSlide", None)
        for at in tiles_of(slide):
            if at != TILE:
                assert slide.read(*at, 256, 256).shape == (256, 256, 3)


def test_the_error_says_where(whole: Path, tmp_path: Path) -> None:
    damaged = slides.damage_tile(whole, tmp_path / whole.name, 7)
    with open_slide(damaged) as slide, pytest.raises(SlideError) as caught:
        slide.read(*TILE, 256, 256)
    assert caught.value.status is Status.UNREADABLE
    assert f"{damaged}: pixels at x 256, y 256 of level 0" in caught.value.message
    assert "\n" not in caught.value.message


def test_damage_at_a_checked_window_leaves_openslide(jpeg_pyramid: Path, tmp_path: Path) -> None:
    """The comparison at opening meets the damage: the slide opens, read by OpenSlide."""
    damaged = slides.damage_tile(jpeg_pyramid, tmp_path / "a.tiff", 0)
    with open_slide(damaged) as slide:
        assert slide.info.reader == "openslide"
        assert read_or_none(slide, (0, 0)) is None
        assert read_or_none(slide, (256, 0)) is not None


def test_overview_keeps_what_is_sound(field: slides.Array, tmp_path: Path) -> None:
    whole = slides.write_levels(tmp_path / "one.tiff", [field], 0.5, tile=256)
    damaged = slides.damage_tile(whole, tmp_path / "damaged.tiff", 7)
    with open_slide(whole) as sound, open_slide(damaged) as slide:
        expected, overview = sound.thumbnail(4.0), slide.overview(4.0)
    lost = np.argwhere(~overview.readable)
    assert 0 < len(lost) < 0.35 * overview.readable.size
    assert overview.readable[60:, 90:].all()
    assert not overview.readable[40, 40]
    assert (overview.pixels[~overview.readable] == 255).all()
    assert np.abs(overview.pixels[overview.readable].astype(int) - expected[overview.readable]).max() <= 1


def test_overview_of_nothing_readable_is_an_error(field: slides.Array, tmp_path: Path) -> None:
    path = slides.write_levels(tmp_path / "one.tiff", [field], 0.5, tile=256)
    with open_slide(path) as slide:
        info = slide.info
    for tile in range(30):
        slides.damage_tile(path, path, tile)
    with open_slide(path, info=info) as slide, pytest.raises(SlideError, match="no part of it") as caught:
        slide.overview(4.0)
    assert caught.value.status is Status.UNREADABLE


def test_a_compression_that_is_stated_wrongly_is_no_unforeseen_error(tmp_path):
    """libvips makes four colours of it where OpenSlide makes three."""
    path = simulate_slide(tmp_path / "a.tif", width=1500, height=1000, percent_positive=40, seed=3).path
    content = bytearray(path.read_bytes())
    next_page, stated = struct.unpack_from("<Q", content, 8)[0], 0
    while next_page:  # BigTIFF: a count, entries of 20 bytes, the next page's place
        n = struct.unpack_from("<Q", content, next_page)[0]
        for entry in range(next_page + 8, next_page + 8 + 20 * n, 20):
            if struct.unpack_from("<H", content, entry)[0] == 259:
                struct.pack_into("<H", content, entry + 12, 1)
                stated += 1
        next_page = struct.unpack_from("<Q", content, next_page + 8 + 20 * n)[0]
    path.write_bytes(content)
    assert stated > 0
    with open_slide(path, mpp=0.5) as slide:
        assert slide.info.reader == "openslide"
