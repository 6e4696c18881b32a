"""The tile manifest of a slide: which windows the detector is given, and what each of them owns.

Cores tile the plane without gaps, starting at the slide's bounds; a window is its core grown by the halo.
Windows may hang over the slide's edge: the reader pads them, so nothing at the edge is lost. A tile is
kept when its core touches tissue. A nucleus whose centre lies in a core that was not kept is outside
tissue by definition and is not counted, unless it lies within the slack of a kept core (see `seams.emit`).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.config import TileSettings
from ercohort.schema import TILES


def make_tiles(
    *,
    width: int,
    height: int,
    bounds: tuple[int, int, int, int],
    slide_mpp: float,
    detector_mpp: float,
    settings: TileSettings,
    mask: NDArray[np.bool_],
    downsample_x: float,
    downsample_y: float,
    n_shards: int,
) -> pl.DataFrame:
    """Cut a slide into tiles and keep those whose core touches tissue.

    Parameters
    ----------
    width, height
        Size of the slide, level-0 pixels.
    bounds
        x, y, width, height of the scanned area, level-0 pixels; cores start at its corner and cover it.
    slide_mpp, detector_mpp
        µm per pixel of level 0 and of the detector's input.
    settings
        Side of a tile and of its halo, pixels at the detector's scale.
    mask
        (rows, cols) tissue mask; pixel (row, col) covers level 0 from (col * downsample_x,
        row * downsample_y) to one pixel further.
    downsample_x, downsample_y
        Level-0 pixels per mask pixel.
    n_shards
        Number of shards, as for `split`.

    Returns
    -------
    pl.DataFrame
        Columns of `schema.TILES` and `shard`, row-major. `tile_id` is the tile's place in the full grid
        over the bounds, so it does not depend on the mask; `tissue_fraction` is tissue over core area. No
        tissue gives no rows.

    Raises
    ------
    ValueError
        `n_shards` below 1 or bounds that leave the slide.
    """
    if n_shards < 1:
        raise ValueError(f"n_shards is {n_shards}; it must be at least 1")
    x, y, w, h = bounds
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise ValueError(f"bounds {bounds} leave the slide of {width} x {height} px")
    core, halo = core_and_halo(settings, detector_mpp / slide_mpp)
    n_cols, n_rows = -(-w // core), -(-h // core)
    fraction = _tissue_fraction(
        mask,
        (x + core * np.arange(n_cols + 1)) / downsample_x,
        (y + core * np.arange(n_rows + 1)) / downsample_y,
    )
    row, col = np.nonzero(fraction)
    core_x0, core_y0 = x + col * core, y + row * core
    n = len(row)
    columns = {
        "tile_id": row * n_cols + col,
        "x": core_x0 - halo,
        "y": core_y0 - halo,
        "width": np.full(n, core + 2 * halo),
        "height": np.full(n, core + 2 * halo),
        "core_x0": core_x0,
        "core_y0": core_y0,
        "core_x1": core_x0 + core,
        "core_y1": core_y0 + core,
        "tissue_fraction": fraction[row, col],
    }
    tiles = pl.DataFrame(columns).select(pl.col(name).cast(dtype) for name, dtype in TILES.items())
    return split(tiles, n_shards)


def split(tiles: pl.DataFrame, n_shards: int) -> pl.DataFrame:
    """Add the column `shard`, 1 to `n_shards`: contiguous runs of tiles, counts differing by at most one.

    The file has no such column: it is the same for any number of shards.
    """
    n = tiles.height
    shard = 1 + np.arange(n) * n_shards // max(n, 1)
    return tiles.with_columns(pl.Series("shard", shard, pl.Int32))


def core_and_halo(settings: TileSettings, scale: float) -> tuple[int, int]:
    """Side of the core and width of the halo in level-0 pixels, at `scale` level-0 px per detector px."""
    return round((settings.tile_px - 2 * settings.halo_px) * scale), round(settings.halo_px * scale)


def tile_scale(tiles: pl.DataFrame, tile_px: int) -> float:
    """Level-0 pixels per tile pixel: what a window's side really is after rounding, over `tile_px`.

    1.0 for a manifest without tiles.
    """
    return float(tiles["width"][0]) / tile_px if tiles.height else 1.0


def _tissue_fraction(
    mask: NDArray[np.bool_], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Share of every grid cell that is tissue, (len(y_edges) - 1, len(x_edges) - 1).

    The edges are in mask pixels. Mask pixels that a cell holds in part count in part, and any touch gives
    more than zero. One row of cells at a time, so that no integral image of the whole mask is held.
    """
    rows, cols = mask.shape
    out = np.zeros((len(y_edges) - 1, len(x_edges) - 1), np.float32)
    cell = (x_edges[1] - x_edges[0]) * (y_edges[1] - y_edges[0]) if out.size else 1.0
    x_inside = np.clip(x_edges, 0, cols)
    for i, (top, bottom) in enumerate(pairwise(y_edges)):
        first, last = max(int(np.floor(top)), 0), min(int(np.ceil(bottom)), rows)
        if first >= last:
            continue
        row = np.arange(first, last)
        weight = np.minimum(row + 1, bottom) - np.maximum(row, top)
        integral = np.concatenate([[0.0], np.cumsum(weight @ mask[first:last])])
        area = np.diff(np.interp(x_inside, np.arange(cols + 1), integral))
        # Below a millionth of a mask pixel it is rounding, not tissue.
        out[i] = np.where(area > 1e-6, np.clip(area / cell, 1e-6, 1.0), 0.0)
    return out
