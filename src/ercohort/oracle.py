"""A detector that knows the truth, in place of the network: what tiles, NMS and seams do is then exact.

It takes planted nuclei and returns those that a window sees, cut at the window's edge. Whatever comes out
wrong at the other end is the fault of tiling and merging alone.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.backends.protocol import Slot, Tile
from ercohort.backends.slots import Found, SlotBackend
from ercohort.config import DetectSettings
from ercohort.model import ModelInfo
from ercohort.nms import Float32s, greedy_nms
from ercohort.schema import class_index, class_names


def visible(
    nuclei: NDArray[np.floating], window: tuple[int, int, int, int], tile_px: int
) -> tuple[Float32s, NDArray[np.int64]]:
    """Find the nuclei that a window sees, cut at its edge.

    Parameters
    ----------
    nuclei
        (N, 4) x0, y0, x1, y1, level-0 pixels.
    window
        x, y, width, height, level-0 pixels.
    tile_px
        Side of the tile image.

    Returns
    -------
    boxes
        (M, 4) float32, pixels of the tile image.
    index
        (M,) rows of `nuclei`.
    """
    x, y, width, height = window
    x0, y0, x1, y1 = nuclei.T
    index = np.flatnonzero((x1 > x) & (x0 < x + width) & (y1 > y) & (y0 < y + height))
    corner = np.array([x, y, x, y])
    scale = np.array([width, height, width, height]) / tile_px
    boxes = (nuclei[index].astype(np.float64) - corner) / scale
    return boxes.clip(0, tile_px).astype(np.float32), index


class OracleBackend(SlotBackend):
    """Implements `backends.protocol.Backend` with planted nuclei.

    Parameters
    ----------
    nuclei
        Columns x0, y0, x1, y1 (level-0 pixels), score and label of `schema.NUCLEI`; the label's classes are
        the detector's.
    tile_px, mpp
        Side of a tile image and its scale, µm per pixel.
    detect
        `score` and `nms_iou` act as they do on a network's output.
    threads
        Readers of the detection stage.
    """

    def __init__(
        self, nuclei: pl.DataFrame, *, tile_px: int, mpp: float, detect: DetectSettings, threads: int = 2
    ) -> None:
        labels = class_names(nuclei.schema["label"])
        model = ModelInfo("", "", "oracle", "", mpp, tile_px, None, labels)
        images = [np.zeros((tile_px, tile_px, 3), np.uint8) for _ in range(2 * threads)]
        super().__init__(images, name="oracle", precision="f32", device="none", model=model, threads=threads)
        self._nms_iou = detect.nms_iou
        # By their upper edge, so that a window looks only at its own rows of a large slide.
        nuclei = nuclei.filter(pl.col("score") > detect.score).sort("y0")
        self._boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float64)
        self._score = nuclei["score"].to_numpy().astype(np.float32)
        self._label = class_index(nuclei["label"]).astype(np.uint8)
        self._tallest = float((self._boxes[:, 3] - self._boxes[:, 1]).max(initial=0.0))

    def _start(self, slot: Slot) -> None:
        self._started(slot)

    def _wait(self, slot: Slot) -> float:
        return perf_counter()

    def _collect(self, slot: Slot) -> Found:
        assert slot.tile is not None
        return self.look(slot.tile)

    def look(self, tile: Tile) -> Found:
        """Return boxes in pixels of the tile image, scores and labels of what a tile sees."""
        first, last = np.searchsorted(self._boxes[:, 1], (tile.y - self._tallest, tile.y + tile.height))
        window = (tile.x, tile.y, tile.width, tile.height)
        boxes, index = visible(self._boxes[first:last], window, self.tile_px)
        index += first
        # A sliver can lose its area to rounding.
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, index = boxes[seen], index[seen]
        kept = greedy_nms(boxes, self._score[index], self._nms_iou)
        return boxes[kept], self._score[index[kept]], self._label[index[kept]]
