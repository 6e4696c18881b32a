"""Random numbers that depend only on a seed and a place, so that any block of a slide can be drawn alone.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math

import numpy as np

from ercohort.kernels import njit

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xC2B2AE3D27D4EB4F)
_C = np.uint64(0x165667B19E3779F9)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0


@njit(cache=True, nogil=True, inline="always")
def bits(seed: int, x: int, y: int, channel: int) -> np.uint64:
    """64 random bits for the lattice point (x, y); channels are independent of each other."""
    h = np.uint64(seed) + np.uint64(x) * _A + np.uint64(y) * _B + np.uint64(channel) * _C
    h = (h ^ (h >> _S30)) * _M1
    h = (h ^ (h >> _S27)) * _M2
    return h ^ (h >> _S31)


@njit(cache=True, nogil=True, inline="always")
def uniform(seed: int, x: int, y: int, channel: int) -> float:
    """Return a number in [0, 1) for the lattice point (x, y)."""
    return (bits(seed, x, y, channel) >> _S11) * _UNIT


@njit(cache=True, nogil=True)
def normal(seed: int, x: int, y: int, channel: int) -> float:
    """Return a standard normal number by Box and Muller; uses `channel` and the next."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(seed, x, y, channel)))
    return radius * math.cos(2.0 * math.pi * uniform(seed, x, y, channel + 1))


@njit(cache=True, nogil=True)
def value_noise(seed: int, x: float, y: float, wavelength: float, channel: int) -> float:
    """Smooth noise in [0, 1), mean 0.5, whose features are about `wavelength` wide (unit of x and y)."""
    u, v = x / wavelength, y / wavelength
    fu, fv = math.floor(u), math.floor(v)
    i, j = int(fu), int(fv)
    s, t = u - fu, v - fv
    s, t = s * s * (3.0 - 2.0 * s), t * t * (3.0 - 2.0 * t)
    top = (1.0 - s) * uniform(seed, i, j, channel) + s * uniform(seed, i + 1, j, channel)
    low = (1.0 - s) * uniform(seed, i, j + 1, channel) + s * uniform(seed, i + 1, j + 1, channel)
    return (1.0 - t) * top + t * low
