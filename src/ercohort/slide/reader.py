"""One object for every slide: windows at any scale, as RGB, also where they hang over the edge."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import openslide
from numpy.typing import NDArray

from ercohort.errors import SlideError, Status
from ercohort.slide.fingerprint import bytes_on_disk
from ercohort.slide.info import (
    SIMULATED,
    SlideInfo,
    check_size,
    resolve_mpp,
    snap_downsample,
    stated_mpp,
)
from ercohort.slide.openslide_source import OpenSlideSource, Patch, find_openable
from ercohort.slide.overview import Overview, read_overview
from ercohort.slide.tiff import TiffLayoutError, read_pages
from ercohort.slide.vips_source import VipsSource, agrees, match_pages

_LEVEL_TOLERANCE = 1.01
"""A level that is coarser than asked by less than this is not worth the finer one's cost."""


class _Source(Protocol):
    def read(self, level: int, x: int, y: int, width: int, height: int) -> Patch: ...
    def close(self) -> None: ...


class Slide:
    """An open slide; many threads may call `read` at once. Use it in a `with` block, or `close` it.

    Never fork a process that holds one: the libraries' open files would be shared.
    """

    def __init__(self, source: _Source, info: SlideInfo) -> None:
        self._source: _Source | None = source
        self.info = info

    def read(
        self,
        x: int,
        y: int,
        w: int,
        h: int,
        *,
        size: tuple[int, int] | None = None,
        mpp: float | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Read a window.

        Parameters
        ----------
        x, y, w, h
            Window in level-0 pixels of the slide frame. What hangs over the slide is background.
        size
            Width and height of the result in pixels. Pixel (i, j) of the result covers exactly its share of
            the window: no half-pixel is lost, whatever the levels of the slide.
        mpp
            Or the scale of the result, µm per pixel. Without both, the result is level 0 as it is.
        out
            Array to write to, (rows, cols, 3) uint8.

        Returns
        -------
        (rows, cols, 3) uint8 RGB; `out` if it was given.

        Raises
        ------
        SlideError
            `unreadable`, if these pixels cannot be decoded. Other windows still can be read afterwards.
        """
        if size is None:
            factor = 1.0 if mpp is None else self.info.mpp / mpp
            size = max(1, round(w * factor)), max(1, round(h * factor))
        shape = (size[1], size[0], 3)
        if out is None:
            out = np.empty(shape, np.uint8)
        elif out.shape != shape:
            raise ValueError(f"out is {out.shape}, the window needs {shape}")
        level = self.level_for(min(w / size[0], h / size[1]))
        scale = self.info.level_downsamples[level]
        start = (x / scale, y / scale)
        step = (w / scale / size[0], h / scale / size[1])
        self.read_level(level, start, step, out)
        return out

    def read_level(
        self, level: int, start: tuple[float, float], step: tuple[float, float], out: NDArray[np.uint8]
    ) -> None:
        """Fill `out` from a level; `start` and `step` are pixels of that level, and need not be whole.

        Raises
        ------
        SlideError
            `unreadable`, if these pixels cannot be decoded.
        """
        rows, cols = out.shape[:2]
        if step == (1.0, 1.0) and float(start[0]).is_integer() and float(start[1]).is_integer():
            left, top = int(start[0]), int(start[1])
            patch = self._padded(level, left, top, left + cols, top + rows)
            if (patch.x, patch.y) == (left, top):
                out[:] = patch.pixels
                return
        # Imported late: numba costs more time to load than most slides do to open.
        from ercohort.slide.resample import resample

        margin = 1  # linear interpolation looks at a neighbour
        patch = self._padded(
            level,
            math.floor(start[0]) - margin,
            math.floor(start[1]) - margin,
            math.ceil(start[0] + step[0] * cols) + margin,
            math.ceil(start[1] + step[1] * rows) + margin,
        )
        resample(patch.pixels, (start[0] - patch.x, start[1] - patch.y), step, out)

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """Return the whole slide at about `mpp` µm per pixel; what cannot be read is background.

        Raises
        ------
        SlideError
            `unreadable`, if nothing of it can be read.
        """
        return self.overview(mpp).pixels

    def overview(self, mpp: float, *, threads: int = 1) -> Overview:
        """Return the whole slide at about `mpp` µm per pixel, and which parts of it cannot be read.

        Raises
        ------
        SlideError
            `unreadable`, if nothing of it can be read.
        """
        return read_overview(self, mpp, threads)

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is as fine as `downsample`, or about so."""
        fine_enough = [
            level
            for level, value in enumerate(self.info.level_downsamples)
            if value <= downsample * _LEVEL_TOLERANCE
        ]
        return max(fine_enough, key=lambda level: self.info.level_downsamples[level], default=0)

    def _padded(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Patch:
        """Read [x0, x1) x [y0, y1) of a level, with background where the level has no pixels."""
        source = self.source
        width, height = self.info.level_dimensions[level]
        left, right = max(x0, 0), min(x1, width)
        top, bottom = max(y0, 0), min(y1, height)
        if left >= right or top >= bottom:
            return Patch(self._canvas(x1 - x0, y1 - y0), x0, y0)
        patch = source.read(level, left, top, right - left, bottom - top)
        if (left, top, right, bottom) == (x0, y0, x1, y1):
            return patch
        canvas = self._canvas(x1 - x0, y1 - y0)
        canvas[top - y0 : bottom - y0, left - x0 : right - x0] = patch.pixels
        return Patch(canvas, x0 + patch.x - left, y0 + patch.y - top)

    def _canvas(self, width: int, height: int) -> NDArray[np.uint8]:
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = self.info.background
        return canvas

    @property
    def source(self) -> _Source:
        """What decodes the pixels of one level.

        Raises
        ------
        ValueError
            The slide is closed.
        """
        if self._source is None:
            raise ValueError(f"{self.info.path}: the slide is closed")
        return self._source

    def close(self) -> None:
        """Close the file; later reads raise ValueError."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_slide(
    path: str | os.PathLike[str], *, mpp: float | None = None, info: SlideInfo | None = None
) -> Slide:
    """Open a slide that OpenSlide can read.

    Parameters
    ----------
    path
        The slide's file; for DICOM the folder or any of its files.
    mpp
        µm per pixel as the sheet states it: it beats the file's.
    info
        What an earlier `open_slide` of the same file found. It saves the check that libvips and OpenSlide
        give the same pixels.

    Raises
    ------
    SlideError
        `missing`, `unreadable` or `no_mpp`; the message names the cure.
    """
    file = _openable(Path(path))
    try:
        source = OpenSlideSource(str(file), info.background if info else None)
    except openslide.OpenSlideUnsupportedFormatError:
        raise SlideError(Status.UNREADABLE, f"{path}: {_why_unsupported(file)}") from None
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(
            Status.UNREADABLE, f"{path}: cannot be opened ({error}); check the file, copy it again"
        ) from None
    try:
        if info is None:
            info = _describe(file, source, mpp)
        elif mpp is not None:
            value, origin = resolve_mpp(str(file), source.properties, mpp)
            info = replace(info, mpp=value, mpp_source=origin)
        return Slide(_choose(source, info), info)
    except BaseException:
        source.close()
        raise


def _why_unsupported(file: Path) -> str:
    with open(file, "rb") as handle:
        looks_like_tiff = handle.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if not looks_like_tiff:
        return "no slide format that OpenSlide knows; export it as SVS or as a tiled pyramidal TIFF"
    try:
        read_pages(file)
    except TiffLayoutError as error:
        return f"a TIFF that is damaged or was copied only in part ({error}); copy it again"
    return "a TIFF, but no slide that OpenSlide knows; export it as SVS or as a tiled pyramidal TIFF"


def _openable(path: Path) -> Path:
    try:
        return find_openable(path)
    except OSError as error:
        raise SlideError(
            Status.UNREADABLE, f"{path}: cannot be read ({error.strerror}); check its rights"
        ) from None


def _choose(source: OpenSlideSource, info: SlideInfo) -> _Source:
    pages = match_pages(source) if info.reader == "vips" else None
    return VipsSource(source, pages) if pages is not None else source


def _describe(file: Path, source: OpenSlideSource, mpp: float | None) -> SlideInfo:
    properties = source.properties
    value, origin = resolve_mpp(str(file), properties, mpp)
    width, height = source.level_dimensions[0]
    check_size(str(file), width, height, value)
    _check_layout(file, source)
    vendor = properties.get("openslide.vendor", "unknown")
    bounds = _bounds(properties, width, height)
    pages = match_pages(source)
    return SlideInfo(
        path=str(file),
        vendor=vendor,
        width=width,
        height=height,
        mpp=value,
        mpp_source=origin,
        level_dimensions=source.level_dimensions,
        level_downsamples=tuple(
            snap_downsample(downsample, (width, height), size)
            for downsample, size in zip(source.level_downsamples, source.level_dimensions, strict=True)
        ),
        bounds=bounds or (0, 0, width, height),
        has_bounds=bounds is not None,
        background=source.background,
        reader="vips" if pages is not None and agrees(source, pages) else "openslide",
        file_bytes=bytes_on_disk(file),
        simulated=properties.get("openslide.comment") == SIMULATED,
        file_mpp=stated_mpp(properties),
    )


def _check_layout(file: Path, source: OpenSlideSource) -> None:
    """Refuse a TIFF whose levels contradict themselves: it would be read without an error, and wrongly."""
    try:
        pages = read_pages(file)
    except (TiffLayoutError, OSError):
        return  # no TIFF, or one that only OpenSlide understands
    for page in pages:
        if page.fault is not None and (page.width, page.height) in source.level_dimensions:
            raise SlideError(Status.UNREADABLE, f"{file}: damaged ({page.fault}); copy it again")


def _bounds(properties: dict[str, str], width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return the scanned part, if the file names one on the slide; all four or none, as in QuPath."""
    try:
        x, y, w, h = (int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    on_slide = 0 <= x < width and 0 <= y < height and w > 0 and h > 0
    return (x, y, min(w, width - x), min(h, height - y)) if on_slide else None
