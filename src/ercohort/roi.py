"""Regions of interest: what of a slide is counted, under which name, and what is left out.

A nucleus belongs to a region by its centre. Exclusion wins over every region. Where regions lie in each
other, the smallest one has the nucleus, so that none counts twice; a centre on a border that two regions
share belongs to one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

TISSUE = "tissue"
"""The region of a slide without a ROI, or with exclusions alone: all of its tissue."""

NOWHERE = -1

_CHUNK = 1_000_000


@dataclass(frozen=True)
class Roi:
    """The regions of one slide.

    Attributes
    ----------
    names
        Names of the regions, in the order in which they first appear in the file.
    shapes
        Polygon or MultiPolygon of each: level-0 pixels of the slide frame, inside the slide, without what is
        excluded. They may overlap.
    apart
        Regions that have a row of their own but do not count in the slide's, as control tissue.
    notes
        What was repaired or passed over in the file, one line each.
    excluded
        What is left out, Polygon or MultiPolygon; None: nothing.
    outlined
        Regions that somebody drew, unlike the rest of a slide on which only exclusions were drawn.
    """

    names: tuple[str, ...]
    shapes: tuple[shapely.Geometry, ...]
    apart: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    excluded: shapely.Geometry | None = None
    outlined: frozenset[str] = frozenset()

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the regions whose nuclei count in the slide's row."""
        return tuple(name for name in self.names if name not in self.apart)

    def assign(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.int8]:
        """Find the region of each point.

        Parameters
        ----------
        x, y
            (N,) level-0 pixels of the slide frame.

        Returns
        -------
        (N,) index into `names`, `NOWHERE` outside all of them.
        """
        found = np.full(len(x), NOWHERE, np.int8)
        may = np.ones(len(x), bool)
        if self.excluded is not None:  # with its border, which is also that of what lies around it
            may = ~shapely.intersects_xy(self.excluded, x, y)
        for index in self._smallest_first():
            shape = self.shapes[index]
            x0, y0, x1, y1 = shape.bounds
            near = np.flatnonzero(may & (found == NOWHERE) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
            for some in np.split(near, range(_CHUNK, len(near), _CHUNK)):
                # Not `contains`: that leaves out the border, which two touching regions share.
                found[some[shapely.intersects_xy(shape, x[some], y[some])]] = index
        return found

    def touches(self, cores: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say which rectangles (N, 4), x0, y0, x1, y1, have any part of a region in them."""
        boxes = shapely.box(*cores.T)
        hit = np.zeros(len(cores), bool)
        for shape in self.shapes:
            hit |= shapely.intersects(shape, boxes)
        return hit

    def tissue_mm2(
        self, mask: NDArray[np.bool_], downsample: tuple[float, float], mpp: float
    ) -> NDArray[np.float64]:
        """Area of tissue in each region, mm², (regions,); a pixel of the mask belongs by its centre.

        Parameters
        ----------
        mask
            (rows, cols), tissue.
        downsample
            Level-0 pixels per pixel of the mask, x and y.
        mpp
            µm per level-0 pixel.
        """
        _, _, found = self._pixels(mask, downsample)
        pixels = np.bincount(found[found != NOWHERE], minlength=len(self.names)).astype(np.float64)
        return pixels * (downsample[0] * downsample[1] * mpp * mpp * 1e-6)

    def counted_of(self, mask: NDArray[np.bool_], downsample: tuple[float, float]) -> NDArray[np.bool_]:
        """Keep what of a mask (rows, cols) lies in a region that counts; parameters as of `tissue_mm2`."""
        row, col, found = self._pixels(mask, downsample)
        counts = np.array([name not in self.apart for name in self.names] + [False])  # the last: `NOWHERE`
        kept = np.zeros_like(mask)
        kept[row, col] = counts[found]
        return kept

    def _pixels(
        self, mask: NDArray[np.bool_], downsample: tuple[float, float]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int8]]:
        """Return row, column and region of every pixel of a mask."""
        row, col = np.nonzero(mask)
        return row, col, self.assign((col + 0.5) * downsample[0], (row + 0.5) * downsample[1])

    def place(self, nuclei: pl.DataFrame) -> pl.DataFrame:
        """Keep the nuclei that lie in a region, and name it in the column `region`."""
        boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float64)
        index = self.assign((boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2)
        names = pl.Series(self.names, dtype=pl.String)
        inside = nuclei.filter(pl.Series(index != NOWHERE, dtype=pl.Boolean))
        return inside.with_columns(region=names.gather(index[index != NOWHERE]))

    def _smallest_first(self) -> list[int]:
        return sorted(range(len(self.shapes)), key=lambda index: (self.shapes[index].area, index))


def make_roi(
    outlines: Sequence[tuple[str, shapely.Geometry]],
    excluded: Sequence[shapely.Geometry],
    *,
    size: tuple[int, int],
    apart: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Roi:
    """Join outlines of the same name, cut them to the slide, and take out what is excluded.

    Parameters
    ----------
    outlines
        Name and valid Polygon or MultiPolygon of every outline, level-0 pixels of the slide frame. If there
        are none, or only such that stand `apart`, the rest of the slide is the region `TISSUE`.
    excluded
        What is left out.
    size
        Width and height of the slide, pixels.

    Returns
    -------
    The regions that have an area on the slide.
    """
    slide = shapely.box(0, 0, *size)
    out = shapely.union_all(list(excluded)) if excluded else shapely.Polygon()
    set_apart = {name.casefold() for name in apart}
    named: dict[str, list[shapely.Geometry]] = {}
    for name, outline in outlines:
        named.setdefault(name, []).append(outline)
    if all(name.casefold() in set_apart for name in named):
        named[TISSUE] = [slide]
    shapes = {
        name: _areas(shapely.difference(shapely.intersection(shapely.union_all(parts), slide), out))
        for name, parts in named.items()
    }
    kept = {name: shape for name, shape in shapes.items() if shape.area > 0}
    for shape in kept.values():
        shapely.prepare(shape)
    return Roi(
        tuple(kept),
        tuple(kept.values()),
        frozenset(name for name in kept if name.casefold() in set_apart),
        tuple(notes),
        None if out.is_empty else out,
        frozenset(name for name, _ in outlines) & set(kept),
    )


def _areas(shape: shapely.Geometry) -> shapely.Geometry:
    """Keep only what has an area: cutting may leave points and lines where outlines touch."""
    polygons = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
