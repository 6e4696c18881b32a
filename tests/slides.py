"""Writers of small slides, whole and broken, for the tests.

Everything is written by pyvips and tifffile from arrays, so that every pixel and every size is known.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyvips
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.uint8]


def stained_field(width: int, height: int, seed: int = 0) -> Array:
    """Return smooth blue and brown blobs on bright ground, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    noise = pyvips.Image.new_from_array(rng.normal(0, 60, (height, width)).astype(np.float32))
    other = pyvips.Image.new_from_array(rng.normal(0, 60, (height, width)).astype(np.float32))
    blue, brown = (image.gaussblur(4).numpy() for image in (noise, other))
    picture = np.empty((height, width, 3))
    picture[..., 0] = 220 - 8 * np.maximum(blue, 0) - 3 * np.maximum(brown, 0)
    picture[..., 1] = 215 - 5 * np.maximum(blue, 0) - 6 * np.maximum(brown, 0)
    picture[..., 2] = 225 - 2 * np.maximum(blue, 0) - 9 * np.maximum(brown, 0)
    return np.clip(picture, 10, 255).astype(np.uint8)


def glass(width: int, height: int, colour: tuple[int, int, int] = (241, 240, 242), seed: int = 0) -> Array:
    """Return empty glass with a scanner's noise, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    return np.clip(np.array(colour) + rng.normal(0, 1.5, (height, width, 3)), 0, 255).astype(np.uint8)


def with_bubble(
    picture: Array, mpp: float, centre: tuple[float, float], radius_um: float, *, rim_um: float = 20.0
) -> Array:
    """Lay an air bubble over a picture: blurred within, and a rim that lets 10 % through at its outer edge.

    Parameters
    ----------
    centre
        Column and row, pixels.
    """
    rows, cols = np.mgrid[: picture.shape[0], : picture.shape[1]]
    depth = radius_um - np.hypot(cols - centre[0], rows - centre[1]) * mpp
    sigma = 3.0 / mpp
    light = np.where(depth[..., None] > 0, ndimage.gaussian_filter(picture, (sigma, sigma, 0)), picture)
    passes = 0.1 + 0.9 * np.clip(depth / rim_um, 0, 1) ** 2
    return (light * np.where(depth > 0, passes, 1.0)[..., None]).astype(np.uint8)


def halve(picture: Array) -> Array:
    """Return the mean of 2 x 2 pixels; an odd last row or column is dropped, as scanners do."""
    rows, cols = picture.shape[0] // 2, picture.shape[1] // 2
    parts = picture[: rows * 2, : cols * 2].reshape(rows, 2, cols, 2, 3).astype(np.uint16)
    return ((parts.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def write_pyramid(
    path: Path, picture: Array, mpp: float | None = 0.5, *, compression: str = "jpeg", tile: int = 256
) -> Path:
    """Write a generic pyramidal TIFF by libvips."""
    resolution = {} if mpp is None else {"xres": 1000 / mpp, "yres": 1000 / mpp}
    predictor = {"predictor": "horizontal"} if compression in ("deflate", "lzw") else {}
    pyvips.Image.new_from_array(picture).copy(interpretation="srgb").tiffsave(
        str(path),
        tile=True,
        pyramid=True,
        compression=compression,
        Q=85,
        tile_width=tile,
        tile_height=tile,
        **resolution,
        **predictor,
    )
    return path


def write_levels(path: Path, levels: list[Array], mpp: float = 0.25, *, tile: int = 128) -> Path:
    """Write a lossless generic TIFF whose levels are exactly the given arrays."""
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(
                level,
                tile=(tile, tile),
                photometric="rgb",
                compression="deflate",
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=int(index > 0),
            )
    return path


def write_svs(
    path: Path, picture: Array, mpp: float | None = 0.5, *, factors: tuple[int, ...] = (4,)
) -> Path:
    """Write a look-alike of an Aperio SVS: JPEG tiles, a stripped thumbnail, lower levels by `factors`."""
    height, width = picture.shape[:2]
    scale = "" if mpp is None else f"|MPP = {mpp}"
    head = "Aperio Image Library v11.2.1 \r\n"
    size = f"{width}x{height} [0,0 {width}x{height}] (256x256)"
    jpeg = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}, "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        description = f"{head}{size} JPEG/RGB Q=90|AppMag = 20{scale}"
        tiff.write(picture, tile=(256, 256), description=description, **jpeg)
        small = picture[:: max(1, height // 128), :: max(1, width // 128)]
        tiff.write(np.ascontiguousarray(small), description=f"{head}{size} -> thumbnail", **jpeg)
        for factor in factors:
            level = picture
            while level.shape[0] > height // factor:
                level = halve(level)
            note = f"{head}{size} -> {level.shape[1]}x{level.shape[0]} JPEG/RGB Q=90"
            tiff.write(level, tile=(256, 256), description=note, subfiletype=1, **jpeg)
    return path


def write_scn(
    path: Path, picture: Array, *, offset: tuple[int, int], canvas: tuple[int, int], mpp: float = 0.5
) -> Path:
    """Write a look-alike of a Leica SCN: a scan at `offset` on a larger `canvas`, transparent around it.

    It stands for MIRAX slides too: `openslide.bounds-x/y` are the offset.
    """
    nm = round(mpp * 1000)
    levels = [picture, halve(picture), halve(halve(picture))]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{index}" ifd="{index + 1}"/>'
        for index, level in enumerate(levels)
    )
    size = (canvas[0] * nm, canvas[1] * nm)
    scan = (picture.shape[1] * nm, picture.shape[0] * nm, offset[0] * nm, offset[1] * nm)
    macro = np.full((256, round(256 * canvas[0] / canvas[1]), 3), 230, np.uint8)
    macro_dimension = f'<dimension sizeX="{macro.shape[1]}" sizeY="{macro.shape[0]}" r="0" ifd="0"/>'
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="test" sizeX="{size[0]}" sizeY="{size[1]}">'
        f"{_scn_image('scan', picture.shape, dimensions, scan, 20)}"
        f"{_scn_image('macro', macro.shape, macro_dimension, (*size, 0, 0), 0.6)}"
        "</collection></scn>"
    )
    jpeg = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(macro, tile=(256, 256), description=xml, **jpeg)
        for level in levels:
            scale = 1e4 / mpp * level.shape[1] / picture.shape[1]
            resolution = {"resolution": (scale, scale), "resolutionunit": "CENTIMETER"}
            tiff.write(level, tile=(256, 256), compressionargs={"level": 95}, **resolution, **jpeg)
    return path


def _scn_image(
    name: str, shape: tuple[int, ...], dimensions: str, view: tuple[int, int, int, int], power: float
) -> str:
    return (
        f'<image name="{name}"><creationDate>2020-01-01T00:00:00Z</creationDate>'
        f'<device model="test" version="1"/><pixels sizeX="{shape[1]}" sizeY="{shape[0]}">'
        f"{dimensions}</pixels>"
        f'<view sizeX="{view[0]}" sizeY="{view[1]}" offsetX="{view[2]}" offsetY="{view[3]}" spacingZ="0"/>'
        f"<scanSettings><objectiveSettings><objective>{power:g}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.5</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
    )


def truncate(source: Path, path: Path, share: float) -> Path:
    """Write the first `share` of a file, cut at a multiple of 4 KiB as a broken copy would be."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share) // 4096 * 4096])
    return path


def damage_tile(source: Path, path: Path, tile: int, *, page: int = 0, start: float = 0.0) -> Path:
    """Overwrite one tile of a TIFF by zeros, from `start` (a share of its bytes) to its end."""
    with tifffile.TiffFile(source) as tiff:
        offset, size = tiff.pages[page].dataoffsets[tile], tiff.pages[page].databytecounts[tile]
    data = bytearray(source.read_bytes())
    begin = offset + int(size * start)
    data[begin : offset + size] = bytes(offset + size - begin)
    path.write_bytes(data)
    return path


def zero_first_page(source: Path, path: Path) -> Path:
    """Set the offset of the first page of a (classic or big, little-endian) TIFF to zero."""
    data = bytearray(source.read_bytes())
    big = data[2] == 43
    data[8:16] = bytes(8) if big else data[8:16]
    data[4:8] = data[4:8] if big else bytes(4)
    path.write_bytes(data)
    return path


def loop_pages(source: Path, path: Path) -> Path:
    """Let the first page of a classic little-endian TIFF name itself as the next page."""
    data = bytearray(source.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + count * 12, first)
    path.write_bytes(data)
    return path
