"""One reader for every slide: sizes, pixels, scale, edges, threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ercohort.errors import SlideError, Status
from ercohort.slide import Slide, open_slide
from tests import slides
from tests.dicom_slide import write_dicom

KINDS = ["jpeg_pyramid", "deflate_pyramid", "svs"]


def by(reader: str, path: Path, mpp: float | None = None) -> Slide:
    """Open a slide with the reader named."""
    with open_slide(path, mpp=mpp) as slide:
        info = slide.info
    return open_slide(path, info=replace(info, reader=reader))


@pytest.mark.parametrize(
    ("kind", "vendor", "downsamples"),
    [
        ("jpeg_pyramid", "generic-tiff", (1.0, 2.0, 4.0, 8.0)),
        ("deflate_pyramid", "generic-tiff", (1.0, 2.0, 4.0, 8.0)),
        ("svs", "aperio", (1.0, 2.0, 4.0)),
    ],
)
def test_facts_of_a_tiled_tiff(
    kind: str, vendor: str, downsamples: tuple[float, ...], request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    with open_slide(path) as slide:
        info = slide.info
    assert (info.width, info.height) == (1501, 1103)
    assert info.vendor == vendor
    assert info.reader == "vips"
    assert info.mpp == pytest.approx(0.5, abs=1e-6)
    assert info.mpp_source == "file"
    assert info.level_downsamples == downsamples
    assert info.level_dimensions[1] == (750, 551)
    assert (info.bounds, info.has_bounds) == ((0, 0, 1501, 1103), False)
    assert info.background == (255, 255, 255)
    assert info.file_bytes == path.stat().st_size


def test_the_sheets_mpp_beats_the_files(jpeg_pyramid: Path) -> None:
    with open_slide(jpeg_pyramid, mpp=0.3) as slide:
        assert (slide.info.mpp, slide.info.mpp_source) == (0.3, "sheet")
        assert slide.info.file_mpp == pytest.approx(0.5, rel=1e-3)
        assert slide.read(0, 0, 300, 200, mpp=0.6).shape == (100, 150, 3)


def test_a_slide_without_scale_is_no_mpp(field: slides.Array, tmp_path: Path) -> None:
    path = slides.write_pyramid(tmp_path / "a.tiff", field[:300, :300], mpp=None)
    with pytest.raises(SlideError, match="`mpp` column") as caught:
        open_slide(path)
    assert caught.value.status is Status.NO_MPP
    with open_slide(path, mpp=0.25) as slide:
        assert slide.info.mpp == 0.25


WINDOWS = [(0, 0, 640, 640), (611, 500, 333, 257), (1301, 903, 200, 200), (-20, 1000, 300, 300)]


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", "none"])
def test_vips_and_openslide_give_the_same_pixels(
    compression: str, field: slides.Array, tmp_path: Path
) -> None:
    path = slides.write_pyramid(tmp_path / "a.tiff", field[:1024, :1408], compression=compression)
    with by("vips", path) as fast, by("openslide", path) as plain:
        assert fast.info.level_downsamples == (1.0, 2.0, 4.0, 8.0)
        for window in WINDOWS:
            for mpp in (0.5, 0.7, 1.0, 1.3, 2.0, 4.0):
                np.testing.assert_array_equal(fast.read(*window, mpp=mpp), plain.read(*window, mpp=mpp))


@pytest.mark.parametrize("kind", KINDS)
def test_vips_and_openslide_agree_on_odd_sizes(kind: str, request: pytest.FixtureRequest) -> None:
    """OpenSlide interpolates in levels whose size was rounded, by less than a quarter of their pixel."""
    path = request.getfixturevalue(kind)
    with by("vips", path) as fast, by("openslide", path) as plain:
        for window in WINDOWS:
            np.testing.assert_array_equal(fast.read(*window), plain.read(*window))
            for mpp in (1.0, 1.3, 2.0, 4.0):
                difference = fast.read(*window, mpp=mpp).astype(int) - plain.read(*window, mpp=mpp)
                assert np.abs(difference).mean() < 1.5
                assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5


def test_level_zero_is_the_picture_itself(field: slides.Array, deflate_pyramid: Path) -> None:
    with open_slide(deflate_pyramid) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 1501, 1103), field)
        np.testing.assert_array_equal(slide.read(100, 50, 640, 480, mpp=0.5), field[50:530, 100:740])


def test_half_scale_is_the_mean_of_four(field: slides.Array, deflate_pyramid: Path) -> None:
    with open_slide(deflate_pyramid) as slide:
        half = slide.read(100, 50, 640, 480, mpp=1.0)
    assert np.abs(half.astype(int) - slides.halve(field[50:530, 100:740])).max() <= 1


@pytest.mark.parametrize("reader", ["vips", "openslide"])
@pytest.mark.parametrize(
    ("x", "y"), [(-100, 200), (1400, 200), (200, -100), (200, 1000), (-100, -100), (1400, 1000)]
)
def test_windows_over_an_edge_are_padded(
    x: int, y: int, reader: str, field: slides.Array, deflate_pyramid: Path
) -> None:
    wide = np.full((1103 + 600, 1501 + 600, 3), 255, np.uint8)
    wide[300:1403, 300:1801] = field
    with by(reader, deflate_pyramid) as slide:
        np.testing.assert_array_equal(slide.read(x, y, 256, 256), wide[y + 300 : y + 556, x + 300 : x + 556])


def test_windows_outside_are_background(deflate_pyramid: Path) -> None:
    with open_slide(deflate_pyramid) as slide:
        for x, y in [(-700, 0), (1501, 0), (0, 1103), (10_000_000, 10_000_000)]:
            assert (slide.read(x, y, 640, 640, mpp=0.77) == 255).all()


def test_a_given_array_is_filled(field: slides.Array, deflate_pyramid: Path) -> None:
    out = np.zeros((64, 128, 3), np.uint8)
    with open_slide(deflate_pyramid) as slide:
        assert slide.read(10, 20, 128, 64, out=out) is out
        np.testing.assert_array_equal(out, field[20:84, 10:138])
        with pytest.raises(ValueError, match="window needs"):
            slide.read(10, 20, 64, 64, out=out)


def test_reading_a_closed_slide_is_an_error(jpeg_pyramid: Path) -> None:
    slide = open_slide(jpeg_pyramid)
    slide.close()
    slide.close()
    with pytest.raises(ValueError, match="closed"):
        slide.read(0, 0, 10, 10)


def test_a_rewritten_file_is_read_anew(tmp_path: Path, field: slides.Array) -> None:
    path = tmp_path / "a.tiff"
    info = None
    for picture in (field[:300, :300], 255 - field[:300, :300]):
        path.unlink(missing_ok=True)
        slides.write_pyramid(path, picture, compression="deflate")
        with open_slide(path, info=info) as slide:
            info = slide.info
            np.testing.assert_array_equal(slide.read(0, 0, 300, 300), picture)


# --- where pixels lie ---------------------------------------------------------------------------------

CENTRES = [(333.0, 251.0), (1210.5, 700.25), (40.0, 1015.0), (1440.3, 30.6)]


@pytest.fixture(scope="module")
def dots() -> slides.Array:
    """Dark dots of known centres (pixel edges are whole numbers) on white, 1501 x 1103 px."""
    rows, cols = np.mgrid[0:1103, 0:1501] + 0.5
    dark = sum(np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * 7.0**2)) for x, y in CENTRES)
    return np.repeat((255 - 230 * dark).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def dot_slides(dots: slides.Array, slide_folder: Path) -> dict[float, Path]:
    """The dots as slides of several scales, levels halved twice (odd rows dropped)."""
    half = slides.halve(dots)
    levels = [dots, half, slides.halve(half)]
    return {
        mpp: slides.write_levels(slide_folder / f"dots-{mpp}.tiff", levels, mpp)
        for mpp in (0.25, 0.2527, 0.5, 1.0)
    }


def centroid(picture: np.ndarray) -> tuple[float, float]:
    dark = 255.0 - picture[..., 0]
    rows, cols = np.mgrid[0 : dark.shape[0], 0 : dark.shape[1]] + 0.5
    return float((dark * cols).sum() / dark.sum()), float((dark * rows).sum() / dark.sum())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mpp=st.sampled_from([0.25, 0.2527, 0.5, 1.0]),
    target=st.sampled_from([0.25, 0.5, 0.61, 1.0, 2.0]),
    dot=st.sampled_from(CENTRES),
    shift=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    reader=st.sampled_from(["vips", "openslide"]),
)
def test_a_dot_is_read_where_it_lies(
    dot_slides: dict[float, Path],
    mpp: float,
    target: float,
    dot: tuple[float, float],
    shift: tuple[int, int],
    reader: str,
) -> None:
    """The centre of a dot is right to 0.1 px at every scale, also in windows over the edges."""
    x, y = int(dot[0]) - 48 + shift[0], int(dot[1]) - 48 + shift[1]
    with by(reader, dot_slides[mpp]) as slide:
        assert slide.info.mpp == pytest.approx(mpp, rel=1e-4)
        picture = slide.read(x, y, 97, 101, mpp=target)
    seen_x, seen_y = centroid(picture)
    error_x = x + seen_x * 97 / picture.shape[1] - dot[0]
    error_y = y + seen_y * 101 / picture.shape[0] - dot[1]
    inside = min(dot[0] - x, x + 97 - dot[0], dot[1] - y, y + 101 - dot[1]) > 22
    on_slide = 22 < dot[0] < 1479 and 22 < dot[1] < 1081
    if inside and on_slide:
        pixel = max(1.0, target / mpp)  # the larger one: of the slide or of the result
        assert abs(error_x) < 0.1 * pixel
        assert abs(error_y) < 0.1 * pixel
    else:
        assert picture.min() < 250  # cut off: the dot is seen, its centroid means nothing


@pytest.mark.parametrize("reader", ["vips", "openslide"])
def test_awkward_levels_are_not_shifted(reader: str, dots: slides.Array, tmp_path: Path) -> None:
    """2500 px standing for 10001 is a downsample of 4, though 10001 / 2500 is not."""
    base = np.full((1003, 4003, 3), 255, np.uint8)
    base[900:1000, 3900:4000] = dots[201:301, 283:383]  # dot at 3950, 950
    level = slides.halve(slides.halve(base))
    path = slides.write_levels(tmp_path / "a.tiff", [base, level])
    with by(reader, path) as slide:
        assert slide.info.level_downsamples == (1.0, 4.0)
        x, y = centroid(slide.read(3900, 900, 100, 100, size=(25, 25)))
    assert 3900 + 4 * x == pytest.approx(3950, abs=0.1)
    assert 900 + 4 * y == pytest.approx(950, abs=0.1)


# --- bounds and transparency --------------------------------------------------------------------------


def test_scn_bounds_are_where_the_pixels_are(scn: Path, field: slides.Array) -> None:
    with open_slide(scn) as slide:
        info = slide.info
        assert (info.vendor, info.reader) == ("leica", "openslide")
        assert (info.width, info.height) == (2000, 1500)
        assert (info.bounds, info.has_bounds) == ((300, 200, 1024, 768), True)
        assert info.mpp == pytest.approx(0.5, rel=1e-3)
        picture = slide.read(0, 0, 2000, 1500)
    assert (picture[:200] == 255).all()
    assert (picture[:, :300] == 255).all()
    assert (picture[969:] == 255).all()
    scan = picture[200:968, 300:1324].astype(int)
    assert np.abs(scan - field[:768, :1024]).mean() < 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (240, 238, 241), (0, 0, 0)])
def test_transparency_is_composited_on_the_background(scn: Path, colour: tuple[int, int, int]) -> None:
    with open_slide(scn) as slide:
        info = replace(slide.info, background=colour)
    with open_slide(scn, info=info) as slide:
        for picture in (slide.read(-50, -50, 200, 200), slide.read(0, 0, 250, 150, mpp=2.0)):
            assert (picture == colour).all()


# --- threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["vips", "openslide"])
def test_many_threads_read_what_one_reads(reader: str, svs: Path) -> None:
    rng = np.random.default_rng(0)
    windows = [(int(x), int(y)) for x, y in rng.integers(-100, 1400, (60, 2))]
    with by(reader, svs) as slide:
        alone = [slide.read(x, y, 200, 200, size=(150, 150)) for x, y in windows]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda at: slide.read(*at, 200, 200, size=(150, 150)), windows * 3))
    for index, picture in enumerate(together):
        np.testing.assert_array_equal(picture, alone[index % len(windows)])


# --- the whole slide ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [0.5, 0.9, 4.0, 8.0, 100.0, 5000.0])
def test_thumbnail_covers_the_slide_exactly(mpp: float, deflate_pyramid: Path, field: slides.Array) -> None:
    with open_slide(deflate_pyramid) as slide:
        overview = slide.overview(mpp, threads=2)
        np.testing.assert_array_equal(slide.thumbnail(mpp), overview.pixels)
    cols, rows = max(1, round(1501 * 0.5 / mpp)), max(1, round(1103 * 0.5 / mpp))
    assert overview.pixels.shape == (rows, cols, 3)
    assert overview.step == (1501 / cols, 1103 / rows)
    assert overview.readable.all()
    assert abs(overview.pixels.mean() - field.mean()) < 2


def test_thumbnail_does_not_depend_on_blocks(deflate_pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(deflate_pyramid) as slide:
        whole = slide.thumbnail(1.1)
        monkeypatch.setattr("ercohort.slide.overview._BLOCK_PX", 100)
        assert np.abs(slide.thumbnail(1.1).astype(int) - whole).max() <= 1


# --- files that are no slides -------------------------------------------------------------------------


def trouble(path: Path) -> SlideError:
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert trouble(tmp_path / "no.svs").status is Status.MISSING


def test_mirax_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8 a JPEG")
    error = trouble(tmp_path / "a.mrxs")
    assert error.status is Status.UNREADABLE
    assert "a/" in error.message
    assert "Slidedat.ini" in error.message


def test_the_mirax_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Slidedat.ini").write_text("[GENERAL]")
    error = trouble(tmp_path / "a")
    assert error.status is Status.UNREADABLE
    assert "a.mrxs" in error.message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.svs", b"", "empty"),
        ("text.svs", b"patient list\n" * 100, "no slide format"),
        ("junk.tiff", b"II*\0" + b"\xff" * 500, "damaged"),
    ],
)
def test_files_that_are_no_slide(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    error = trouble(tmp_path / name)
    assert error.status is Status.UNREADABLE
    assert says in error.message


def test_a_folder_without_a_slide(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    error = trouble(tmp_path)
    assert error.status is Status.UNREADABLE
    assert "DICOM" in error.message


# --- DICOM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [".", "level-0.dcm", "a-level-1.dcm"])
def test_dicom_opens_by_its_folder_or_any_file(part: str, field: slides.Array, tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "slide", field)
    with open_slide(folder / part) as slide:
        info = slide.info
        picture = slide.read(0, 0, 1501, 1103)
    assert (info.vendor, info.reader) == ("dicom", "openslide")
    assert (info.width, info.height) == (1501, 1103)
    assert info.level_downsamples == (1.0, 2.0)
    assert info.mpp == pytest.approx(0.5)
    assert info.file_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert np.abs(picture.astype(int) - field).mean() < 2
