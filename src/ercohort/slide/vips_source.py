"""Pixels of one level through libvips: three times as fast as OpenSlide on tiled TIFF and SVS.

libvips returns grey or black pixels, and no error, where a tile is damaged (JPEG and deflate, every
`fail_on`); what it does is to leave a message in its error buffer. So the buffer is looked at after every
read, and never emptied between reads: once it holds a message, nothing that libvips read since is trusted,
and OpenSlide, which does refuse damaged tiles, reads instead.
"""

from __future__ import annotations

import threading
from weakref import WeakSet

import numpy as np
import pyvips
from numpy.typing import NDArray
from pyvips import ffi, glib_lib, vips_lib

from ercohort.errors import SlideError
from ercohort.slide.openslide_source import OpenSlideSource, Patch
from ercohort.slide.tiff import TiffLayoutError, TiffPage, read_pages

# libvips remembers files that it opened: a file that was replaced would be read as it was before, and a
# forked process would share the file position of its parent.
pyvips.cache_set_max(0)

_VENDORS = ("generic-tiff", "aperio")
_COMPRESSIONS = (1, 5, 7, 8, 32946)  # none, LZW, JPEG, deflate (two codes)
_CHECK_PX = 96

_live: WeakSet[VipsSource] = WeakSet()
_live_lock = threading.Lock()


class VipsSource:
    """A tiled TIFF read by libvips; many threads may read from it.

    The image of a level is shared by all threads (its cache holds two rows of tiles over the whole width,
    some hundred megabytes on a wide slide); regions are not thread-safe, so each thread has its own.
    """

    def __init__(self, fallback: OpenSlideSource, pages: list[TiffPage]) -> None:
        self._fallback = fallback
        self._pages = pages
        self._images: dict[int, pyvips.Image] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        with _live_lock:
            if not _live:  # with another slide open, its damage must not be forgotten
                vips_lib.vips_error_clear()
            _live.add(self)

    @property
    def trusted(self) -> bool:
        """Whether libvips has met no damage so far."""
        return bool(ffi.string(vips_lib.vips_error_buffer()) == b"")

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Patch:
        """Read a window given in pixels of `level`, which must lie inside it.

        Raises
        ------
        SlideError
            `unreadable`, if these pixels cannot be decoded.
        """
        if self.trusted:
            pixels = self._fetch(level, x, y, width, height)
            if pixels is not None and self.trusted:
                return Patch(pixels, x, y)
        return self._fallback.read(level, x, y, width, height)

    def _fetch(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8] | None:
        # Not Region.fetch(): when that fails it empties the error buffer, under the eyes of other threads.
        size = ffi.new("size_t *")
        pointer = vips_lib.vips_region_fetch(self._region(level).pointer, x, y, width, height, size)
        if pointer == ffi.NULL:
            return None
        buffer = ffi.buffer(ffi.gc(pointer, glib_lib.g_free), size[0])
        if size[0] != height * width * 3:  # a directory that states its colours wrongly: libvips makes four
            return None
        return np.frombuffer(buffer, np.uint8).reshape(height, width, 3)

    def _region(self, level: int) -> pyvips.Region:
        regions: dict[int, pyvips.Region] = self._local.__dict__.setdefault("regions", {})
        if level not in regions:
            with self._lock:
                if level not in self._images:
                    self._images[level] = pyvips.Image.tiffload(
                        self._fallback.path, page=self._pages[level].index, access="random", fail_on="error"
                    )
            regions[level] = pyvips.Region.new(self._images[level])
        return regions[level]

    def close(self) -> None:
        """Close the file."""
        with _live_lock:
            _live.discard(self)
        self._images.clear()
        self._local = threading.local()
        self._fallback.close()


def match_pages(source: OpenSlideSource) -> list[TiffPage] | None:
    """Return the TIFF page of every level, or None if the layout is not one that libvips reads alike."""
    if source.properties.get("openslide.vendor") not in _VENDORS:
        return None
    try:
        pages = read_pages(source.path)
    except (TiffLayoutError, OSError):
        return None
    matched = []
    for size in source.level_dimensions:
        fitting = [page for page in pages if page.tiled and (page.width, page.height) == size]
        if len(fitting) != 1 or not _plain(fitting[0]):
            return None
        matched.append(fitting[0])
    return matched


def _plain(page: TiffPage) -> bool:
    return page.samples == 3 and page.bits == 8 and page.compression in _COMPRESSIONS


def agrees(source: OpenSlideSource, pages: list[TiffPage]) -> bool:
    """Tell whether libvips gives the pixels of OpenSlide, by small windows of every level."""
    vips = VipsSource(source, pages)
    try:
        return all(_same(vips, source, level, size) for level, size in enumerate(source.level_dimensions))
    except (pyvips.Error, SlideError):
        return False


def _same(vips: VipsSource, source: OpenSlideSource, level: int, size: tuple[int, int]) -> bool:
    width, height = min(size[0], _CHECK_PX), min(size[1], _CHECK_PX)
    for share in (0.0, 0.5, 1.0):
        x, y = int((size[0] - width) * share), int((size[1] - height) * share)
        expected = source.read(level, x, y, width, height)
        if (expected.x, expected.y) != (x, y):
            continue  # OpenSlide had to interpolate
        pixels = vips._fetch(level, x, y, width, height)
        if pixels is None or not vips.trusted or not np.array_equal(pixels, expected.pixels):
            return False
    return True
