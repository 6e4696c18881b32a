"""Telling tissue from glass, at a few µm per pixel.

Optical density above the glass of this very slide decides, not its brightness: pale haematoxylin on a
bright scanner and dense DAB on a dark one then have the same threshold. Everything works on one small
picture of the whole slide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ercohort.config import TissueSettings
from ercohort.errors import InputError
from ercohort.files import atomic_path
from ercohort.slide import Slide, SlideInfo

MAX_MASK_PX = 16_000_000
"""Pixels of the largest mask, 1,024 mm² at 8 µm: about 25 bytes of memory each, whatever the slide's size."""

NO_GLASS_LEAST = 220.0
"""Least brightness of glass that is assumed where a field shows none."""

_MARGIN = np.uint8(160)
_WHITE = (255.0, 255.0, 255.0)

_DARK = 45
"""Channels all below this: no transmitted light reaches here. The darkest DAB passes more of the red."""

_LARGE_PX = 200
"""Mask pixels from which on black or blank areas are surroundings, and not dirt or a clear gap."""

_HOLE_MM2 = 0.05
"""Holes up to this area belong to the tissue (lumina, fat cells); larger ones are glass."""

_BAND = 256
"""Rows of the picture that are worked on at a time."""

_CLOSING_UM = 24.0
"""Gaps up to twice this are closed: nuclei in pale stroma become one piece."""


@dataclass(frozen=True)
class Tissue:
    """Where the tissue of a slide is.

    Attributes
    ----------
    mask
        (rows, cols) bool, widened by the margin; pixel (row, col) covers level 0 from
        (col * downsample_x, row * downsample_y) to one mask pixel further. Parts of the slide that cannot
        be read count as tissue, so that their tiles are tried, fail, and are reported.
    downsample_x, downsample_y
        Level-0 pixels per mask pixel.
    background
        Colour of the glass, RGB 0 to 255: the reference of optical density.
    area_mm2
        Area of tissue before it was widened, mm².
    thumbnail
        (rows, cols, 3) uint8 RGB, the slide at the scale of the mask.
    found
        (rows, cols) bool, the tissue before it was widened.
    scale_um
        Side of a mask pixel, µm.
    """

    mask: NDArray[np.bool_]
    downsample_x: float
    downsample_y: float
    background: tuple[float, float, float]
    area_mm2: float
    thumbnail: NDArray[np.uint8]
    found: NDArray[np.bool_]
    scale_um: float


def find_tissue(slide: Slide, settings: TissueSettings, *, threads: int = 1) -> Tissue:
    """Find the tissue of a brightfield slide; the mask of a fluorescence slide is empty.

    Raises
    ------
    SlideError
        `unreadable`, if no part of the slide can be decoded.
    """
    overview = slide.overview(_mask_mpp(slide.info, settings), threads=threads)
    step_x, step_y = overview.step
    scale_um = slide.info.mpp * (step_x + step_y) / 2
    picture = overview.pixels
    shown = overview.readable & ~_surroundings(picture, slide.info.background)
    glass = estimate_glass(picture, shown) or estimate_glass(picture, overview.readable)
    tissue = np.zeros(picture.shape[:2], bool)
    if _is_brightfield(picture, shown, glass):
        glass = glass or _brightest(picture[shown])
        tissue = _clean(picture, glass, shown, settings, scale_um)
    area_mm2 = float(tissue.sum()) * scale_um**2 / 1e6
    mask = _widen(tissue, settings.margin_um / scale_um) | ~overview.readable
    return Tissue(mask, step_x, step_y, glass or _WHITE, area_mm2, picture, tissue, scale_um)


def _mask_mpp(info: SlideInfo, settings: TissueSettings) -> float:
    """Scale of the mask: that of the settings, or coarser where the mask would grow without bound."""
    area_um2 = info.width * info.height * info.mpp**2
    return max(settings.mpp, math.sqrt(area_um2 / MAX_MASK_PX))


def no_tissue() -> Tissue:
    """Return what stands for the tissue of a slide that could not be opened: one pixel of glass."""
    nothing = np.zeros((1, 1), bool)
    return Tissue(nothing, 1.0, 1.0, _WHITE, 0.0, np.full((1, 1, 3), 255, np.uint8), nothing, 1.0)


def save_tissue(
    tissue: Tissue, mask_path: str | os.PathLike[str], thumbnail_path: str | os.PathLike[str]
) -> None:
    """Write the mask (PNG: tissue 255, its margin 160, glass 0) and the thumbnail (JPEG)."""
    with atomic_path(mask_path) as temporary:
        shown = np.where(tissue.found, np.uint8(255), tissue.mask.astype(np.uint8) * _MARGIN)
        Image.fromarray(shown).save(temporary)
    with atomic_path(thumbnail_path) as temporary:
        Image.fromarray(tissue.thumbnail).save(temporary, quality=90)


def load_tissue_mask(path: str | os.PathLike[str], *, margin: bool) -> NDArray[np.bool_]:
    """Read a mask that `save_tissue` wrote, (rows, cols) bool.

    Parameters
    ----------
    margin
        With its margin and what could not be read, as tiles are laid out; or the tissue alone, whose area is
        `tissue_mm2`.

    Raises
    ------
    InputError
        If it is no picture.
    """
    try:
        # Masks of ours may exceed the size at which Pillow suspects an attack.
        with Image.open(Path(path)) as image:
            return np.asarray(image.convert("L")) > (_MARGIN - 1 if margin else _MARGIN)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path}: not a tissue mask ({error}); delete it, and run again") from None


def estimate_glass(
    picture: NDArray[np.uint8], usable: NDArray[np.bool_]
) -> tuple[float, float, float] | None:
    """Return the colour of empty glass, RGB 0 to 255, or None where the picture shows none.

    Glass is bright, nearly grey and smooth, and of all such things on a slide the brightest: the median
    of the smooth pixels close to their brightest percent.

    Parameters
    ----------
    picture
        (rows, cols, 3) uint8 RGB at a few µm per pixel.
    usable
        (rows, cols) bool: pixels that show the slide.
    """
    from scipy import ndimage

    low = picture.min(axis=2)
    relief = ndimage.maximum_filter(low, 3) - ndimage.minimum_filter(low, 3)
    smooth = usable & (relief <= 10) & (low >= 170) & (picture.max(axis=2) - low <= 30)
    enough = max(12, 0.004 * usable.sum())
    if smooth.sum() < enough:
        return None
    level = np.percentile(low[smooth], 98)
    glass = smooth & (low >= level - 12.0)
    if glass.sum() < enough:
        return None
    red, green, blue = np.median(picture[glass], axis=0)
    return float(red), float(green), float(blue)


def _brightest(pixels: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Return the glass to assume for a field that is all tissue: its clearest gaps, if these are bright."""
    red, green, blue = np.maximum(np.percentile(pixels, 99, axis=0), NO_GLASS_LEAST)
    return float(red), float(green), float(blue)


def _surroundings(picture: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return what was never scanned: large areas of black, or of exactly the colour put behind transparency.

    Were these taken for glass, the glass would be too bright, and all of it tissue.
    """
    from scipy import ndimage

    dark = _large_pieces(picture.max(axis=2) < _DARK)
    if dark.any():
        dark = ndimage.binary_dilation(dark, iterations=2)  # its edge is mixed with glass
    return np.asarray(dark | _large_pieces((picture == np.array(background, np.uint8)).all(axis=2)))


def _large_pieces(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    pieces, n = ndimage.label(mask)
    sizes = _sizes(pieces, n)
    sizes[0] = 0
    return np.asarray((sizes >= _LARGE_PX)[pieces])


def _is_brightfield(
    picture: NDArray[np.uint8], shown: NDArray[np.bool_], glass: tuple[float, float, float] | None
) -> bool:
    """Tell light through tissue from light out of it: fluorescence is black with a few coloured spots."""
    inside = picture[shown]
    if not len(inside):
        return False
    if (picture.max(axis=2) < _DARK).mean() > 0.2:  # around the glass, or is it the dark of fluorescence?
        return glass is not None and float(np.median(inside.max(axis=1))) >= 2 * _DARK
    return float(np.percentile(inside.min(axis=1), 99)) >= 2 * _DARK


def _density_of(glass: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return the optical density above the glass of every 8-bit value, (256, 3)."""
    light = np.maximum(np.arange(256), 1).astype(np.float32)[:, None] / np.array(glass, np.float32)
    return -np.log10(light)


def _densities(
    picture: NDArray[np.uint8], density_of: NDArray[np.float32], shown: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return optical density, (rows, cols, 3); 0 where the slide is not shown."""
    densities = np.stack([density_of[:, channel][picture[..., channel]] for channel in range(3)], axis=2)
    densities[~shown] = 0
    return densities


def _bands(rows: int) -> Iterator[slice]:
    """Cut a picture into bands of rows: what is worked out for each band needs little memory."""
    return (slice(top, min(top + _BAND, rows)) for top in range(0, rows, _BAND))


def _clean(
    picture: NDArray[np.uint8],
    glass: tuple[float, float, float],
    shown: NDArray[np.bool_],
    settings: TissueSettings,
    scale_um: float,
) -> NDArray[np.bool_]:
    from scipy import ndimage

    density_of = _density_of(glass)
    density = np.empty(shown.shape, np.float32)
    for band in _bands(len(picture)):
        # A single stain leaves one channel nearly clear.
        density[band] = _densities(picture[band], density_of, shown[band]).max(axis=2)
    found = ndimage.gaussian_filter(density, 1.0, mode="nearest") > settings.min_od
    if not found.any():
        return found
    padded = np.pad(found, 8, mode="edge")  # tissue goes on past the edge of a field
    disk = _disk(min(_CLOSING_UM / scale_um, 8.0))
    closed = ndimage.binary_closing(padded, disk)[8:-8, 8:-8] | found
    pixel_mm2 = scale_um**2 / 1e6
    filled = _fill_holes(closed, _HOLE_MM2 / pixel_mm2)
    # A field can be smaller than the least piece that counts on a slide.
    least = min(settings.min_area_mm2 / pixel_mm2, 0.05 * density.size)
    pieces, n = ndimage.label(filled, np.ones((3, 3), bool))
    means = _piece_means(pieces, n, picture, density_of, shown, density)
    return _keep_pieces(_sizes(pieces, n), means, least)[pieces]


def _fill_holes(mask: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    pieces, n = ndimage.label(~mask)
    sizes = _sizes(pieces, n)
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    small = sizes <= most
    small[edge] = False
    small[0] = False
    return np.asarray(mask | small[pieces])


def _sizes(pieces: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Count the pixels of each piece, and of what is none (0): (n + 1,)."""
    sizes = np.zeros(n + 1, np.int64)
    for band in _bands(len(pieces)):
        sizes += np.bincount(pieces[band].ravel(), minlength=n + 1)
    return sizes


def _piece_means(
    pieces: NDArray[np.int32],
    n: int,
    picture: NDArray[np.uint8],
    density_of: NDArray[np.float32],
    shown: NDArray[np.bool_],
    density: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return each piece's mean density in the three channels, and its mean texture: (n + 1, 4)."""
    sums = np.zeros((4, n + 1))
    for band in _bands(len(pieces)):
        around = slice(max(band.start - 1, 0), band.stop + 1)  # texture looks at the rows beside
        texture = _texture(density[around])[band.start - around.start :][: band.stop - band.start]
        values = np.dstack([_densities(picture[band], density_of, shown[band]), texture])
        labels = pieces[band].ravel()
        for row, layer in zip(sums, np.moveaxis(values, 2, 0), strict=True):
            row += np.bincount(labels, layer.ravel(), minlength=n + 1)
    return (sums / np.maximum(_sizes(pieces, n), 1)).T


def _keep_pieces(sizes: NDArray[np.int64], means: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Drop small pieces, and those that are weak, grey and smooth at once: shading of the glass."""
    channels, texture = means[:, :3], means[:, 3]
    dense = channels.max(axis=1) >= 0.15
    coloured = channels.max(axis=1) - channels.min(axis=1) >= 0.015
    keep = (sizes >= least) & (dense | coloured | (texture >= 0.008))
    keep[0] = False
    return np.asarray(keep)


def _texture(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the local standard deviation (3 x 3) of density."""
    from scipy import ndimage

    mean = ndimage.uniform_filter(density, 3)
    square = ndimage.uniform_filter(density * density, 3)
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)))


def _widen(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Add every pixel whose centre is within `radius` pixels of one of the mask's."""
    from scipy import ndimage

    reach = int(radius)
    if reach < 1 or not mask.any():
        return mask
    # A disk is a stack of horizontal runs; a distance for every pixel would take 30 times the memory.
    out, values = mask.copy(), mask.view(np.uint8)
    for dy in range(reach + 1):
        half = int(np.sqrt(radius * radius - dy * dy))
        run = ndimage.maximum_filter1d(values, 2 * half + 1, axis=1, mode="constant").view(np.bool_)
        out[dy:] |= run[: len(run) - dy]
        out[: len(out) - dy] |= run[dy:]
    return out


def _disk(radius: float) -> Any:
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x * x + y * y <= radius * radius
