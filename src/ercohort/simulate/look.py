"""What makes one slide look unlike the next: stains, glass, optics, the antibody's strength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Optical density per unit of stain (R, G, B). The purple end is Ruifrok and Johnston (2001); the cyan end is
# what modern scanners show of the pale counterstain used beside DAB.
_HEMATOXYLIN_PURPLE = np.array([0.65, 0.70, 0.29])
_HEMATOXYLIN_CYAN = np.array([0.87, 0.46, 0.17])
_DAB = np.array([0.27, 0.55, 0.79])


@dataclass(frozen=True)
class SlideLook:
    """Appearance of one simulated slide. Lengths in µm, stain amounts in optical density."""

    hematoxylin: tuple[float, float, float]
    dab: tuple[float, float, float]
    glass: tuple[float, float, float]
    hematoxylin_strength: float
    dab_strength: float
    dab_spread: float
    cytoplasm_hematoxylin: float
    cytoplasm_dab: float
    stroma_hematoxylin: float
    negative_dab: float
    chromatin: float
    rim: float
    nucleus_diameter: float
    nucleus_spacing: float
    blur: float
    noise: float
    nucleus_jitter: float = 0.7


def stain_vectors(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random unit vectors (3,) of haematoxylin and DAB in optical density."""
    cyan = rng.uniform(0.0, 1.0)
    hematoxylin = (1.0 - cyan) * _HEMATOXYLIN_PURPLE + cyan * _HEMATOXYLIN_CYAN + rng.normal(0.0, 0.03, 3)
    dab = _DAB + rng.normal(0.0, 0.03, 3)
    hematoxylin, dab = np.clip(hematoxylin, 0.05, None), np.clip(dab, 0.1, None)
    return hematoxylin / np.linalg.norm(hematoxylin), dab / np.linalg.norm(dab)


def random_glass(rng: np.random.Generator) -> tuple[float, float, float]:
    """Colour of empty glass, RGB 0 to 255: near white, sometimes warm or grey."""
    level, warmth = rng.uniform(225.0, 254.0), rng.uniform(-2.0, 8.0)
    red, green, blue = np.clip([level + warmth / 3, level, level - warmth], 200.0, 255.0)
    return float(red), float(green), float(blue)


def random_look(seed: int) -> SlideLook:
    """Draw the appearance of one slide; the same seed gives the same slide."""
    rng = np.random.default_rng([seed, 0x10])
    hematoxylin, dab = stain_vectors(rng)
    diameter = float(rng.uniform(8.0, 11.0))
    return SlideLook(
        hematoxylin=(float(hematoxylin[0]), float(hematoxylin[1]), float(hematoxylin[2])),
        dab=(float(dab[0]), float(dab[1]), float(dab[2])),
        glass=random_glass(rng),
        hematoxylin_strength=float(rng.uniform(0.15, 0.6)),
        dab_strength=float(rng.uniform(0.25, 1.3)),
        dab_spread=float(rng.uniform(0.25, 0.6)),
        cytoplasm_hematoxylin=float(rng.uniform(0.03, 0.13)),
        cytoplasm_dab=float(rng.uniform(0.0, 0.10)),
        stroma_hematoxylin=float(rng.uniform(0.02, 0.11)),
        negative_dab=float(rng.uniform(0.0, 0.05)),
        chromatin=float(rng.uniform(0.2, 0.7)),
        rim=float(rng.uniform(0.0, 0.5)),
        nucleus_diameter=diameter,
        nucleus_spacing=diameter * float(rng.uniform(1.0, 1.3)),
        blur=float(rng.uniform(0.25, 0.8)),
        noise=float(rng.uniform(1.0, 4.0)),
    )
