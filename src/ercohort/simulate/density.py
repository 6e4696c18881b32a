"""How much of a slide is tissue, and how densely its nuclei lie, where that is asked for.

A slide drawn by its seed alone has nests of tumour in stroma; one of a given density is a sheet of tumour,
because stroma would leave gaps that no density inside the nests could fill.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ercohort.errors import InputError
from ercohort.kernels import njit
from ercohort.simulate.look import SlideLook
from ercohort.simulate.nuclei import MIN_TISSUE, TUMOUR, nuclei_in
from ercohort.simulate.scene import Scene, tissue_at

_EVERYWHERE = -1.0
"""Nest level below every value of the nest function."""

_JITTER = 0.3
"""Of crowded nuclei; with more of it too many would lie in each other and be dropped."""

_SPACINGS = (6.2, 60.0)
_FIELD = 1000.0
_STEPS = 24


def cover(scene: Scene, width_um: float, height_um: float, share: float) -> Scene:
    """Grow or shrink the pieces of tissue until they cover `share` of the slide, 0 to 1.

    Raises
    ------
    InputError
        Tears and vacuoles leave less tissue than that.
    """
    points = max(4.0, np.sqrt(width_um * height_um) / 1000.0)

    def covered(factor: float) -> float:
        grown = scene._replace(islands=scene.islands * [1.0, 1.0, factor, factor])
        return float(_tissue_share(grown, 0.0, 0.0, width_um, height_um, points))

    if not 0.0 < share <= covered(8.0):
        raise InputError(f"tissue cannot cover {share} of this slide; give more than 0 and up to 0.9")
    factor = _bisect(covered, share, 0.02, 8.0)
    return scene._replace(islands=scene.islands * [1.0, 1.0, factor, factor])


def crowd(scene: Scene, look: SlideLook, per_mm2: float) -> tuple[Scene, SlideLook]:
    """Fill the tissue with tumour nuclei, `per_mm2` of them on a square millimetre of tissue.

    Raises
    ------
    InputError
        So many nuclei have no room, or so few would not be a sheet of tumour.
    """
    field = scene._replace(islands=np.array([[0.0, 0.0, 1e9, 1e9]]), nest_level=_EVERYWHERE)
    tissue_mm2 = _tissue_share(field, 0.0, 0.0, _FIELD, _FIELD, 4.0) * _FIELD**2 / 1e6

    def density(spacing: float) -> float:
        found = nuclei_in(field, _spaced(look, spacing), 0.0, 0.0, _FIELD, _FIELD)
        return float((found["kind"] == TUMOUR).sum() / tissue_mm2)

    most, least = (density(spacing) for spacing in _SPACINGS)
    if not least <= per_mm2 <= most:
        raise InputError(
            f"{per_mm2:g} nuclei per mm² cannot be drawn; give {least:,.0f} to {most:,.0f} for this seed"
        )
    spacing = _bisect(lambda spacing: -density(spacing), -per_mm2, *_SPACINGS)
    return scene._replace(nest_level=_EVERYWHERE), _spaced(look, spacing)


def _spaced(look: SlideLook, spacing: float) -> SlideLook:
    diameter = min(look.nucleus_diameter, 0.8 * spacing)
    return replace(look, nucleus_spacing=spacing, nucleus_diameter=diameter, nucleus_jitter=_JITTER)


def _bisect(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rising(middle) >= wanted else (middle, high)
    return 0.5 * (low + high)


@njit(cache=True, nogil=True)
def _tissue_share(scene, x0, y0, width, height, step):  # type: ignore[no-untyped-def]  # numba infers
    columns, rows = max(int(width / step), 1), max(int(height / step), 1)
    inside = 0
    for row in range(rows):
        for column in range(columns):
            x, y = x0 + (column + 0.5) * width / columns, y0 + (row + 0.5) * height / rows
            inside += tissue_at(scene, x, y) >= MIN_TISSUE
    return inside / (rows * columns)
