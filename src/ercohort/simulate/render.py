"""Pixels of any block of a simulated slide, at any scale.

Haematoxylin and DAB are summed as optical density, blurred by the optics and turned into colour by the law
of Beer and Lambert: I = glass * 10 ** -(h * haematoxylin + d * dab). Every number depends on the place and
the seed alone, so blocks can be drawn in any size and order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ercohort.kernels import njit
from ercohort.simulate.hashing import bits, value_noise
from ercohort.simulate.look import SlideLook
from ercohort.simulate.nuclei import MAX_RADIUS, nuclei_in
from ercohort.simulate.scene import Scene, nest_at, tissue_at

_GRID_UM = 4.0


def render_block(
    scene: Scene, look: SlideLook, x: int, y: int, width: int, height: int, mpp: float
) -> NDArray[np.uint8]:
    """Draw the block at pixel (x, y).

    Parameters
    ----------
    x, y, width, height
        The block in pixels at scale `mpp`, from the slide's upper left corner.
    mpp
        Size of a pixel, µm.

    Returns
    -------
    (height, width, 3) uint8 RGB.
    """
    taps = _gaussian(look.blur / mpp)
    margin = len(taps) // 2
    x0, y0 = (x - margin) * mpp, (y - margin) * mpp
    columns, rows = width + 2 * margin, height + 2 * margin
    tissue, nest, grid_x, grid_y = _coarse_fields(scene, x0, y0, columns * mpp, rows * mpp)
    hematoxylin = np.zeros((rows, columns), np.float32)
    dab = np.zeros((rows, columns), np.float32)
    if tissue.max() > 0.0:
        tints = np.array([look.stroma_hematoxylin, look.cytoplasm_hematoxylin, look.cytoplasm_dab])
        _draw_background(
            hematoxylin, dab, scene.seed, tints, tissue, nest, grid_x, grid_y, x - margin, y - margin, mpp
        )
        reach = MAX_RADIUS
        nuclei = nuclei_in(
            scene, look, x0 - reach, y0 - reach, x0 + columns * mpp + reach, y0 + rows * mpp + reach
        )
        _draw_nuclei(hematoxylin, dab, scene.seed, nuclei, x - margin, y - margin, mpp)
    hematoxylin, dab = _blur(hematoxylin, taps), _blur(dab, taps)
    vectors = np.array([look.hematoxylin, look.dab, look.glass])
    return _colour(hematoxylin, dab, vectors, look.noise, scene.seed, x, y)


def _gaussian(sigma: float) -> NDArray[np.float32]:
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / max(sigma, 1e-3)) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def _coarse_fields(
    scene: Scene, x0: float, y0: float, width: float, height: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int]:
    """Tissue and nest functions on a grid of 4 µm that is the same for all blocks."""
    grid_x, grid_y = math.floor(x0 / _GRID_UM), math.floor(y0 / _GRID_UM)
    columns = math.floor((x0 + width) / _GRID_UM) - grid_x + 3
    rows = math.floor((y0 + height) / _GRID_UM) - grid_y + 3
    tissue, nest = np.empty((rows, columns)), np.empty((rows, columns))
    _fill_fields(scene, tissue, nest, grid_x, grid_y)
    return tissue, nest, grid_x, grid_y


@njit(cache=True, nogil=True)
def _fill_fields(scene, tissue, nest, grid_x, grid_y):  # type: ignore[no-untyped-def]  # numba infers
    for row in range(tissue.shape[0]):
        for column in range(tissue.shape[1]):
            x, y = (grid_x + column) * _GRID_UM, (grid_y + row) * _GRID_UM
            tissue[row, column] = tissue_at(scene, x, y)
            nest[row, column] = nest_at(scene, x, y)


@njit(cache=True, nogil=True)
def _lookup(field, u, v):  # type: ignore[no-untyped-def]  # numba infers
    column, row = int(u), int(v)
    s, t = u - column, v - row
    top = (1.0 - s) * field[row, column] + s * field[row, column + 1]
    low = (1.0 - s) * field[row + 1, column] + s * field[row + 1, column + 1]
    return (1.0 - t) * top + t * low


@njit(cache=True, nogil=True)
def _draw_background(h, d, seed, tints, tissue, nest, grid_x, grid_y, x, y, mpp):  # type: ignore[no-untyped-def]
    """Cytoplasm in nests, fibres in stroma; both end at the tissue's border."""
    for row in range(h.shape[0]):
        y_um = (y + row + 0.5) * mpp
        v = y_um / _GRID_UM - grid_y
        for column in range(h.shape[1]):
            x_um = (x + column + 0.5) * mpp
            u = x_um / _GRID_UM - grid_x
            inside = _lookup(tissue, u, v) * 25.0
            if inside <= 0.0:
                continue
            cover = min(inside, 1.0)
            in_nest = min(max(_lookup(nest, u, v) * 40.0 + 0.5, 0.0), 1.0)
            grain = 0.6 * value_noise(seed, 0.8 * x_um + 0.6 * y_um, 0.8 * y_um - 0.6 * x_um, 3.1, 20)
            grain += 0.4 * value_noise(seed, 0.6 * x_um - 0.8 * y_um, 0.6 * y_um + 0.8 * x_um, 1.3, 22)
            # Fibres: noise that is long in one direction, which turns slowly over the slide.
            fibre = value_noise(seed, x_um + 0.6 * y_um, 5.0 * y_um - 2.0 * x_um, 22.0, 21)
            stroma = tints[0] * (0.15 + 1.2 * fibre * fibre + 0.8 * grain)
            cytoplasm = tints[1] * (0.45 + 1.1 * grain)
            h[row, column] = cover * (in_nest * cytoplasm + (1.0 - in_nest) * stroma)
            blush = in_nest * (0.3 + 1.4 * grain) + (1.0 - in_nest) * 0.35 * fibre
            d[row, column] = cover * tints[2] * blush


@njit(cache=True, nogil=True)
def _draw_nuclei(h, d, seed, nuclei, x, y, mpp):  # type: ignore[no-untyped-def]  # numba infers
    for k in range(nuclei.shape[0]):
        cell = nuclei[k]
        reach = 1.2 * max(cell["a"], cell["b"]) + 1.0
        column0 = max(math.floor((cell["x"] - reach) / mpp) - x, 0)
        column1 = min(math.ceil((cell["x"] + reach) / mpp) - x, h.shape[1])
        row0 = max(math.floor((cell["y"] - reach) / mpp) - y, 0)
        row1 = min(math.ceil((cell["y"] + reach) / mpp) - y, h.shape[0])
        cos, sin = math.cos(cell["angle"]), math.sin(cell["angle"])
        edge = 0.4 / math.sqrt(cell["a"] * cell["b"])
        # The outline's factor needs no arctangent: cos 2φ and cos(3φ + p) follow from cos φ and sin φ.
        cos_p, sin_p = math.cos(cell["phase"]), math.sin(cell["phase"])
        for row in range(row0, row1):
            dy = (y + row + 0.5) * mpp - cell["y"]
            for column in range(column0, column1):
                dx = (x + column + 0.5) * mpp - cell["x"]
                u = (cos * dx + sin * dy) / cell["a"]
                v = (cos * dy - sin * dx) / cell["b"]
                q = math.sqrt(u * u + v * v)
                if q > 1.35:
                    continue
                c, s = (u / q, v / q) if q > 1e-6 else (1.0, 0.0)
                c3, s3 = c * (4.0 * c * c - 3.0), s * (3.0 - 4.0 * s * s)
                outline = 1.0 + cell["lobe2"] * (2.0 * c * c - 1.0)
                outline += cell["lobe3"] * (c3 * cos_p - s3 * sin_p)
                q = q / outline
                cover = min(max((1.0 - q) / edge + 0.5, 0.0), 1.0)
                if cover <= 0.0:
                    continue
                x_um, y_um = (x + column + 0.5) * mpp, (y + row + 0.5) * mpp
                grain = value_noise(seed, x_um, y_um, 1.5, 30) - 0.5
                body = 1.0 + cell["texture"] * 1.6 * grain + cell["rim"] * (q * q * q * q - 0.35)
                h[row, column] += cover * (cell["hematoxylin"] * max(body, 0.1) - 0.5 * h[row, column])
                smooth = 1.0 + 0.6 * cell["texture"] * grain
                d[row, column] += cover * (cell["dab"] * smooth - 0.5 * d[row, column])


@njit(cache=True, nogil=True, fastmath=False)
def _blur(plane, taps):  # type: ignore[no-untyped-def]  # numba infers
    """Separable filter; the result is smaller by the filter's radius on each side."""
    n = taps.shape[0]
    rows, columns = plane.shape[0] - n + 1, plane.shape[1] - n + 1
    half = np.zeros((plane.shape[0], columns), np.float32)
    for row in range(plane.shape[0]):
        for k in range(n):
            for column in range(columns):
                half[row, column] += taps[k] * plane[row, column + k]
    out = np.zeros((rows, columns), np.float32)
    for row in range(rows):
        for k in range(n):
            for column in range(columns):
                out[row, column] += taps[k] * half[row + k, column]
    return out


@njit(cache=True, nogil=True)
def _colour(h, d, vectors, noise, seed, x, y):  # type: ignore[no-untyped-def]  # numba infers
    out = np.empty((h.shape[0], h.shape[1], 3), np.uint8)
    log10 = math.log(10.0)
    # The sum of two random bytes has a standard deviation of 104.5.
    scale = noise / 104.5
    for row in range(h.shape[0]):
        for column in range(h.shape[1]):
            random = bits(seed, x + column, y + row, 40)
            for channel in range(3):
                density = h[row, column] * vectors[0, channel] + d[row, column] * vectors[1, channel]
                value = vectors[2, channel] * math.exp(-log10 * density)
                first = (random >> np.uint64(16 * channel)) & np.uint64(255)
                second = (random >> np.uint64(16 * channel + 8)) & np.uint64(255)
                value += scale * (float(first) + float(second) - 255.0)
                out[row, column, channel] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
    return out
