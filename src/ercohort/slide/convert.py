"""Turning flat pictures, which cannot be read by region, into tiled pyramids."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ercohort.errors import SlideError, Status
from ercohort.files import atomic_path
from ercohort.slide import child
from ercohort.slide.info import resolve_mpp
from ercohort.slide.tiff import TiffLayoutError, read_pages

_FLAT = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (".tif", ".tiff")
_JPEG_QUALITY = 95

TIMEOUT_S = 3000.0
"""Seconds after which a conversion is given up; the largest pictures take some minutes."""

_CHANNELS = {"b-w": 1, "grey16": 1, "rgb": 3, "srgb": 3, "rgb16": 3, "cmyk": 4}
"""Colour channels of the pictures that are understood, by libvips' name; one more is transparency."""


def needs_conversion(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a flat picture: PNG, JPEG or BMP by name, or a TIFF without any tiled page.

    Reads no more than a TIFF's page list, in pure Python; False for what is missing or broken, or no file.
    """
    suffix = Path(path).suffix.lower()
    if Path(path).exists() and not Path(path).is_file():
        return False  # a pipe would be waited for without end
    if suffix in _FLAT:
        return True
    if suffix not in _TIFF:
        return False
    try:
        return not any(page.tiled for page in read_pages(Path(path)))
    except (TiffLayoutError, OSError):
        return False


def convert(path: str | os.PathLike[str], output: str | os.PathLike[str], *, mpp: float | None) -> None:
    """Write a flat picture as a tiled pyramidal TIFF, in constant memory, in a child process.

    The pixels stay as they are (deflate), except that a JPEG is stored as JPEG again (quality 95, colour
    not subsampled). Transparency is composited on white; 16-bit, grey, palette and CMYK pictures become
    8-bit RGB. The rotation that a camera noted is not applied: coordinates are those of the stored pixels.

    Parameters
    ----------
    mpp
        µm per pixel as the sheet states it; None to take a TIFF's own resolution, if it can be a slide's.

    Raises
    ------
    SlideError
        `missing`, `unreadable` or `no_mpp`.
    OSError
        Machine trouble, such as a full disk.
    """
    with atomic_path(output) as temporary:
        arguments = {"path": os.fspath(path), "output": str(temporary), "mpp": mpp}
        child.call("ercohort.slide.convert", arguments, path=os.fspath(path), timeout_s=TIMEOUT_S)


def _convert(path: str, output: str, mpp: float | None) -> None:
    import pyvips

    if not Path(path).is_file():
        raise SlideError(Status.MISSING, f"{path}: no such file; check the `path` column of the sheet")
    if Path(path).stat().st_size == 0:
        raise SlideError(Status.UNREADABLE, f"{path}: the file is empty; copy it again")
    try:
        picture, resolution = _open(path)
        mpp, _ = resolve_mpp(path, resolution, mpp)
        _as_rgb(picture, path).tiffsave(
            output,
            tile=True,
            tile_width=256,
            tile_height=256,
            pyramid=True,
            bigtiff=True,
            keep="none",
            xres=1000 / mpp,
            yres=1000 / mpp,
            **_compression(path),
        )
    except pyvips.Error as error:
        _raise(path, str(error))


def _open(path: str):  # type: ignore[no-untyped-def]
    """Return the picture, and its resolution as OpenSlide would state it."""
    import pyvips

    if Path(path).suffix.lower() == ".bmp":
        return _open_bmp(path), {}
    # To libvips most damage in a JPEG, and in a TIFF that holds JPEG, is worth no more than a warning.
    picture = pyvips.Image.new_from_file(path, access="sequential", fail_on="warning")
    # What PNG and JPEG state is for printing; 1 pixel per mm is what libvips makes of no statement.
    if Path(path).suffix.lower() not in _TIFF or picture.xres <= 1 or picture.yres <= 1:
        return picture, {}
    return picture, {"openslide.mpp-x": str(1000 / picture.xres), "openslide.mpp-y": str(1000 / picture.yres)}


def _open_bmp(path: str):  # type: ignore[no-untyped-def]
    import numpy as np
    import pyvips
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # this is a child process, for this picture only
    try:
        with Image.open(path) as image:
            return pyvips.Image.new_from_array(np.asarray(image.convert("RGB"))).copy(interpretation="srgb")
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise SlideError(
            Status.UNREADABLE, f"{path}: cannot be read as a picture ({error}); export it again"
        ) from None


def _as_rgb(picture, path: str):  # type: ignore[no-untyped-def]
    channels = _CHANNELS.get(picture.interpretation)
    if (
        channels is None
        or picture.bands - channels not in (0, 1)
        or picture.format not in ("uchar", "ushort")
    ):
        raise SlideError(
            Status.UNREADABLE,
            f"{path}: {picture.bands} channels of {picture.format} ({picture.interpretation}) are no colour "
            "picture; export it as 8-bit RGB",
        )
    has_alpha = picture.bands > channels
    picture = picture.colourspace("srgb")
    if has_alpha:
        picture = picture.flatten(background=[255, 255, 255])
    return picture.cast("uchar")


def _compression(path: str) -> dict[str, object]:
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        return {"compression": "jpeg", "Q": _JPEG_QUALITY}
    return {"compression": "deflate", "predictor": "horizontal", "level": 4}


def _raise(path: str, trouble: str) -> None:
    if "No space left" in trouble or "quota" in trouble:
        raise OSError(errno.ENOSPC, f"no space left on the disk while {path} was converted")
    reason = next((line for line in reversed(trouble.splitlines()) if line.strip()), "unknown error")
    raise SlideError(
        Status.UNREADABLE,
        f"{path}: damaged, or not a picture that can be read ({reason.strip()}); export it again",
    )


if __name__ == "__main__":
    child.serve(_convert)
