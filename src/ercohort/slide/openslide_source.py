"""Pixels of one level through OpenSlide."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from ercohort.errors import SlideError, Status


@dataclass(frozen=True)
class Patch:
    """Pixels of a level, and where they lie.

    `pixels` is (rows, cols, 3) uint8; its upper left corner is at `x`, `y` in pixels of the level. These
    are whole numbers except where the library could only give pixels that lie between the level's own: then
    they are off what was asked for by less than half a pixel.
    """

    pixels: NDArray[np.uint8]
    x: float
    y: float


class OpenSlideSource:
    """A slide opened by OpenSlide; many threads may read from it.

    An OpenSlide handle that met an error refuses every later read. The handle is therefore replaced, and the
    read is tried once more on a handle of its own: only then is it known to be the window that is bad, and
    not a neighbour's.
    """

    def __init__(self, path: str, background: tuple[int, int, int] | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._handle = openslide.OpenSlide(path)
        self.properties = dict(self._handle.properties)
        self.level_dimensions = self._handle.level_dimensions
        self.level_downsamples = self._handle.level_downsamples
        self.background = background or _background(self.properties)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Patch:
        """Read a window given in pixels of `level`; transparent pixels are composited on the background.

        Raises
        ------
        SlideError
            `unreadable`, if these pixels cannot be decoded.
        """
        # OpenSlide takes level-0 coordinates, and interpolates where these fall between pixels of the level.
        downsample = self.level_downsamples[level]
        x0, y0 = round(x * downsample), round(y * downsample)
        handle = self._handle
        try:
            image = handle.read_region((x0, y0), level, (width, height))
        except openslide.OpenSlideError:
            image = self._read_again(handle, (x0, y0), level, (width, height))
        return Patch(_composite(image, self.background), x0 / downsample, y0 / downsample)

    def _read_again(
        self, failed: openslide.OpenSlide, place: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        try:
            with self._lock:
                if self._handle is failed:
                    # Not closed here: another thread may still be inside it. It closes with its last user.
                    self._handle = openslide.OpenSlide(self.path)
            with openslide.OpenSlide(self.path) as own:
                return own.read_region(place, level, size)
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                Status.UNREADABLE,
                f"{self.path}: pixels at x {place[0]}, y {place[1]} of level {level} cannot be decoded "
                f"({error}); copy or scan the slide again",
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _composite(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    low, _ = image.getchannel("A").getextrema()
    if low == 255:
        return np.asarray(image.convert("RGB"))
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return np.asarray(canvas)


def _background(properties: dict[str, str]) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        return 255, 255, 255
    return red, green, blue


def find_openable(path: Path) -> Path:
    """Return the file to open: `path`, or for a DICOM folder the first file that OpenSlide accepts.

    Raises
    ------
    SlideError
        `missing` or `unreadable`, saying what to do.
    """
    if not path.exists():
        raise SlideError(Status.MISSING, f"{path}: no such file; check the `path` column of the sheet")
    if path.is_dir():
        return _find_in_folder(path)
    if path.suffix.lower() == ".mrxs" and not path.with_suffix("").is_dir():
        raise SlideError(
            Status.UNREADABLE,
            f"{path}: the folder {path.with_suffix('').name}/ (Slidedat.ini, Data*.dat) is not beside it; "
            "copy it too",
        )
    if not path.is_file():
        raise SlideError(Status.UNREADABLE, f"{path}: not a file; check the `path` column of the sheet")
    if not os.access(path, os.R_OK):
        raise SlideError(Status.UNREADABLE, f"{path}: may not be read by this user; check its rights")
    if path.stat().st_size == 0:
        raise SlideError(Status.UNREADABLE, f"{path}: the file is empty; copy it again")
    return path


def _find_in_folder(folder: Path) -> Path:
    mirax = folder.with_name(folder.name + ".mrxs")
    if (folder / "Slidedat.ini").exists():
        raise SlideError(
            Status.UNREADABLE, f"{folder}: a MIRAX folder; give the path of {mirax.name} instead"
        )
    for file in sorted(item for item in folder.iterdir() if item.is_file()):
        try:
            if openslide.OpenSlide.detect_format(file) == "dicom":
                openslide.OpenSlide(file).close()
                return file
        except openslide.OpenSlideError:
            continue
    raise SlideError(
        Status.UNREADABLE, f"{folder}: a folder without a DICOM slide; give a slide file, or a DICOM folder"
    )
