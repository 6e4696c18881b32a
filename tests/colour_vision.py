"""Colours as people with any kind of colour blindness see them."""

from __future__ import annotations

import numpy as np

# What light of each colour does to the cones of people without one kind of them, on linear RGB.
# Machado, Oliveira and Fernandes, IEEE Trans Vis Comput Graph 15 (2009) 1291-1298, table 1, severity 1.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.1523, 1.0526, -0.2049), (0.1145, 0.7863, 0.0992), (-0.0039, -0.0481, 1.0520)),
    "deutan": ((0.3673, 0.8607, -0.2280), (0.2801, 0.6725, 0.0474), (-0.0118, 0.0429, 0.9689)),
    "tritan": ((1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6914, 0.3039)),
}


def lab(colours, vision):
    """CIE Lab (D65) of sRGB colours as seen with a kind of vision."""
    value = np.array(colours) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
    xyz = seen @ np.transpose([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = xyz / [0.9505, 1.0, 1.089]
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def least_distance(colours, vision):
    """Distance in CIE Lab of the two nearest colours: 2 is just visible, 10 at a glance."""
    found = lab(colours, vision)
    distance = np.linalg.norm(found[:, None] - found[None], axis=2)
    return float(distance[~np.eye(len(colours), dtype=bool)].min())
