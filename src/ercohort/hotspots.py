"""Which fields of a slide are worth a look: the densest, the most and least positive, a typical one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_NUCLEI = 8
"""A field with fewer nuclei shows nothing about its share of positive ones."""

MAX_FIELDS = 4


@dataclass(frozen=True)
class Field:
    """A square window on the slide.

    Parameters
    ----------
    name
        Why it was chosen.
    x, y, side
        Upper left corner and side, level-0 pixels of the slide frame.
    n_nuclei, n_positive
        Nuclei whose centre lies in it.
    """

    name: str
    x: int
    y: int
    side: int
    n_nuclei: int
    n_positive: int

    @property
    def percent_positive(self) -> float:
        """Share of positive nuclei, percent."""
        return 100 * self.n_positive / max(self.n_nuclei, 1)


@dataclass(frozen=True)
class Bins:
    """Nuclei counted on a square grid.

    Parameters
    ----------
    n_nuclei, n_positive
        Counts, shape (rows, cols).
    x, y, side
        Corner of the first bin and side of a bin, level-0 pixels.
    """

    n_nuclei: NDArray[np.int64]
    n_positive: NDArray[np.int64]
    x: float
    y: float
    side: float

    def areas(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the level-0 pixels of each bin that lie on a picture of this width and height."""
        rows, cols = self.n_nuclei.shape
        wide = np.clip(size[0] - np.arange(cols) * self.side, 1, self.side)
        high = np.clip(size[1] - np.arange(rows) * self.side, 1, self.side)
        return np.asarray(high[:, None] * wide)


def count_bins(
    boxes: NDArray[np.float64], is_positive: NDArray[np.bool_], bounds: tuple[int, int, int, int], side: float
) -> Bins:
    """Count nuclei by their centres on a grid of `side` level-0 pixels over `bounds` (x, y, width, height).

    A centre outside the bounds counts in the nearest bin.
    """
    x, y, width, height = bounds
    shape = (max(int(np.ceil(height / side)), 1), max(int(np.ceil(width / side)), 1))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    cols = np.clip((centres[:, 0] - x) // side, 0, shape[1] - 1).astype(np.int64)
    rows = np.clip((centres[:, 1] - y) // side, 0, shape[0] - 1).astype(np.int64)
    flat = rows * shape[1] + cols
    size = shape[0] * shape[1]
    return Bins(
        n_nuclei=np.bincount(flat, minlength=size).reshape(shape),
        n_positive=np.bincount(flat[is_positive], minlength=size).reshape(shape),
        x=x,
        y=y,
        side=side,
    )


def choose_fields(
    boxes: NDArray[np.float64], is_positive: NDArray[np.bool_], bounds: tuple[int, int, int, int], side: float
) -> list[Field]:
    """Choose up to `MAX_FIELDS` fields; one that excels in two ways carries both names.

    Parameters
    ----------
    boxes
        x0, y0, x1, y1 of the nuclei, level-0 pixels, shape (n, 4).
    is_positive
        Whether each is positive, shape (n,).
    bounds
        x, y, width, height of the slide's scanned part.
    side
        Side of a field, level-0 pixels; less if the slide is smaller.

    Returns
    -------
    list of Field
        Densest, most positive, least positive, then typical ones apart from them.
    """
    side = min(side, bounds[2], bounds[3])
    bins = count_bins(boxes, is_positive, bounds, side)
    counts = bins.n_nuclei
    if counts.max() < MIN_NUCLEI:
        return []
    share = bins.n_positive / np.maximum(counts, 1)
    overall = bins.n_positive.sum() / counts.sum()
    # A bin at the edge of the tissue holds few nuclei, and few nuclei give extreme shares by chance.
    fair = counts >= max(MIN_NUCLEI, 0.5 * np.quantile(counts[counts > 0], 0.95))
    extremes = {"densest": counts.astype(np.float64)}
    if 0 < overall < 1:
        extremes |= {"most positive": share, "least positive": -share}
    chosen: dict[tuple[int, int], list[str]] = {}
    for name, merit in extremes.items():
        # One bin can be two of them; a second-best one would be a false label.
        chosen.setdefault(_best(merit, fair), []).append(name)
    for place in chosen:
        _clear(fair, place)
    while fair.any() and len(chosen) < MAX_FIELDS:
        place = _best(-abs(share - overall), fair)
        chosen[place] = ["typical"]
        _clear(fair, place)
    return [_field(names, bins, place, boxes, is_positive, bounds) for place, names in chosen.items()]


def _best(merit: NDArray[np.float64], fair: NDArray[np.bool_]) -> tuple[int, int]:
    row, col = np.unravel_index(np.argmax(np.where(fair, merit, -np.inf)), fair.shape)
    return int(row), int(col)


def _clear(fair: NDArray[np.bool_], place: tuple[int, int]) -> None:
    """Take a bin out of the choice and, on a large slide, the bins around it."""
    reach = 1 if fair.size >= 36 else 0
    row, col = place
    fair[max(row - reach, 0) : row + reach + 1, max(col - reach, 0) : col + reach + 1] = False


def _field(
    names: list[str], bins: Bins, place: tuple[int, int],
    boxes: NDArray[np.float64], is_positive: NDArray[np.bool_], bounds: tuple[int, int, int, int],
) -> Field:  # fmt: skip
    """Field over a bin, moved into the bounds and counted there."""
    side = int(bins.side)
    x = min(int(bins.x + place[1] * bins.side), bounds[0] + bounds[2] - side)
    y = min(int(bins.y + place[0] * bins.side), bounds[1] + bounds[3] - side)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - (x, y)
    inside = ((centres >= 0) & (centres < side)).all(axis=1)
    name = ", ".join(names).capitalize()
    return Field(name, x, y, side, int(inside.sum()), int((inside & is_positive).sum()))
