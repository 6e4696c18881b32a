"""Where tissue, tumour nests and lymphocytes lie: smooth functions of the place, in µm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit
from ercohort.simulate.hashing import value_noise


class Scene(NamedTuple):
    """Everything that decides where things lie and which nuclei are positive (µm, shares 0 to 1).

    `islands` is (K, 4): centre x, centre y, radius x, radius y. No islands: glass without tissue.
    """

    seed: int
    islands: NDArray[np.float64]
    nest_size: float
    nest_level: float
    lymphocyte_level: float
    percent_positive: float
    heterogeneity: float


def random_scene(
    seed: int, width_um: float, height_um: float, percent_positive: float, *, tissue: bool = True
) -> Scene:
    """Lay out a slide of the given extent; the same arguments give the same scene."""
    rng = np.random.default_rng([seed, 0x20])
    islands = _random_islands(rng, width_um, height_um) if tissue else np.empty((0, 4))
    return Scene(
        seed=int(rng.integers(1, 2**62)),
        islands=islands,
        nest_size=float(rng.uniform(120.0, 300.0)),
        nest_level=float(rng.uniform(0.38, 0.5)),
        lymphocyte_level=float(rng.uniform(0.6, 0.85)),
        percent_positive=percent_positive / 100.0,
        heterogeneity=float(rng.uniform(0.1, 0.8)),
    )


def _random_islands(rng: np.random.Generator, width: float, height: float) -> NDArray[np.float64]:
    """One to three pieces side by side along the longer side, each filling most of its share."""
    count = int(rng.integers(1, 4))
    index = np.arange(count) + 0.5
    wobble = rng.uniform(-0.04, 0.04, (count, 2))
    radii = rng.uniform(0.36, 0.44, (count, 2))
    if width >= height:
        centre = np.stack([(index / count + wobble[:, 0] / count) * width, (0.5 + wobble[:, 1]) * height], 1)
        return np.hstack([centre, radii * [width / count, height]])
    centre = np.stack([(0.5 + wobble[:, 0]) * width, (index / count + wobble[:, 1] / count) * height], 1)
    return np.hstack([centre, radii * [width, height / count]])


@njit(cache=True, nogil=True)
def tissue_at(scene: Scene, x: float, y: float) -> float:
    """Positive inside tissue; the border is ragged and the inside has a few tears and fat vacuoles."""
    best = -1.0
    for k in range(scene.islands.shape[0]):
        u = (x - scene.islands[k, 0]) / scene.islands[k, 2]
        v = (y - scene.islands[k, 1]) / scene.islands[k, 3]
        best = max(best, 1.0 - u * u - v * v)
    if best < -0.5:
        return best
    ragged = 0.5 * (value_noise(scene.seed, x, y, 400.0, 1) - 0.5)
    ragged += 0.2 * (value_noise(scene.seed, x, y, 90.0, 2) - 0.5)
    hole = value_noise(scene.seed, x, y, 110.0, 3) + 0.35 * value_noise(scene.seed, x, y, 35.0, 4)
    return min(best + ragged, 1.6 * (1.12 - hole))


@njit(cache=True, nogil=True)
def nest_at(scene: Scene, x: float, y: float) -> float:
    """Positive inside tumour nests, negative in stroma."""
    value = 0.7 * value_noise(scene.seed, x, y, scene.nest_size, 5)
    value += 0.3 * value_noise(scene.seed, x, y, 0.3 * scene.nest_size, 6)
    return value - scene.nest_level


@njit(cache=True, nogil=True)
def lymphocytes_at(scene: Scene, x: float, y: float) -> float:
    """Positive where lymphocytes gather."""
    return value_noise(scene.seed, x, y, 160.0, 7) - scene.lymphocyte_level


@njit(cache=True, nogil=True)
def positive_share_at(scene: Scene, x: float, y: float) -> float:
    """Chance that a tumour nucleus here is positive; its mean over the slide is `percent_positive`."""
    p = scene.percent_positive
    swing = scene.heterogeneity * (2.0 * value_noise(scene.seed, x, y, 500.0, 8) - 1.0)
    if p <= 0.5:
        return p * (1.0 + swing)
    return 1.0 - (1.0 - p) * (1.0 + swing)
