"""Camera and file effects on training tiles: focus, sharpening, contrast, colour, noise and JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter


def photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (rows, cols, 3) uint8 RGB as another scanner might have recorded it."""
    picture = Image.fromarray(image)
    kind = rng.random()
    if kind < 0.12:  # out of focus
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.0, 2.0))))
    elif kind < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.0))))
    elif kind < 0.78:
        percent = int(rng.uniform(40, 220))
        picture = picture.filter(ImageFilter.UnsharpMask(float(rng.uniform(0.6, 2.0)), percent, 0))
    values = np.asarray(picture).astype(np.float32)
    values = 255.0 * (np.clip(values, 0.0, 255.0) / 255.0) ** float(np.exp(rng.normal(0.0, 0.25)))
    values = values * rng.uniform(0.95, 1.03, 3).astype(np.float32) * np.float32(rng.uniform(0.92, 1.04))
    grey = values.mean(-1, keepdims=True)
    values = grey + (values - grey) * np.float32(rng.uniform(0.6, 1.5))
    values += rng.normal(0.0, rng.uniform(0.0, 4.0), values.shape).astype(np.float32)
    picture = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.7:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(40, 95)))
        picture = Image.open(file)
    return np.asarray(picture.convert("RGB"))
