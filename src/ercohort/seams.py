"""Seams: what a tile says about its nuclei, and which boxes of two tiles are one nucleus.

Every nucleus must come out once, wherever the cores' borders run. Two rules see to it.

**Ownership** (`emit`). A tile emits a box when the centre lies in its core, or outside by no more than
`SLACK_PX`. Two tiles see one nucleus with slightly different edges; were the border sharp, each could place
the centre on the other's side and nobody would count it. As long as every estimate of a centre is right
within the slack, at least one tile emits the nucleus. Half a nucleus at a window's edge has its centre in
the halo, so it is not emitted at all: the halo, not suppression, keeps halves out. Only a nucleus wider than
about twice the halo is emitted *cut*.

**Twins** (`twins.resolve`). What two tiles both emit has to be one again. The outcome for a box depends on
nothing but its connected component of candidate twins, so a shard resolves the components that no other
shard's tile can reach, and hands all members of the others, kept and dropped, to the merge as *open*. Any
layout of shards gives the same nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.kernels import njit
from ercohort.nms import Float32s, order_by, sortable
from ercohort.schema import DETECTIONS, class_names, with_classes
from ercohort.twins import SLACK_PX, resolve

if TYPE_CHECKING:
    from ercohort.backends.protocol import Tile

CUT_PX = 2.0
"""A box this near to a window's edge inside the slide counts as cut, pixels at the detector's scale."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """What a tile hands on.

    Attributes
    ----------
    index
        (M,) rows of the tile's boxes.
    boxes
        (M, 4) float32 x0, y0, x1, y1, level-0 pixels of the slide frame, clipped to the window and slide.
    cut
        (M,) whether the box touches a window edge that lies inside the slide.
    """

    index: NDArray[np.int64]
    boxes: Float32s
    cut: NDArray[np.bool_]


def emit(boxes: Float32s, tile: Tile, *, tile_px: int, slide_size: tuple[int, int]) -> Emitted:
    """Choose the boxes that a tile owns and place them on the slide.

    Parameters
    ----------
    boxes
        (N, 4) x0, y0, x1, y1 in pixels of the tile image, after the tile's NMS.
    tile
        Window and core; anything with the attributes of `backends.protocol.Tile`.
    tile_px
        Side of the tile image.
    slide_size
        Width and height of the slide, level-0 pixels.

    Notes
    -----
    The slack applies to cut boxes too: of a nucleus about as wide as twice the halo, both tiles can see a
    slightly cut box whose centre lies on the other's side.
    """
    scale = tile.width / tile_px
    left, top = max(tile.x, 0), max(tile.y, 0)
    right = min(tile.x + tile.width, slide_size[0])
    bottom = min(tile.y + tile.height, slide_size[1])
    placed = np.asarray(boxes, np.float64).reshape(-1, 4) * scale + (tile.x, tile.y, tile.x, tile.y)
    placed = placed.clip((left, top, left, top), (right, bottom, right, bottom))
    stored = placed.astype(np.float32)
    x0, y0, x1, y1 = stored.astype(np.float64).T
    center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
    slack = SLACK_PX * scale
    owned = (
        (center_x >= tile.core_x0 - slack)
        & (center_x < tile.core_x1 + slack)
        & (center_y >= tile.core_y0 - slack)
        & (center_y < tile.core_y1 + slack)
        & (x1 > x0)
        & (y1 > y0)
    )
    margin = CUT_PX * scale
    cut = np.zeros(len(stored), np.bool_)
    if tile.x > 0:
        cut |= x0 <= tile.x + margin
    if tile.y > 0:
        cut |= y0 <= tile.y + margin
    if tile.x + tile.width < slide_size[0]:
        cut |= x1 >= tile.x + tile.width - margin
    if tile.y + tile.height < slide_size[1]:
        cut |= y1 >= tile.y + tile.height - margin
    index = np.flatnonzero(owned)
    return Emitted(index, stored[index], cut[index])


def resolve_shard(
    detections: pl.DataFrame,
    tiles: pl.DataFrame,
    all_tiles: pl.DataFrame,
    *,
    scale: float,
    nms_iou: float,
    seam_ios: float,
) -> pl.DataFrame:
    """Resolve the seams inside a shard.

    Parameters
    ----------
    detections
        What the shard's tiles emitted, rows in any order: columns of `schema.DETECTIONS` but `open`.
    tiles, all_tiles
        The shard's rows of the manifest, and the whole manifest of the slide.
    scale
        Level-0 pixels per detector pixel: the detector's mpp over the slide's; the merge must get the same.
    nms_iou, seam_ios
        Settings of the same names.

    Returns
    -------
    pl.DataFrame
        Rows of `schema.DETECTIONS` in order of tile, y0, x0, y1, x1: kept boxes, and as `open` all members
        of components that another shard can reach.
    """
    detections = sort_by_tile(detections)
    boxes, score, tile_id, cut = columns_of(detections)
    seam, reachable = np.zeros(len(boxes), np.bool_), np.zeros(len(boxes), np.bool_)
    if len(boxes):
        seam, reachable = _near_other_tiles(boxes, tile_id, all_tiles, int(tiles["shard"][0]))
    near = np.flatnonzero(seam)
    kept_near, component = resolve(
        boxes[near], score[near], tile_id[near], cut[near], scale=scale, nms_iou=nms_iou, seam_ios=seam_ios
    )
    open_component = np.zeros(len(near), np.bool_)
    open_component[component[reachable[near]]] = True
    kept = np.ones(len(boxes), np.bool_)
    is_open = np.zeros(len(boxes), np.bool_)
    is_open[near] = open_component[component]
    kept[near] = kept_near | is_open[near]
    columns = with_classes(DETECTIONS, class_names(detections.schema["label"]))
    return (
        detections.with_columns(pl.Series("open", is_open))
        .filter(pl.Series(kept))
        .select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    )


def sort_by_tile(table: pl.DataFrame) -> pl.DataFrame:
    """Rows in order of tile, y0, x0, y1, x1: no two boxes of a tile agree in all of them."""
    tile = table["tile_id"].to_numpy().astype(np.uint32)
    x0, y0, x1, y1 = (table[name].to_numpy() for name in ("x0", "y0", "x1", "y1"))
    return table[order_by(tile, sortable(y0), x0, y1, x1)]


def columns_of(
    table: pl.DataFrame,
) -> tuple[Float32s, Float32s, NDArray[np.int32], NDArray[np.bool_]]:
    """Return the arrays that `resolve` takes."""
    boxes = np.empty((table.height, 4), np.float32)
    for i, name in enumerate(("x0", "y0", "x1", "y1")):
        boxes[:, i] = table[name].to_numpy()
    return boxes, table["score"].to_numpy(), table["tile_id"].to_numpy(), table["cut"].to_numpy()


def _near_other_tiles(
    boxes: Float32s, tile_id: NDArray[np.int32], tiles: pl.DataFrame, shard: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each box reaches into the window of another tile, and of a tile of another shard.

    Emitted boxes lie inside their tile's window, so one that does neither has no twin there.
    """
    core = int(tiles["core_x1"][0] - tiles["core_x0"][0])
    halo = int(tiles["core_x0"][0] - tiles["x"][0])
    left, top = int(tiles["core_x0"].min()), int(tiles["core_y0"].min())  # type: ignore[arg-type]
    column = (tiles["core_x0"].to_numpy() - left) // core
    row = (tiles["core_y0"].to_numpy() - top) // core
    shards = np.zeros((row.max() + 1, column.max() + 1), np.int32)
    shards[row, column] = tiles["shard"].to_numpy()
    ids = tiles["tile_id"].to_numpy()
    place = np.argsort(ids)[np.searchsorted(ids, tile_id, sorter=np.argsort(ids))]
    return _reach(boxes, row[place], column[place], shards, shard, core, halo, left, top)


@njit(cache=True, nogil=True)
def _reach(boxes, row, column, shards, shard, core, halo, left, top):  # type: ignore[no-untyped-def]
    n = boxes.shape[0]
    other_tile = np.zeros(n, np.bool_)
    other_shard = np.zeros(n, np.bool_)
    for i in range(n):
        first_column = max(int(np.floor((boxes[i, 0] - halo - left) / core)), 0)
        last_column = min(int(np.floor((boxes[i, 2] + halo - left) / core)), shards.shape[1] - 1)
        first_row = max(int(np.floor((boxes[i, 1] - halo - top) / core)), 0)
        last_row = min(int(np.floor((boxes[i, 3] + halo - top) / core)), shards.shape[0] - 1)
        for r in range(first_row, last_row + 1):
            for c in range(first_column, last_column + 1):
                if shards[r, c] > 0 and (r != row[i] or c != column[i]):
                    other_tile[i] = True
                    other_shard[i] |= shards[r, c] != shard
    return other_tile, other_shard
