"""The pixels of a slide by tile of the viewer, read when they are asked for."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from ercohort.errors import SlideError
from ercohort.record import SlideRecord
from ercohort.report.nuclei_tiles import TILE
from ercohort.slide import Slide, SlideInfo, open_slide

QUALITY = 85


class SlideTiles:
    """One slide of a results folder; many threads may ask for tiles at once.

    A tile at zoom `k` shows TILE x TILE pixels of 2**k level-0 pixels each; its origin is the slide's scanned
    part. Tiles coarser than the tissue mask are cut from the thumbnail, which every run writes.

    Parameters
    ----------
    folder
        The slide's folder in the results.
    record
        Its `slide.json`, of a slide that could be opened.
    """

    def __init__(self, folder: Path, record: SlideRecord) -> None:
        assert record.info is not None
        self.info: SlideInfo = record.info
        self._folder = folder
        self._down = record.tissue.downsample_x if record.tissue else math.inf
        self._thumbnail: Image.Image | None = None
        self.trouble = ""
        self._slide = self._open()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the scanned part, level-0 pixels."""
        return self.info.bounds[2], self.info.bounds[3]

    @property
    def greatest_zoom(self) -> int:
        """Zoom at which one tile holds the slide."""
        return max(math.ceil(math.log2(max(self.size) / TILE)), 0)

    def tile(self, zoom: int, column: int, row: int) -> bytes | None:
        """Return a tile as JPEG; None if no such tile is on the slide."""
        width, height = self.size
        scale = 2**zoom
        x, y = column * TILE * scale, row * TILE * scale
        if not (0 <= zoom <= self.greatest_zoom and 0 <= x < width and 0 <= y < height):
            return None
        w, h = min(TILE * scale, width - x), min(TILE * scale, height - y)
        size = max(math.ceil(w / scale), 1), max(math.ceil(h / scale), 1)
        text = io.BytesIO()
        self._picture(x, y, w, h, size, scale).save(text, "JPEG", quality=QUALITY)
        return text.getvalue()

    def _open(self) -> Slide | None:
        """Open the file where the run did, seen from here or from the folder that holds the results."""
        places: list[str | Path] = [self.info.path, self._folder.parents[2] / self.info.path]
        said = []
        for path in places:
            try:
                return open_slide(path, info=self.info)
            except SlideError as error:
                said.append(error.message)
        self.trouble = f"{said[0]}; the thumbnail of the run is shown"
        return None

    def _picture(self, x: int, y: int, w: int, h: int, size: tuple[int, int], scale: int) -> Image.Image:
        left, top = self.info.bounds[:2]
        if self._slide is not None and scale < self._down:
            try:
                return Image.fromarray(self._slide.read(left + x, top + y, w, h, size=size))
            except SlideError:
                return Image.fromarray(np.full((size[1], size[0], 3), 214, np.uint8))
        whole = self._whole()
        down = self.info.width / whole.width, self.info.height / whole.height
        box = ((left + x) / down[0], (top + y) / down[1], (left + x + w) / down[0], (top + y + h) / down[1])
        return whole.resize(size, Image.Resampling.BILINEAR, box=box)

    def _whole(self) -> Image.Image:
        if self._thumbnail is None:
            self._thumbnail = Image.open(self._folder / "thumbnail.jpg").convert("RGB")
        return self._thumbnail

    def close(self) -> None:
        """Close the file."""
        if self._slide is not None:
            self._slide.close()
