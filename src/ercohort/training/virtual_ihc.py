"""Virtual IHC: H&E tiles with outlined nuclei, repainted as haematoxylin and DAB.

Eosin is taken out by colour deconvolution (Ruifrok and Johnston, 2001); what haematoxylin shows stays as
texture, and each outlined nucleus is repainted as negative or as positive of random strength by the law of
Beer and Lambert. The outlines give the boxes. Made for NuInsSeg (Mahbod et al., Scientific Data 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ercohort.errors import InputError
from ercohort.simulate.tile import Tile

# Optical density per unit of haematoxylin, eosin and a residual at right angles to both.
_HE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
# What counterstains look like beside DAB: purple (Ruifrok and Johnston, 2001), cyan and greyish blue.
_BLUES = np.array([[0.65, 0.70, 0.29], [0.87, 0.46, 0.17], [0.66, 0.58, 0.46]])
# DAB: brown, nearly black, and yellowish.
_BROWNS = np.array([[0.27, 0.55, 0.79], [0.45, 0.57, 0.68], [0.20, 0.48, 0.85]])
_SPINDLE_RATIO = 3.2
# A nucleus is positive from _MIN_DAB on; QuPath's default cut between negative and 1+ is 0.2. Counterstained
# nuclei hold up to _MAX_DIRT of DAB that is not specific.
_MIN_DAB = 0.19
_MAX_DIRT = 0.13
# Organs of lymphocytes: what must not count would be labelled.
LYMPHOID = ("spleen", "thymus")


@dataclass(frozen=True)
class OutlinedTile:
    """An H&E picture and its nuclei: (rows, cols, 3) uint8 RGB and a list of (K, 2) outlines in pixels."""

    image: NDArray[np.uint8]
    outlines: tuple[NDArray[np.float64], ...]


def read_outlined_tile(image_path: str | Path) -> OutlinedTile:
    """Read `name.jpg` and the YOLO polygons of `name.txt` beside it (`0 x y x y ...`, normalised).

    Raises
    ------
    InputError
        If either file is missing or a line holds no polygon.
    """
    image_path = Path(image_path)
    label_path = image_path.with_suffix(".txt")
    if not label_path.is_file():
        raise InputError(
            f"{label_path}: outlines of {image_path.name} are missing; download the data set again"
        )
    image = np.asarray(Image.open(image_path).convert("RGB"))
    size = np.array([image.shape[1], image.shape[0]], float)
    outlines = []
    for number, line in enumerate(label_path.read_text().splitlines(), 1):
        values = np.array(line.split(), float)
        if len(values) < 7 or len(values) % 2 == 0:
            raise InputError(f"{label_path}, line {number}: not a YOLO polygon (`0 x y x y x y ...`)")
        outlines.append(values[1:].reshape(-1, 2) * size)
    return OutlinedTile(image, tuple(outlines))


def unmix(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Haematoxylin and eosin (rows, cols) of an H&E picture, scaled so that strong staining is about 1."""
    glass = np.percentile(image.reshape(-1, 3), 99.0, axis=0).clip(180.0)
    density = -np.log10(np.clip(image / glass, 1 / 255, 1.0)).astype(np.float32)
    vectors = _HE / np.linalg.norm(_HE, axis=1, keepdims=True)
    basis = np.vstack([vectors, np.cross(vectors[0], vectors[1])])
    amounts = np.clip(density @ np.linalg.inv(basis)[:, :2].astype(np.float32), 0.0, None)
    amounts = amounts / np.maximum(np.percentile(amounts.reshape(-1, 2), 95.0, axis=0), 0.05)
    return amounts[..., 0].astype(np.float32), amounts[..., 1].astype(np.float32)


@dataclass(frozen=True)
class _Stain:
    """How one virtual slide is stained.

    Amounts are optical densities along unit stain vectors, lengths pixels of the source, shares 0 to 1.
    """

    share: float
    hematoxylin: float
    hematoxylin_spread: float
    dab: float
    dab_spread: float
    counterstain_under_dab: float
    dirty: float
    contrast: float
    mottle: float
    mottle_px: float
    rim: float
    grow_px: float
    ragged_px: float
    edge_px: float
    background: float
    eosin_left: float
    blush: float
    n_debris: int


def _random_stain(rng: np.random.Generator, share: float) -> _Stain:
    return _Stain(
        share=share,
        hematoxylin=float(np.exp(rng.uniform(np.log(0.1), np.log(0.75)))),
        hematoxylin_spread=float(rng.uniform(0.15, 0.45)),
        dab=float(np.exp(rng.uniform(np.log(0.25), np.log(2.4)))),
        dab_spread=float(rng.uniform(0.25, 0.9)),
        counterstain_under_dab=float(rng.uniform(0.2, 1.0)),
        dirty=0.0 if rng.random() < 0.35 else float(rng.uniform(0.02, _MAX_DIRT)),
        contrast=float(rng.uniform(0.2, 1.5)),
        mottle=float(rng.uniform(0.0, 0.6)),
        mottle_px=float(rng.uniform(0.8, 3.5)),
        rim=float(rng.uniform(-0.2, 0.9)),
        grow_px=float(rng.normal(0.0, 0.8)),
        ragged_px=float(rng.uniform(0.0, 2.5)),
        edge_px=float(rng.uniform(1.0, 5.0)),
        background=float(rng.uniform(0.05, 0.8)),
        eosin_left=float(rng.uniform(0.0, 0.2)),
        blush=float(rng.uniform(0.0, 0.08) if rng.random() < 0.8 else rng.uniform(0.08, 0.25)),
        n_debris=int(rng.poisson(3.0)) if rng.random() < 0.4 else 0,
    )


def _random_colours(
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return unit vectors (3,) of haematoxylin and DAB in optical density, and glass, RGB 0 to 255.

    Scanners and counterstains differ more than `simulate.look` has it: haematoxylin is also seen greyish,
    strong DAB nearly black, and glass cream or grey.
    """
    blue = rng.dirichlet([0.7, 0.9, 0.5]) @ _BLUES + rng.normal(0.0, 0.04, 3)
    brown = rng.dirichlet([1.0, 0.5, 0.4]) @ _BROWNS + rng.normal(0.0, 0.03, 3)
    blue, brown = np.clip(blue, 0.05, None), np.clip(brown, 0.1, None)
    glass = np.clip(rng.uniform(205.0, 255.0) + rng.normal(0.0, 4.0, 3) - [0.0, 1.0, 4.0], 185.0, 255.0)
    return blue / np.linalg.norm(blue), brown / np.linalg.norm(brown), glass


def virtual_ihc_tile(
    sources: Sequence[OutlinedTile], seed: int, *, size: int = 320, mpp: float = 0.25,
    percent_positive: float | None = None,
) -> Tile:  # fmt: skip
    """Repaint parts of outlined tiles as one IHC tile, deterministic by `seed`.

    A source covers too little for a tile, so four random parts meet at a random point near its middle; they
    share one stain and one scale.

    Parameters
    ----------
    sources
        One or more sources; with four, each part is of another.
    size
        Side of the result, pixels.
    mpp
        Scale of the sources, µm per pixel; the result has 0.38 to 0.66.
    percent_positive
        Share of positive nuclei, 0 to 100; drawn at random if not given.
    """
    rng = np.random.default_rng([seed, 0x40])
    share = float(rng.beta(0.6, 0.9)) if percent_positive is None else percent_positive / 100.0
    stain = _random_stain(rng, share)
    target_mpp = float(rng.uniform(0.38, 0.66))
    split = rng.integers(round(0.37 * size), round(0.63 * size) + 1, 2)
    planes = np.zeros((size, size, 2), np.float32)
    boxes, positive = [np.empty((0, 4))], [np.empty(0, bool)]
    edges = ((0, int(split[0]), size), (0, int(split[1]), size))
    for k in range(4):
        (x0, x1), (y0, y1) = edges[0][k % 2 : k % 2 + 2], edges[1][k // 2 : k // 2 + 2]
        part, part_boxes, part_positive = _paint_part(
            sources[k % len(sources)], (x1 - x0, y1 - y0), target_mpp / mpp, stain, rng
        )
        planes[y0:y1, x0:x1] = part
        boxes.append(part_boxes + np.array([x0, y0, x0, y0]))
        positive.append(part_positive)
    blue, brown, glass = _random_colours(rng)
    density = planes[..., :1] * blue + planes[..., 1:] * brown
    image = np.clip(glass * 10.0**-density + 0.5, 0.0, 255.0).astype(np.uint8)
    return Tile(image, np.concatenate(boxes).astype(np.float32), np.concatenate(positive), target_mpp)


def _paint_part(
    source: OutlinedTile, size: tuple[int, int], zoom: float, stain: _Stain, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Stains (height, width, 2) of a random part, its boxes cut at its edges, and which are positive."""
    rows, columns = source.image.shape[:2]
    width, height = min(round(size[0] * zoom), columns), min(round(size[1] * zoom), rows)
    x, y = int(rng.integers(columns - width + 1)), int(rng.integers(rows - height + 1))
    texture, eosin = unmix(source.image[y : y + height, x : x + width])
    part = _Part(*_background(texture, eosin, stain, rng), texture, *_noise(texture.shape, stain, rng))
    boxes, positive = [], []
    for outline in source.outlines:
        local = outline - [x, y]
        low, high = local.min(0), local.max(0)
        if (high <= 2).any() or low[0] >= width - 2 or low[1] >= height - 2 or _area(local) < 30.0:
            continue
        is_spindle = _elongation(local) > _SPINDLE_RATIO
        # Half of the long, thin nuclei are left out of the picture: real annotators count some of them.
        if is_spindle and rng.random() < 0.5:
            continue
        is_positive = bool(rng.random() < stain.share) and not is_spindle
        _paint_nucleus(part, local, is_positive, stain, rng)
        visible = np.clip([low, high], 0, [width, height])
        if not is_spindle and np.prod(visible[1] - visible[0]) > 0.4 * np.prod(high - low):
            boxes.append([*visible[0], *visible[1]])
            positive.append(is_positive)
    dyes = (part.hematoxylin, part.dab)
    planes = [np.asarray(Image.fromarray(dye).resize(size, Image.Resampling.BOX)) for dye in dyes]
    scale = np.tile([size[0] / width, size[1] / height], 2)
    return np.stack(planes, -1), np.array(boxes).reshape(-1, 4) * scale, np.array(positive, bool)


@dataclass(frozen=True)
class _Part:
    """Planes (rows, cols) float32 of one part: both dyes, painted in place, and what shapes them."""

    hematoxylin: NDArray[np.float32]
    dab: NDArray[np.float32]
    texture: NDArray[np.float32]
    mottle: NDArray[np.float32]
    ragged: NDArray[np.float32]


def _noise(
    shape: tuple[int, ...], stain: _Stain, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors that clump the chromatin, about 1, and displacements of the nuclear border, pixels."""
    mottle = np.exp(stain.mottle * _smooth_noise(shape, stain.mottle_px, rng))
    ragged = stain.ragged_px * _smooth_noise(shape, 3.0, rng)
    return mottle.astype(np.float32), ragged.astype(np.float32)


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian noise of unit variance with a correlation length of about `sigma` pixels."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sigma)
    return (noise / noise.std()).astype(np.float32)


def _background(
    texture: NDArray[np.float32], eosin: NDArray[np.float32], stain: _Stain, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both dyes between the nuclei: pale counterstain, and DAB that is not specific."""
    from scipy.ndimage import gaussian_filter, grey_opening

    smooth = gaussian_filter(texture, 0.8)
    # Nuclei that nobody outlined must not teach that pale nuclei are background: what stands out of its
    # surroundings by more than a quarter of a nucleus is cut off.
    ground = grey_opening(gaussian_filter(texture, 2.0), (41, 41))
    smooth = np.minimum(smooth, ground + 0.25)
    pale = smooth * stain.background * stain.hematoxylin + stain.eosin_left * eosin
    grain = np.clip(0.5 + 0.5 * _smooth_noise(texture.shape, rng.uniform(1.0, 6.0), rng), 0.0, 3.0)
    blush = stain.blush * (0.4 * grain + 0.6 * np.minimum(eosin, 1.5)) + 0.5 * stain.dirty * grain
    rows, columns = texture.shape
    for _ in range(stain.n_debris):
        y, x = rng.uniform(0, rows), rng.uniform(0, columns)
        spread, amount = rng.uniform(1.0, 4.5), rng.uniform(0.2, 1.5)
        low, high = max(int(y - 3 * spread), 0), min(int(y + 3 * spread) + 1, rows)
        left, right = max(int(x - 3 * spread), 0), min(int(x + 3 * spread) + 1, columns)
        v, u = np.ogrid[low:high, left:right]
        blush[low:high, left:right] += amount * np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * spread**2))
    return pale.astype(np.float32), blush.astype(np.float32)


def _paint_nucleus(
    part: _Part, outline: NDArray[np.float64], is_positive: bool, stain: _Stain, rng: np.random.Generator
) -> None:
    """Replace both dyes inside the outline, in place; the H&E picture's chromatin stays visible."""
    from scipy.ndimage import distance_transform_edt

    low = np.maximum(np.floor(outline.min(0)).astype(int) - 6, 0)
    high = np.ceil(outline.max(0)).astype(int) + 7
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    local = part.texture[window]
    canvas = Image.new("L", (local.shape[1], local.shape[0]))
    ImageDraw.Draw(canvas).polygon([(float(u), float(v)) for u, v in outline - low], fill=255)
    inside = np.asarray(canvas) > 0
    if not inside.any():
        return
    depth = distance_transform_edt(inside) - distance_transform_edt(~inside) + stain.grow_px
    cover = np.clip(0.5 + (depth + part.ragged[window]) / stain.edge_px, 0.0, 1.0).astype(np.float32)
    body = np.clip(local / max(float(local[inside].mean()), 0.05), 0.15, 2.0) ** stain.contrast
    body = body * part.mottle[window] * (1.0 + stain.rim * np.exp(-np.maximum(depth, 0.0) / 2.0))
    body = (body / body[inside].mean()).astype(np.float32)
    blue = stain.hematoxylin * float(np.exp(rng.normal(0.0, stain.hematoxylin_spread)))
    if is_positive:
        blue *= stain.counterstain_under_dab
        brown = max(stain.dab * float(np.exp(rng.normal(0.0, stain.dab_spread))), _MIN_DAB)
        brown = min(brown, 3.5)
    else:
        brown = min(stain.dirty * rng.uniform(0.2, 1.3), _MAX_DIRT)
    part.hematoxylin[window] += cover * (blue * body - 0.7 * part.hematoxylin[window])
    part.dab[window] += cover * (brown * (0.3 + 0.7 * body) - 0.7 * part.dab[window])
    if is_positive:  # the precipitate spreads a little beyond the nucleus
        spread = 0.12 * brown * np.exp(np.minimum(depth, 0.0) / 2.0) * (1.0 - cover)
        part.dab[window] += spread.astype(np.float32)


def _area(outline: NDArray[np.float64]) -> float:
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _elongation(outline: NDArray[np.float64]) -> float:
    """Ratio of the principal axes of the outline's corners."""
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(outline.T)))
    return float(spread[1] / max(spread[0], 1e-6))
