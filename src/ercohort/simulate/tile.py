"""Simulated training tiles: a field of tissue with boxes around its tumour nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ercohort.simulate.look import random_look
from ercohort.simulate.nuclei import TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import Scene, random_scene


@dataclass(frozen=True)
class Tile:
    """A picture with labelled boxes.

    Attributes
    ----------
    image
        (size, size, 3) uint8 RGB.
    boxes
        (N, 4) float32 x0, y0, x1, y1 in pixels; a box may reach over the picture's edge.
    positive
        (N,) bool, whether each nucleus is positive.
    mpp
        Size of a pixel, µm.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    positive: NDArray[np.bool_]
    mpp: float


def simulate_tile(
    seed: int,
    *,
    size: int = 320,
    mpp: float = 0.5,
    scale_jitter: float = 0.2,
    percent_positive: float | None = None,
) -> Tile:
    """Draw one tile from a slide of its own, deterministic by `seed`.

    Parameters
    ----------
    size, mpp
        Side in pixels and nominal scale in µm per pixel.
    scale_jitter
        The tile's true scale is `mpp` times a random factor in 1 - jitter to 1 + jitter.
    percent_positive
        Share of positive tumour nuclei, 0 to 100; drawn at random if not given.
    """
    rng = np.random.default_rng([seed, 0x30])
    mpp = mpp * float(rng.uniform(1.0 - scale_jitter, 1.0 + scale_jitter))
    if percent_positive is None:
        percent_positive = float(100.0 * rng.beta(0.7, 0.9))
    side = 4000.0
    scene = random_scene(seed, side, side, percent_positive)
    look = random_look(seed)
    x, y = _place(scene, rng, side, size * mpp)
    column, row = int(x / mpp), int(y / mpp)
    image = render_block(scene, look, column, row, size, size, mpp)
    reach = 14.0
    x0, y0, x1, y1 = column * mpp, row * mpp, (column + size) * mpp, (row + size) * mpp
    nuclei = nuclei_in(scene, look, x0 - reach, y0 - reach, x1 + reach, y1 + reach)
    nuclei = nuclei[nuclei["kind"] == TUMOUR]
    boxes = (boxes_of(nuclei) / mpp - [column, row, column, row]).astype(np.float32)
    seen = (boxes[:, :2] < size).all(1) & (boxes[:, 2:] > 0).all(1)
    return Tile(image, boxes[seen], nuclei["positive"][seen].astype(bool), mpp)


def _place(scene: Scene, rng: np.random.Generator, side: float, extent: float) -> tuple[float, float]:
    """Somewhere in tissue; nests fill about half of it, and a few tiles show the border."""
    k = int(rng.integers(len(scene.islands)))
    offset = rng.uniform(-0.72, 0.72, 2)
    centre = scene.islands[k, :2] + offset * scene.islands[k, 2:]
    place = np.clip(centre - extent / 2, 0.0, side - extent)
    return float(place[0]), float(place[1])
