"""Which fields of a slide a pathologist should look at first, and why each.

Fields of one size are compared on a grid of half their side and do not overlap. The choice depends on the
nuclei, the tissue and the tiles alone: the same slide gives the same fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ercohort.scoring import HIGH_PERCENT, LOW_PERCENT

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

MIN_NUCLEI = 8
"""A field with fewer nuclei shows nothing about its share of positive ones."""

EDGE_TISSUE = (0.2, 0.8)
"""Share of tissue in a field at the edge of the tissue."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class InformativeField:
    """A square window on the slide.

    Attributes
    ----------
    name, why
        What it excels in, and the numbers that show it.
    x, y, side
        Upper left corner and side, level-0 pixels of the slide frame.
    n_nuclei, n_positive
        Nuclei whose centre lies in it.
    """

    name: str
    why: str
    x: int
    y: int
    side: int
    n_nuclei: int
    n_positive: int

    @property
    def window(self) -> Box:
        """x, y, width, height."""
        return self.x, self.y, self.side, self.side


@dataclass(frozen=True)
class Cores:
    """The grid of tile cores, level-0 pixels.

    Attributes
    ----------
    x, y
        Corner of the grid.
    side
        Of a core; 0 without tiles.
    kept
        Which cores the detector was run on, shape (rows, cols).
    """

    x: int
    y: int
    side: int
    kept: NDArray[np.bool_]

    @classmethod
    def of(cls, tiles: pl.DataFrame) -> Cores:
        """Take the columns core_x0, core_y0, core_x1 of a tile manifest."""
        if not len(tiles):
            return cls(0, 0, 0, np.zeros((0, 0), np.bool_))
        x0, y0 = tiles["core_x0"].to_numpy(), tiles["core_y0"].to_numpy()
        side = int(tiles["core_x1"][0]) - int(x0[0])
        x, y = int(x0.min()), int(y0.min())
        rows, cols = (y0 - y) // side, (x0 - x) // side
        kept = np.zeros((int(rows.max()) + 1, int(cols.max()) + 1), np.bool_)
        kept[rows, cols] = True
        return cls(x, y, side, kept)

    def crossed(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which boxes (n, 4) lie across a seam: in two cores that were both looked at."""
        if not self.side:
            return np.zeros(len(boxes), np.bool_)
        cols = ((boxes[:, 0::2] - self.x) // self.side).astype(np.int64)
        rows = ((boxes[:, 1::2] - self.y) // self.side).astype(np.int64)
        first = self._is_kept(rows[:, 0], cols[:, 0])
        beside = (cols[:, 0] != cols[:, 1]) & first & self._is_kept(rows[:, 0], cols[:, 1])
        below = (rows[:, 0] != rows[:, 1]) & first & self._is_kept(rows[:, 1], cols[:, 0])
        return beside | below

    def lines(self, window: Box) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
        """Give the seams in a window (x, y, width, height) as pairs of points, level-0 pixels."""
        x, y, width, height = window
        if not self.side:
            return
        for row, col in np.argwhere(self.kept):
            x0, y0 = self.x + int(col) * self.side, self.y + int(row) * self.side
            if x0 >= x + width or y0 >= y + height or x0 + self.side < x or y0 + self.side < y:
                continue
            if x < x0 and self._is_kept(row, col - 1):
                yield (x0, max(y0, y)), (x0, min(y0 + self.side, y + height))
            if y < y0 and self._is_kept(row - 1, col):
                yield (max(x0, x), y0), (min(x0 + self.side, x + width), y0)

    def _is_kept(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.bool_]:
        height, width = self.kept.shape
        there = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        found: NDArray[np.bool_] = (
            there & self.kept[np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)]
        )
        return found


@dataclass(frozen=True)
class _Sums:
    """Of every field of the grid, shape (rows, cols); nuclei by their centres."""

    n: NDArray[np.float64]
    positive: NDArray[np.float64]
    score: NDArray[np.float64]
    densest: NDArray[np.float64]
    crossing: NDArray[np.float64]
    tissue: NDArray[np.float64]
    at_rim: NDArray[np.bool_]


_Merit = Callable[[int, int], str]


def choose_informative(
    *,
    boxes: NDArray[np.float64],
    is_positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    densities: NDArray[np.float64],
    cores: Cores,
    mask: NDArray[np.bool_],
    size: tuple[int, int],
    bounds: Box,
    side: int,
) -> list[InformativeField]:
    """Choose up to six fields; fewer where the slide is small or has nothing of the kind.

    Parameters
    ----------
    boxes, is_positive, scores, densities
        Of the nuclei: x0, y0, x1, y1 in level-0 pixels, shape (n, 4); class, score and optical density of
        DAB, shape (n,).
    cores
        The tiles' cores.
    mask
        Tissue over the whole slide, shape (rows, cols).
    size
        Width and height of the slide, level-0 pixels.
    bounds
        x, y, width, height of the slide's scanned part.
    side
        Side of a field, level-0 pixels; less if the slide is smaller.

    Returns
    -------
    Densest in positive nuclei (of a slide without any, with its brownest one), densest in negative nuclei,
    least certain, at a seam, at the edge, near a limit of the categories, in this order. A field is the best
    of its kind among those that overlap no earlier one; where a better one overlaps, its name says so.
    """
    side = min(side, bounds[2], bounds[3]) // 2 * 2
    if side < 2 or len(boxes) < MIN_NUCLEI:
        return []
    grid = _Grid.over(bounds, side)
    sums = _sum_up(grid, boxes, is_positive, scores, densities, cores.crossed(boxes), mask, size)
    free = np.ones(sums.n.shape, np.bool_)
    chosen: list[tuple[int, int]] = []
    found = []
    for name, merit, why in _kinds(sums, is_positive):
        best = float(merit.max())
        place = _best(np.where(free, merit, -np.inf))
        if place is None:
            continue
        if merit[place] < best:
            name += f", outside {_letters(merit > merit[place], chosen)}"
        row, col = place
        x, y = grid.corner(row, col)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - (x, y)
        inside = ((centres >= 0) & (centres < side)).all(axis=1)
        n_nuclei, n_positive = int(inside.sum()), int((inside & is_positive).sum())
        if n_nuclei < MIN_NUCLEI:  # cells may be a little larger than half a field
            continue
        free[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = False
        chosen.append(place)
        found.append(InformativeField(name, why(row, col), x, y, side, n_nuclei, n_positive))
    return found


def _kinds(sums: _Sums, is_positive: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.float64], _Merit]]:
    """Give the name of each kind of field, its merit (-inf: is none), and what shows it."""
    n, share = sums.n, 100 * sums.positive / np.maximum(sums.n, 1)
    negative, certainty = n - sums.positive, sums.score / np.maximum(n, 1)
    enough = n >= MIN_NUCLEI
    # A field at the rim of a nest holds few nuclei, and few nuclei give extreme means by chance.
    fair = enough & (n >= 0.5 * np.quantile(n[n > 0], 0.95)) if enough.any() else enough
    mean = float(sums.score.sum() / max(n.sum(), 1))

    def of(allowed: NDArray[np.bool_], merit: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(allowed, merit, -np.inf)

    if is_positive.any():
        yield (
            "Densest positive",
            of(enough & (sums.positive > 0), sums.positive),
            (lambda row, col: "the most positive nuclei of any field"),
        )
    else:
        yield (
            "Brownest",
            of(enough, sums.densest.round(4) + n * 1e-9),
            (lambda row, col: f"its densest nucleus: {sums.densest[row, col]:.2f} of DAB"),
        )
    yield (
        "Densest negative",
        of(enough & (negative > 0), negative),
        (lambda row, col: "the most negative nuclei of any field"),
    )
    yield (
        "Least certain",
        # Of equally uncertain ones the field with more nuclei; rounded, as sums of floats are not exact.
        of(fair, n * 1e-9 - certainty.round(4)),
        (lambda row, col: f"mean score {certainty[row, col]:.2f}; of the slide {mean:.2f}"),
    )
    # Of as many nuclei on seams the field with more nuclei around them.
    crossing = sums.crossing + n / (n.max() + 1)
    yield (
        "At a seam",
        of(enough & (sums.crossing > 0), crossing),
        (lambda row, col: f"{_nuclei(sums.crossing[row, col])} across the border of two tiles (dashed)"),
    )
    rim = enough & (sums.tissue > EDGE_TISSUE[0]) & (sums.tissue < EDGE_TISSUE[1])
    if rim.any():
        yield (
            "At the edge of the tissue",
            of(rim, n),
            (lambda row, col: f"{100 * sums.tissue[row, col]:.0f} % of the field is tissue"),
        )
    else:
        yield (
            "At the edge of the slide",
            of(enough & sums.at_rim, n),
            (lambda row, col: "the tissue reaches the edge of what was scanned"),
        )
    overall = 100 * float(is_positive.mean())
    if overall > 0:
        limit = min((LOW_PERCENT, HIGH_PERCENT), key=lambda cut: abs(np.log(overall / cut)))
        yield (
            f"Nearest to {limit:g} %",
            of(fair, n * 1e-9 - abs(share - limit).round(4)),
            (lambda row, col: f"{LOW_PERCENT:g} % and {HIGH_PERCENT:g} % are limits of ER categories"),
        )


def _nuclei(n: float) -> str:
    return "1 nucleus" if n == 1 else f"{n:,.0f} nuclei"


def _best(merit: NDArray[np.float64]) -> tuple[int, int] | None:
    row, col = np.unravel_index(np.argmax(merit), merit.shape)
    return (int(row), int(col)) if np.isfinite(merit[row, col]) else None


def _letters(better: NDArray[np.bool_], chosen: list[tuple[int, int]]) -> str:
    """Name the chosen fields that better ones overlap."""
    found = []
    for letter, (row, col) in zip("ABCDEF", chosen, strict=False):
        if better[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2].any():
            found.append(letter)
    return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))


@dataclass(frozen=True)
class _Grid:
    """Cells of half a field's side or a little more; a field covers two by two of them."""

    bounds: Box
    side: int
    rows: int
    cols: int

    @classmethod
    def over(cls, bounds: Box, side: int) -> _Grid:
        half = side // 2
        return cls(bounds, side, max(bounds[3] // half, 2), max(bounds[2] // half, 2))

    def corner(self, row: int, col: int) -> tuple[int, int]:
        """Upper left corner of a field: the first is at the corner of the bounds, the last at the other."""
        x, y, width, height = self.bounds
        return (
            x + col * (width - self.side) // max(self.cols - 2, 1),
            y + row * (height - self.side) // max(self.rows - 2, 1),
        )

    def cells(self, boxes: NDArray[np.float64]) -> NDArray[np.int64]:
        """Cell of each box's centre, as an index into the flat grid."""
        x, y, width, height = self.bounds
        col = ((boxes[:, 0] + boxes[:, 2]) / 2 - x) * (self.cols / width)
        row = ((boxes[:, 1] + boxes[:, 3]) / 2 - y) * (self.rows / height)
        rows = np.clip(row, 0, self.rows - 1).astype(np.int64)
        return rows * self.cols + np.clip(col, 0, self.cols - 1).astype(np.int64)

    def add_up(
        self, cells: NDArray[np.int64], weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Sum of the weights in each field, shape (rows - 1, cols - 1)."""
        flat = np.bincount(cells, weights, minlength=self.rows * self.cols).astype(np.float64)
        return self.two_by_two(flat.reshape(self.rows, self.cols))

    def greatest(self, cells: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Greatest value in each field, no less than 0, shape (rows - 1, cols - 1)."""
        flat = np.zeros(self.rows * self.cols)
        np.maximum.at(flat, cells, np.nan_to_num(values))
        square = flat.reshape(self.rows, self.cols)
        pairs = np.maximum(square[1:], square[:-1])
        return np.maximum(pairs[:, 1:], pairs[:, :-1])

    @staticmethod
    def two_by_two(cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of two by two cells."""
        pairs = cells[1:] + cells[:-1]
        return pairs[:, 1:] + pairs[:, :-1]


def _sum_up(
    grid: _Grid, boxes: NDArray[np.float64], is_positive: NDArray[np.bool_], scores: NDArray[np.float64],
    densities: NDArray[np.float64], crossing: NDArray[np.bool_], mask: NDArray[np.bool_],
    size: tuple[int, int],
) -> _Sums:  # fmt: skip
    cells = grid.cells(boxes)
    n = grid.add_up(cells)
    at_rim = np.ones(n.shape, np.bool_)
    at_rim[1:-1, 1:-1] = False
    return _Sums(
        n=n,
        positive=grid.add_up(cells[is_positive]),
        score=grid.add_up(cells, scores),
        densest=grid.greatest(cells, densities),
        crossing=grid.add_up(cells[crossing]),
        tissue=grid.two_by_two(_tissue_share(grid, mask, size)) / 4,
        at_rim=at_rim,
    )


def _tissue_share(grid: _Grid, mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float64]:
    """Share of tissue in each cell, from 3 x 3 places in it."""
    x, y, width, height = grid.bounds
    down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    cols = (x + (np.arange(3 * grid.cols) + 0.5) * width / (3 * grid.cols)) / down[0]
    rows = (y + (np.arange(3 * grid.rows) + 0.5) * height / (3 * grid.rows)) / down[1]
    places = mask[
        np.clip(rows.astype(np.int64), 0, mask.shape[0] - 1)[:, None],
        np.clip(cols.astype(np.int64), 0, mask.shape[1] - 1),
    ]
    share: NDArray[np.float64] = places.reshape(grid.rows, 3, grid.cols, 3).mean(axis=(1, 3))
    return share
