"""Flat pictures become slides of the same pixels."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ercohort.errors import SlideError, Status
from ercohort.slide import open_slide
from ercohort.slide.convert import convert, needs_conversion
from tests import slides


@pytest.fixture(scope="module")
def picture() -> slides.Array:
    return slides.stained_field(701, 503, seed=3)


def converted(path: Path, mpp: float | None = 0.25) -> np.ndarray:
    """Return all pixels of a picture after its conversion."""
    output = path.parent / "out" / "slide.tiff"
    convert(path, output, mpp=mpp)
    with open_slide(output) as slide:
        assert slide.info.reader == "vips"
        assert slide.info.mpp == pytest.approx(mpp or 0.25, rel=1e-6)
        assert len(slide.info.level_dimensions) > 1
        return slide.read(0, 0, slide.info.width, slide.info.height)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.PNG", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("b.tif", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_lossless_pictures_keep_every_pixel(
    name: str, options: dict[str, str], picture: slides.Array, tmp_path: Path
) -> None:
    Image.fromarray(picture).save(tmp_path / name, **options)
    assert needs_conversion(tmp_path / name)
    np.testing.assert_array_equal(converted(tmp_path / name), picture)


def test_jpeg_stays_close(picture: slides.Array, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=90)
    source = np.asarray(Image.open(path)).astype(int)
    difference = np.abs(converted(path) - source)
    assert difference.mean() < 1.5
    assert (tmp_path / "out" / "slide.tiff").stat().st_size < picture.nbytes / 2


def test_transparency_is_composited_on_white(picture: slides.Array, tmp_path: Path) -> None:
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:100, :100] = 0
    alpha[:100, 100:200] = 128
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    pixels = converted(tmp_path / "a.png")
    assert (pixels[:100, :100] == 255).all()
    half = picture[:100, 100:200].astype(int) // 2 + 127
    assert np.abs(pixels[:100, 100:200].astype(int) - half).max() <= 2
    np.testing.assert_array_equal(pixels[100:], picture[100:])


def test_sixteen_bits_and_grey_become_eight_bit_rgb(picture: slides.Array, tmp_path: Path) -> None:
    deep = picture.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "rgb16.tif", deep, photometric="rgb")
    np.testing.assert_array_equal(converted(tmp_path / "rgb16.tif"), picture)
    grey = np.repeat(picture[..., :1], 3, axis=2)
    Image.fromarray(deep[..., 0]).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(converted(tmp_path / "grey16.png"), grey)
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(converted(tmp_path / "grey.png"), grey)


def test_palette_and_cmyk_keep_their_look(picture: slides.Array, tmp_path: Path) -> None:
    palette = Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(converted(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.tif")
    difference = converted(tmp_path / "cmyk.tif").astype(int) - picture
    assert np.abs(difference.mean()) < 30  # inks are no light: hues shift, bright stays bright


def test_a_tiffs_own_scale_is_taken_if_the_sheet_is_silent(picture: slides.Array, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture,
        photometric="rgb",
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    np.testing.assert_array_equal(converted(tmp_path / "a.tif", mpp=None), picture)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_no_scale_names_the_cure(name: str, picture: slides.Array, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / name, dpi=(96, 96))
    with pytest.raises(SlideError, match="`mpp` column") as caught:
        convert(tmp_path / name, tmp_path / "out.tiff", mpp=None)
    assert caught.value.status is Status.NO_MPP
    assert [path.name for path in tmp_path.iterdir()] == [name]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "zeroed":
        data[len(data) // 3 : len(data) * 2 // 3] = bytes(len(data) * 2 // 3 - len(data) // 3)
    else:
        data = bytearray(b"no picture at all " * 20 if how == "text" else b"")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in ("a.png", "a.jpg", "a.tif") for how in ("cut", "zeroed", "text", "empty")]
    + [("a.bmp", how) for how in ("cut", "text", "empty")],  # zeros in a BMP are black pixels
)
def test_damaged_pictures_are_unreadable(name: str, how: str, picture: slides.Array, tmp_path: Path) -> None:
    path = tmp_path / name
    options = {"compression": "tiff_adobe_deflate"} if name == "a.tif" else {}
    Image.fromarray(picture).save(path, **options)
    damage(path, how)
    with pytest.raises(SlideError) as caught:
        convert(path, tmp_path / "out.tiff", mpp=0.25)
    assert caught.value.status is Status.UNREADABLE
    assert str(path) in caught.value.message
    assert "again" in caught.value.message
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("side", [60_000, 2_000_000, 2**31 - 1])
def test_a_small_file_that_states_a_huge_picture_is_unreadable(
    side: int, picture: slides.Array, tmp_path: Path
) -> None:
    """A BMP is decoded whole: its size must not fill the machine."""
    path = tmp_path / "a.bmp"
    Image.fromarray(picture).save(path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<ii", data, 18, side, side)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="export it") as caught:
        convert(path, tmp_path / "out.tiff", mpp=0.25)
    assert caught.value.status is Status.UNREADABLE


def test_a_damaged_strip_of_jpeg_is_unreadable(picture: slides.Array, tmp_path: Path) -> None:
    """libvips reads such a strip as grey, and says nothing."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", compression="jpeg", rowsperstrip=64)
    slides.damage_tile(path, path, 3, start=0.5)
    with pytest.raises(SlideError, match="export it again") as caught:
        convert(path, tmp_path / "out.tiff", mpp=0.25)
    assert caught.value.status is Status.UNREADABLE


def test_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(SlideError) as caught:
        convert(tmp_path / "a.png", tmp_path / "out.tiff", mpp=0.25)
    assert caught.value.status is Status.MISSING


def test_pictures_that_are_no_colour_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((99, 99, 3), np.float32), photometric="rgb")
    with pytest.raises(SlideError, match="8-bit RGB") as caught:
        convert(tmp_path / "f.tif", tmp_path / "out.tiff", mpp=0.25)
    assert caught.value.status is Status.UNREADABLE


def test_slides_need_no_conversion(
    jpeg_pyramid: Path, svs: Path, scn: Path, field: slides.Array, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.tif"
    strange.write_bytes(b"II*\0\xff\xff\xff\xff")
    for path in (jpeg_pyramid, svs, scn, strange, tmp_path / "missing.tif", tmp_path / "a.ndpi"):
        assert not needs_conversion(path)
    assert needs_conversion(tmp_path / "missing.JPEG")


def test_a_flat_label_page_does_not_make_a_slide_flat(field: slides.Array, tmp_path: Path) -> None:
    path = tmp_path / "label-first.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(field[:100, :100], photometric="rgb")
        tiff.write(field, tile=(256, 256), photometric="rgb")
    assert not needs_conversion(path)
