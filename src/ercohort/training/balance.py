"""How often each tile is drawn, so that a rare class is seen often enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CAP = 4.0
"""No tile is drawn more than this many times as often as one of common classes."""


def tile_weights(labels: Sequence[NDArray[np.int64]], n_classes: int) -> NDArray[np.float64]:
    """Weights for drawing tiles with replacement.

    A class with the share s of all nuclei, of K classes, gets the factor ``sqrt(1 / (K s))``, not under 1
    and not over `CAP`: the square-root rule of repeat factor sampling (A. Gupta, P. Dollár, R. Girshick,
    LVIS, CVPR 2019, arXiv:1908.03195), with shares of nuclei in place of pictures, because nearly every tile
    holds the common class. A tile's weight is the mean of the factors of its nuclei; 1 if it has none.

    Parameters
    ----------
    labels
        Class numbers of the nuclei of each tile.
    n_classes
        K.

    Returns
    -------
    (number of tiles,), each from 1 to `CAP`.
    """
    counts = np.array([np.bincount(tile, minlength=n_classes) for tile in labels], np.float64)
    counts = counts.reshape(-1, n_classes)
    total = counts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.clip(np.sqrt(total.sum() / (n_classes * total)), 1.0, CAP)
        weights: NDArray[np.float64] = counts @ np.where(total > 0, factor, 0.0) / counts.sum(1)
    return np.where(counts.sum(1) > 0, weights, 1.0)
