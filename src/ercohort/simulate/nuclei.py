"""Which nuclei lie in a window of the scene, and how each looks.

Candidates sit on two jittered lattices, one for tumour nuclei and a finer one for the rest (lymphocytes,
spindle-shaped stroma and endothelium). What a lattice point holds depends on nothing but the scene and its
indices, so windows that overlap agree about every nucleus.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit
from ercohort.simulate.hashing import bits, normal, uniform
from ercohort.simulate.look import SlideLook
from ercohort.simulate.scene import Scene, lymphocytes_at, nest_at, positive_share_at, tissue_at

TUMOUR, LYMPHOCYTE, SPINDLE = 1, 2, 3

NUCLEUS = np.dtype(
    [
        ("x", "f8"), ("y", "f8"),  # centre, µm
        ("a", "f8"), ("b", "f8"),  # semi-axes, µm
        ("angle", "f8"),
        ("lobe2", "f8"), ("lobe3", "f8"), ("phase", "f8"),  # 1 + lobe2 cos 2φ + lobe3 cos(3φ + phase)
        ("hematoxylin", "f8"), ("dab", "f8"),  # optical density
        ("texture", "f8"), ("rim", "f8"),
        ("priority", "u8"),
        ("kind", "i4"), ("positive", "i4"),
    ]
)  # fmt: skip
MAX_RADIUS = 14.0
"""No nucleus reaches farther than this from its centre, µm."""

MIN_TISSUE = 0.04
"""Nuclei lie where `tissue_at` is no less than this: away from the ragged border."""

_OTHER_SPACING = 6.6
_OTHER_JITTER = 0.7
_MIN_DAB = 0.16


def nuclei_in(scene: Scene, look: SlideLook, x0: float, y0: float, x1: float, y1: float) -> NDArray[np.void]:
    """Nuclei whose centre lies in [x0, x1) x [y0, y1) µm, in an order that does not depend on the window."""
    tumour = _on_lattice(scene, look, look.nucleus_spacing, True, x0, y0, x1, y1)
    other = _on_lattice(scene, look, _OTHER_SPACING, False, x0, y0, x1, y1)
    return np.concatenate([other, tumour])


def boxes_of(nuclei: NDArray[np.void]) -> NDArray[np.float64]:
    """Tight boxes (N, 4) x0, y0, x1, y1 around the drawn outlines, µm."""
    phi = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)[None, :]
    lobes = nuclei["lobe2"][:, None] * np.cos(2 * phi)
    lobes = 1.0 + lobes + nuclei["lobe3"][:, None] * np.cos(3 * phi + nuclei["phase"][:, None])
    u, v = nuclei["a"][:, None] * np.cos(phi) * lobes, nuclei["b"][:, None] * np.sin(phi) * lobes
    cos, sin = np.cos(nuclei["angle"])[:, None], np.sin(nuclei["angle"])[:, None]
    x, y = nuclei["x"][:, None] + cos * u - sin * v, nuclei["y"][:, None] + sin * u + cos * v
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)


def _on_lattice(
    scene: Scene, look: SlideLook, spacing: float, tumour: bool, x0: float, y0: float, x1: float, y1: float
) -> NDArray[np.void]:
    # One ring of lattice points more than the window needs, so that overlaps are judged alike everywhere.
    i0, i1 = math.floor(x0 / spacing) - 2, math.floor(x1 / spacing) + 3
    j0, j1 = math.floor(y0 / spacing) - 2, math.floor(y1 / spacing) + 3
    grid = np.zeros((j1 - j0, i1 - i0), NUCLEUS)
    parameters = np.array(
        [look.nucleus_diameter, look.hematoxylin_strength, look.dab_strength, look.dab_spread,
         look.negative_dab, look.chromatin, look.rim,
         look.nucleus_jitter if tumour else _OTHER_JITTER]
    )  # fmt: skip
    _fill(grid, scene, parameters, spacing, tumour, i0, j0)
    keep = _without_overlaps(grid)
    found = grid[keep]
    inside = (found["x"] >= x0) & (found["x"] < x1) & (found["y"] >= y0) & (found["y"] < y1)
    return found[inside]


@njit(cache=True, nogil=True)
def _fill(grid, scene, look, spacing, tumour, i0, j0):  # type: ignore[no-untyped-def]  # numba infers
    base = 100 if tumour else 200
    seed = scene.seed
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            i, j = i0 + column, j0 + row
            x = (i + 0.5 + look[7] * (uniform(seed, i, j, base) - 0.5)) * spacing
            y = (j + 0.5 + look[7] * (uniform(seed, i, j, base + 1) - 0.5)) * spacing
            kind = _kind_at(scene, x, y, tumour, uniform(seed, i, j, base + 2))
            if kind == 0:
                continue
            cell = grid[row, column]
            cell["x"], cell["y"], cell["kind"] = x, y, kind
            cell["priority"] = bits(seed, i, j, base + 3)
            cell["angle"] = math.pi * uniform(seed, i, j, base + 4)
            cell["phase"] = 2.0 * math.pi * uniform(seed, i, j, base + 5)
            _shape(cell, seed, i, j, base, look[0])
            _stain(cell, scene, look, i, j, base)


@njit(cache=True, nogil=True)
def _kind_at(scene, x, y, tumour, chance):  # type: ignore[no-untyped-def]  # numba infers
    if tissue_at(scene, x, y) < MIN_TISSUE:
        return 0
    nest = nest_at(scene, x, y)
    if tumour:
        return TUMOUR if nest > 0.015 and chance < 0.93 else 0
    if nest > -0.02:
        return LYMPHOCYTE if nest > 0.0 and chance < 0.008 else 0
    if lymphocytes_at(scene, x, y) > 0.0:
        return LYMPHOCYTE if chance < 0.75 else 0
    if chance < 0.10:
        return SPINDLE
    return LYMPHOCYTE if chance < 0.13 else 0


@njit(cache=True, nogil=True)
def _shape(cell, seed, i, j, base, diameter):  # type: ignore[no-untyped-def]  # numba infers
    size = normal(seed, i, j, base + 6)
    stretch = uniform(seed, i, j, base + 8)
    if cell["kind"] == TUMOUR:
        radius = min(max(0.5 * diameter * math.exp(0.13 * size), 3.3), 6.6)
        ratio = 1.0 + 0.55 * stretch * stretch
    elif cell["kind"] == LYMPHOCYTE:
        radius = min(max(2.75 * math.exp(0.08 * size), 2.3), 3.2)
        ratio = 1.0 + 0.2 * stretch
    else:
        radius = min(max(3.1 * math.exp(0.15 * size), 2.2), 4.5)
        ratio = 2.6 + 3.4 * stretch
    cell["a"], cell["b"] = radius * math.sqrt(ratio), radius / math.sqrt(ratio)
    cell["lobe2"] = 0.12 * (uniform(seed, i, j, base + 9) - 0.5)
    cell["lobe3"] = 0.20 * (uniform(seed, i, j, base + 10) - 0.5)


@njit(cache=True, nogil=True)
def _stain(cell, scene, look, i, j, base):  # type: ignore[no-untyped-def]  # numba infers
    seed = scene.seed
    depth = math.exp(0.28 * normal(seed, i, j, base + 11))
    cell["texture"], cell["rim"] = look[5], look[6]
    if cell["kind"] != TUMOUR:
        cell["hematoxylin"] = look[1] * depth * (1.5 if cell["kind"] == LYMPHOCYTE else 1.2)
        cell["dab"] = look[4] * uniform(seed, i, j, base + 13)
        return
    cell["hematoxylin"] = look[1] * depth
    cell["dab"] = look[4] * uniform(seed, i, j, base + 13)
    if uniform(seed, i, j, base + 14) < positive_share_at(scene, cell["x"], cell["y"]):
        cell["positive"] = 1
        cell["dab"] = max(look[2] * math.exp(look[3] * normal(seed, i, j, base + 15)), _MIN_DAB)
        cell["hematoxylin"] *= 0.55


@njit(cache=True, nogil=True)
def _without_overlaps(grid):  # type: ignore[no-untyped-def]  # numba infers
    """Drop a nucleus that lies deep inside a neighbour of higher priority; touching ones stay."""
    rows, columns = grid.shape
    keep = np.zeros((rows, columns), np.bool_)
    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            cell = grid[row, column]
            if cell["kind"] == 0:
                continue
            free = True
            for other_row in range(row - 1, row + 2):
                for other_column in range(column - 1, column + 2):
                    other = grid[other_row, other_column]
                    if other["kind"] == 0 or other["priority"] <= cell["priority"]:
                        continue
                    reach = 0.85 * (math.sqrt(cell["a"] * cell["b"]) + math.sqrt(other["a"] * other["b"]))
                    free &= math.hypot(cell["x"] - other["x"], cell["y"] - other["y"]) > reach
            keep[row, column] = free
    return keep
