"""What may be wrong with a slide as it was stained, mounted and scanned, in numbers.

Measured once, in the tissue step, on the picture that the tissue was found in (colours, thickness) and on a
few dozen patches at about the detector's scale (focus, stains, clipping). Nothing is judged here: the
thresholds are settings (`quality_flags`), and changing one reads no slide again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ercohort.bubbles import find_bubbles
from ercohort.errors import SlideError
from ercohort.squares import square_areas, square_px, square_sums, squares_to_pixels
from ercohort.stain_vectors import DEFAULT_VECTORS, StainVectors

if TYPE_CHECKING:
    from ercohort.slide import Slide
    from ercohort.tissue import Tissue

N_PATCHES = 40
"""Patches that are looked at: a share of them is known to about 8 %."""

PATCH_UM = 128.0
PATCH_MPP = 0.5
"""Side of a patch, µm, and its scale, µm per pixel; a coarser slide is looked at as it is."""

LEAST_TISSUE = 0.5
"""Share of tissue from which on a patch is looked at; fields that have none such give their best."""

LEAST_CONTRAST = 4.0
"""Standard deviation of a patch's brightness (0 to 255) below which it has nothing to be sharp about."""

NOISE_CONTRAST = 3.0
"""Standard deviation of the brightness that compressed noise may leave in a patch without a detail."""

MAX_FAILED = 4
"""Patches that cannot be read before no more are tried: a damaged slide may keep its reader busy."""

PEN_CELL_UM = 64.0
PEN_FILL = 0.75
"""A stroke fills squares of this side (at least this share of their pixels); no cluster of nuclei does."""

THICK_OD = 0.3
THICK_RATIO = 4.0
"""Least mean optical density of the lightest spot within 12 µm, and its least ratio to the slide's median,
from which on tissue is thicker than a section. Between the nuclei of a single layer there is always a light
spot; in two pale layers too, so that only dark folds are seen."""

SPOT_UM = 8.0
"""Side of such a spot, µm; those within 12 µm are it and its eight neighbours."""

COARSEST_UM = 12.0
"""Scale of the picture, µm per pixel, above which neither ink nor thickness is told: its pixels mix nuclei
with what lies between them."""

PALE_DAB = 0.2
"""DAB optical density (QuPath's 1+) below which a pixel's haematoxylin is that of the counterstain."""

STAINED_OD = 0.03
"""Optical density in one channel from which on a pixel counts as stained, and may not be clipped."""

_BAND = 256
"""Rows of the picture that are worked on at a time."""


@dataclass(frozen=True)
class FocusPatch:
    """One patch: `x`, `y` of its centre in level-0 pixels of the slide frame, and its `sharpness`."""

    x: int
    y: int
    sharpness: float


@dataclass(frozen=True)
class QualityRecord:
    """What `slide.json` holds of a slide's quality; None where there was nothing to measure on.

    Attributes
    ----------
    patches
        Patches of tissue with enough contrast, in the order they were read.
    pen_share
        Share of tissue (and what was taken for it) with the colours of ink: blue, green, red, black; None
        also where the picture is coarser than `COARSEST_UM`.
    thick_share
        Share of tissue where even the lightest spot within 12 µm is dark (`THICK_OD`, `THICK_RATIO`); None as
        for `pen_share`.
    hematoxylin_od
        98th percentile of the haematoxylin optical density in tissue that is not brown: its nuclei.
    dab_od
        99.9th percentile of the DAB optical density in tissue.
    clipped_share
        Share of stained pixels (`STAINED_OD`) that are too bright or too dark for the scan: a channel at 254
        or 255, or two at 0 or 1. (Dense DAB alone takes all of the blue.)
    bubble_share
        Share of tissue that lies in an air bubble (`bubbles`); None as for `pen_share`.
    """

    patches: tuple[FocusPatch, ...]
    pen_share: float | None
    thick_share: float | None
    hematoxylin_od: float | None
    dab_od: float | None
    clipped_share: float | None
    bubble_share: float | None = None


def measure_quality(slide: Slide, tissue: Tissue, vectors: StainVectors = DEFAULT_VECTORS) -> QualityRecord:
    """Measure a brightfield slide whose tissue was found; patches that cannot be read are left out.

    Memory: 15 bytes for a pixel of the picture, and 20 MB.

    Parameters
    ----------
    slide
        Opened.
    tissue
        What `tissue.find_tissue` found on it.
    vectors
        What optical densities are unmixed with: those of the slide's nuclei.
    """
    pen_share, clean, thick_share = _scan(tissue)
    patches = list(_read_patches(slide, tissue, clean))
    stains = _Stains(tissue.background, vectors)
    for _, pixels, inside in patches:
        stains.add(pixels, inside)
    return QualityRecord(
        patches=tuple(_in_focus_order(patches)),
        pen_share=pen_share,
        thick_share=thick_share,
        hematoxylin_od=stains.hematoxylin_od(),
        dab_od=stains.dab_od(),
        clipped_share=stains.clipped_share(),
        bubble_share=_bubble_share(tissue),
    )


def sharpness(grey: NDArray[np.float32]) -> float | None:
    """Return how much of a patch's contrast is fine: 0 (blurred) to about 2.

    The variance within 2 x 2 pixels is taken from the picture halved once (details of 2 to 4 pixels) and
    halved three times (8 to 16 pixels, the nuclei themselves). Their ratio does not know how dark the stain
    is or how much contrast the scanner gives; blur takes the fine one first. White noise is taken out: its
    variance falls by 4 at each halving, so that the finest one of all tells it. A part of the coarsest
    contrast, and what compression makes of noise, stand in the denominator, so that a patch without any
    details is blurred, and not undefined.

    Parameters
    ----------
    grey
        (rows, cols) brightness, 0 to 255, of a transmitted-light picture.

    Returns
    -------
    None where the patch is too small or too even to tell.
    """
    grey = grey - grey.mean()
    variances = []
    for _ in range(5):
        rows, cols = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
        if min(rows, cols) < 2:
            return None
        whole = grey[:rows, :cols]
        grey = _halve(whole)
        variances.append(_mean_square(whole) - _mean_square(grey))
    noise, fine, _, coarse, coarser = variances
    coarsest = coarser + _mean_square(grey)
    if math.sqrt(coarse + coarsest) < LEAST_CONTRAST:
        return None
    return max(0.0, fine - noise / 4) / (coarse + 0.01 * coarsest + NOISE_CONTRAST**2)


def _halve(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 2 x 2 pixels; the sides must be even."""
    columns = values[0::2] + values[1::2]
    return np.asarray((columns[:, 0::2] + columns[:, 1::2]) * np.float32(0.25))


def _mean_square(values: NDArray[np.float32]) -> float:
    return float(np.vdot(values, values)) / values.size


def is_ink(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell ink from haematoxylin, DAB and eosin by colour, shape (...,).

    Stains and their mixtures pass green least, or (cyan haematoxylin) red. Ink that passes green best is
    green; that takes green and blue but no red, red; that takes red but hardly blue and is dense, blue; and
    that takes all alike, black.

    Parameters
    ----------
    density
        (..., 3) optical density above the glass.
    """
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    least, most = density.min(axis=-1), density.max(axis=-1)
    is_green = (green < 0.75 * np.minimum(red, blue)) & (most > 0.25)
    is_red = (red < 0.3 * np.minimum(green, blue)) & (np.minimum(green, blue) > 0.35)
    is_blue = (blue < 0.25 * red) & (red > 0.6)
    is_black = (least > 0.5) & (least > 0.8 * most)
    return np.asarray(is_green | is_red | is_blue | is_black)


def _scan(tissue: Tissue) -> tuple[float | None, NDArray[np.bool_], float | None]:
    """Return how much of the tissue is ink, where tissue far from it is, and how much of that is thick.

    The mask is (rows, cols) bool; a share is None where there is no such tissue, or no telling.
    """
    if tissue.scale_um > COARSEST_UM or not tissue.found.any():
        return None, tissue.found, None
    rows, cols = tissue.found.shape
    ink = np.zeros((rows, cols), bool)
    density = np.zeros((rows, cols), np.uint8)  # mean of the channels, in hundredths
    table = _density_of(tissue.background)
    for top in range(0, rows, _BAND):
        band = slice(top, top + _BAND)
        if tissue.found[band].any():
            values = _densities(tissue.thumbnail[band], table)
            ink[band] = is_ink(values) & tissue.found[band]
            density[band] = np.minimum(values.mean(axis=2) * 100, 255)
    side = square_px(tissue.scale_um, PEN_CELL_UM)
    full = square_sums(ink, side) >= PEN_FILL * square_areas(ink.shape, side)
    pen = squares_to_pixels(full, side, ink.shape) & tissue.found
    rest = tissue.found & ~squares_to_pixels(_grown(full), side, ink.shape)  # the rims of strokes are dark
    return _rounded(pen.sum() / tissue.found.sum()), rest, _thick_share(density, rest, tissue)


def _thick_share(density: NDArray[np.uint8], inside: NDArray[np.bool_], tissue: Tissue) -> float | None:
    """Return how much of the tissue `inside` is thick, in spots of `SPOT_UM` however fine the picture is."""
    side = square_px(tissue.scale_um, SPOT_UM)
    spots: NDArray[Any] = density
    if side > 1:
        area = square_areas(density.shape, side)
        spots, inside = square_sums(density, side) / area, 2 * square_sums(inside, side) > area
    lightest = _lightest(spots)[inside]
    if not len(lightest):
        return None
    least = max(100 * THICK_OD, THICK_RATIO * float(np.median(lightest)))
    return _rounded((lightest > least).mean())


def _bubble_share(tissue: Tissue) -> float | None:
    if tissue.scale_um > COARSEST_UM or not tissue.found.any():
        return None
    found = find_bubbles(tissue.thumbnail, tissue.background, tissue.scale_um)
    return _rounded((found & tissue.found).sum() / tissue.found.sum())


def _density_of(glass: tuple[float, float, float]) -> NDArray[np.float32]:
    from ercohort.stain import optical_density

    return optical_density(glass).astype(np.float32)


def _densities(pixels: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the optical density of pixels (..., 3) by the table of their values, (256, 3)."""
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def _lightest(density: NDArray[Any]) -> NDArray[Any]:
    """Return the least density within 3 x 3 pixels; what lies past the edge does not count."""
    for axis in (0, 1):
        low = density.copy()
        before, after = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        low[after] = np.minimum(low[after], density[before])
        low[before] = np.minimum(low[before], density[after])
        density = low
    return density


def _grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the eight neighbours."""
    return np.asarray(_lightest(~cells) == 0)


_Patch = tuple[tuple[int, int], NDArray[np.uint8], NDArray[np.bool_]]
"""Centre in level-0 pixels, pixels (rows, cols, 3), and which of them are tissue (rows, cols)."""


def _read_patches(slide: Slide, tissue: Tissue, clean: NDArray[np.bool_]) -> Iterator[_Patch]:
    """Read patches that are spread evenly over the tissue, row by row as they lie in the file."""
    side = square_px(tissue.scale_um, PATCH_UM)
    mpp = max(PATCH_MPP, slide.info.mpp)
    n_failed = 0
    for row, col in _choose(clean, side):
        inside = clean[row * side : (row + 1) * side, col * side : (col + 1) * side]
        x, y = round(col * side * tissue.downsample_x), round(row * side * tissue.downsample_y)
        width = round(inside.shape[1] * tissue.downsample_x)
        height = round(inside.shape[0] * tissue.downsample_y)
        try:
            pixels = slide.read(x, y, width, height, mpp=mpp)
        except SlideError:
            n_failed += 1
            if n_failed >= MAX_FAILED:
                return
            continue
        yield (x + width // 2, y + height // 2), pixels, _stretch(inside, pixels.shape[:2])


def _choose(clean: NDArray[np.bool_], side: int) -> list[tuple[int, int]]:
    """Return row and column of squares of `side` pixels, evenly among those that tissue fills."""
    share = square_sums(clean, side) / square_areas(clean.shape, side)
    least = min(LEAST_TISSUE, float(share.max()))
    cells = np.argwhere((share >= least) & (share > 0))
    n = min(N_PATCHES, len(cells))
    picked = cells[[(2 * index + 1) * len(cells) // (2 * n) for index in range(n)]] if n else cells
    return [(int(row), int(col)) for row, col in picked]


def _stretch(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Enlarge a mask to (rows, cols)."""
    rows, cols = (np.arange(size) * old // size for size, old in zip(shape, mask.shape, strict=True))
    return mask[rows[:, None], cols[None, :]]


def _in_focus_order(patches: list[_Patch]) -> Iterator[FocusPatch]:
    for (x, y), pixels, _ in patches:
        value = sharpness(pixels[..., 1].astype(np.float32))  # both stains absorb green
        if value is not None:
            yield FocusPatch(x, y, round(value, 4))


class _Stains:
    """Stains and clipped pixels of the tissue in all patches."""

    def __init__(self, background: tuple[float, float, float], vectors: StainVectors) -> None:
        from ercohort.stain import stain_matrix

        self._table = _density_of(background)
        self._is_stained = self._table > STAINED_OD
        self._unmix = np.linalg.inv(stain_matrix(vectors)).astype(np.float32)
        self._hematoxylin: list[NDArray[np.float32]] = []
        self._dab: list[NDArray[np.float32]] = []
        self._n_clipped = self._n_stained = 0

    def add(self, pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> None:
        rows, cols = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        # Halved: what single pixels say of a pale stain is mostly the scanner's noise.
        halves = _halve(pixels[:rows, :cols].astype(np.float32)).astype(np.uint8)
        amounts = _densities(halves[inside[:rows:2, :cols:2]], self._table) @ self._unmix
        self._hematoxylin.append(amounts[:, 0])
        self._dab.append(amounts[:, 1])
        # Single pixels, since means are never at the end of the range; every fourth is enough.
        values = pixels[::2, ::2][inside[::2, ::2]]
        stained, bright = np.zeros(len(values), bool), np.zeros(len(values), bool)
        n_dark = np.zeros(len(values), np.uint8)
        for channel in range(3):
            stained |= self._is_stained[:, channel][values[:, channel]]
            bright |= values[:, channel] >= 254
            n_dark += values[:, channel] <= 1
        self._n_stained += int(stained.sum())
        self._n_clipped += int((stained & (bright | (n_dark >= 2))).sum())

    def hematoxylin_od(self) -> float | None:
        if not self._dab:
            return None
        pale = np.concatenate(self._hematoxylin)[np.concatenate(self._dab) < PALE_DAB]
        return _rounded(np.percentile(pale, 98)) if len(pale) else None

    def dab_od(self) -> float | None:
        dab = np.concatenate(self._dab) if self._dab else np.empty(0)
        return _rounded(np.percentile(dab, 99.9)) if len(dab) else None

    def clipped_share(self) -> float | None:
        return _rounded(self._n_clipped / self._n_stained) if self._n_stained else None


def _rounded(value: Any) -> float:
    """Four digits are more than any of this is good for, and keep the file short."""
    return round(float(value), 4)
