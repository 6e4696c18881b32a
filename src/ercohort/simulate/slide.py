"""Whole simulated slides on disk: a tiled JPEG pyramid that OpenSlide reads, and a table of the truth."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.errors import InputError
from ercohort.files import atomic_path, write_table
from ercohort.schema import LABELS, NEGATIVE, POSITIVE
from ercohort.simulate.density import cover, crowd
from ercohort.simulate.look import SlideLook, random_look
from ercohort.simulate.nuclei import TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import Scene, random_scene
from ercohort.slide.info import SIMULATED

TRUTH: dict[str, Any] = {
    "x0": pl.Float32, "y0": pl.Float32, "x1": pl.Float32, "y1": pl.Float32, "label": pl.Enum(LABELS),
}  # fmt: skip
"""Columns of the truth table; boxes in level-0 pixels."""

_STRIP_PX = 256
_BLOCK_PX = 1024


@dataclass(frozen=True)
class Truth:
    """What a simulated slide holds.

    Attributes
    ----------
    path
        The slide.
    table_path
        Parquet file with one row per tumour nucleus: `x0, y0, x1, y1` (level-0 px, float32) and `label`.
    n_positive, n_negative
        Tumour nuclei of each class.
    """

    path: Path
    table_path: Path
    n_positive: int
    n_negative: int

    @property
    def percent_positive(self) -> float:
        """Share of positive tumour nuclei, 0 to 100; NaN without nuclei."""
        total = self.n_positive + self.n_negative
        return 100.0 * self.n_positive / total if total else float("nan")

    def read(self) -> pl.DataFrame:
        """Read the truth table."""
        return pl.read_parquet(self.table_path)


def simulate_slide(
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    mpp: float = 0.5,
    percent_positive: float,
    seed: int,
    tissue: bool = True,
    dab_strength: float | None = None,
    tissue_share: float | None = None,
    nuclei_per_mm2: float | None = None,
    threads: int = 2,
) -> Truth:
    """Write a simulated H-DAB slide and, beside it, its truth (`<stem>.truth.parquet`).

    The picture is drawn and written strip by strip, so memory depends on the width alone (0.5 GB at 16,000
    px); the same arguments give the same pixels and truth, whatever `threads` is.

    Parameters
    ----------
    path
        The slide to write, `.tiff`.
    width, height, mpp
        Size in pixels and scale in µm per pixel of level 0.
    percent_positive
        Share of tumour nuclei that are positive, 0 to 100, on average.
    seed
        Decides everything else.
    tissue
        False: empty glass.
    dab_strength
        Mean optical density of DAB in positive nuclei; drawn by the seed if not given.
    tissue_share
        Share of the slide that is tissue, 0 to 1; drawn by the seed if not given.
    nuclei_per_mm2
        Tumour nuclei per mm² of tissue, which then is a sheet of tumour without stroma; drawn by the seed,
        with nests in stroma, if not given.

    Raises
    ------
    InputError
        If a size, scale, share or density makes no sense.
    """
    _check(width, height, mpp, percent_positive)
    path = Path(path)
    scene = random_scene(seed, width * mpp, height * mpp, percent_positive, tissue=tissue)
    look = random_look(seed)
    if dab_strength is not None:
        look = replace(look, dab_strength=dab_strength)
    if tissue_share is not None:
        scene = cover(scene, width * mpp, height * mpp, tissue_share)
    if nuclei_per_mm2 is not None:
        scene, look = crowd(scene, look, nuclei_per_mm2)
    table = _truth_table(scene, look, width, height, mpp)
    _write_pyramid(path, scene, look, width, height, mpp, threads)
    table_path = path.with_name(f"{path.stem}.truth.parquet")
    write_table(table_path, table, TRUTH)
    n_positive = int((table["label"] == POSITIVE).sum())
    return Truth(path, table_path, n_positive, len(table) - n_positive)


def _check(width: int, height: int, mpp: float, percent_positive: float) -> None:
    if width < 1 or height < 1:
        raise InputError(
            f"a slide of {width} x {height} px cannot be drawn; give a width and height of 1 or more"
        )
    if not 0.05 <= mpp <= 2.0:
        raise InputError(f"mpp is {mpp}; give µm per pixel between 0.05 and 2.0")
    if not 0.0 <= percent_positive <= 100.0:
        raise InputError(f"percent_positive is {percent_positive}; give a share between 0 and 100")


def _truth_table(scene: Scene, look: SlideLook, width: int, height: int, mpp: float) -> pl.DataFrame:
    """Boxes of the tumour nuclei whose centre is on the slide, cut at its edge."""
    parts = []
    for x, y, w, h in _blocks(width, height, 4096):
        found = nuclei_in(scene, look, x * mpp, y * mpp, (x + w) * mpp, (y + h) * mpp)
        found = found[found["kind"] == TUMOUR]
        boxes = np.clip(boxes_of(found) / mpp, 0.0, [width, height, width, height]).astype(np.float32)
        parts.append(
            pl.DataFrame(
                {
                    **{name: boxes[:, k] for k, name in enumerate(("x0", "y0", "x1", "y1"))},
                    "label": np.where(found["positive"] == 1, POSITIVE, NEGATIVE).astype(object),
                },
                schema=TRUTH,
            )
        )
    return pl.concat(parts).sort("y0", "x0")


def _blocks(width: int, height: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield x, y, min(side, width - x), min(side, height - y)


def _write_pyramid(
    path: Path, scene: Scene, look: SlideLook, width: int, height: int, mpp: float, threads: int
) -> None:
    """Stream the strips into the TIFF writer, as a PNG picture that is never stored."""
    import pyvips

    pixels_per_mm = 1000.0 / mpp
    with ThreadPoolExecutor(threads) as pool:
        strips = _strips(pool, scene, look, width, height, mpp)
        stream = _Stream(_as_png(strips, width, height))
        source = pyvips.SourceCustom()
        source.on_read(stream.read)
        image = pyvips.Image.pngload_source(source, access="sequential")
        image = image.copy(xres=pixels_per_mm, yres=pixels_per_mm)
        # In the file itself: whoever gets it alone, without the table of its truth, is to know it too.
        image.set_type(pyvips.GValue.gstr_type, "image-description", SIMULATED)
        with atomic_path(path) as temporary:
            image.tiffsave(
                str(temporary), tile=True, tile_width=256, tile_height=256, pyramid=True, compression="jpeg",
                Q=85, bigtiff=True, resunit="cm",
            )  # fmt: skip


class _Stream:
    """Hands out an iterator of byte blocks in pieces of any size, as a file would."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


def _as_png(strips: Iterator[NDArray[np.uint8]], width: int, height: int) -> Iterator[bytes]:
    """Wrap rows of pixels as an uncompressed PNG; pyvips can read no simpler format from a stream."""
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    deflate = zlib.compressobj(level=0)
    for strip in strips:
        rows = np.zeros((len(strip), 1 + 3 * width), np.uint8)  # each row starts with its filter, 0
        rows[:, 1:] = strip.reshape(len(strip), -1)
        yield _chunk(b"IDAT", deflate.compress(rows.data))
    yield _chunk(b"IDAT", deflate.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)))


def _strips(
    pool: ThreadPoolExecutor, scene: Scene, look: SlideLook, width: int, height: int, mpp: float
) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, height, _STRIP_PX):
        yield _draw_strip(pool, scene, look, y, width, min(_STRIP_PX, height - y), mpp)


def _draw_strip(
    pool: ThreadPoolExecutor, scene: Scene, look: SlideLook, y: int, width: int, rows: int, mpp: float
) -> NDArray[np.uint8]:
    strip = np.empty((rows, width, 3), np.uint8)

    def draw(x: int) -> None:
        columns = min(_BLOCK_PX, width - x)
        strip[:, x : x + columns] = render_block(scene, look, x, y, columns, rows, mpp)

    list(pool.map(draw, range(0, width, _BLOCK_PX)))
    return strip
