"""Whole simulated slides on disk: a tiled JPEG pyramid that OpenSlide reads, and a table of the truth."""

from __future__ import annotations

import os
import tempfile
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
from ercohort.simulate.look import SlideLook, random_look
from ercohort.simulate.nuclei import TUMOUR, boxes_of, nuclei_in
from ercohort.simulate.render import render_block
from ercohort.simulate.scene import Scene, random_scene

TRUTH: dict[str, Any] = {
    "x0": pl.Float32, "y0": pl.Float32, "x1": pl.Float32, "y1": pl.Float32, "label": pl.Enum(LABELS),
}  # fmt: skip
"""Columns of the truth table; boxes in level-0 pixels."""

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
    threads: int = 2,
) -> Truth:
    """Write a simulated H-DAB slide and, beside it, its truth (`<stem>.truth.parquet`).

    The picture is drawn block by block, so memory does not grow with the slide; the same arguments give the
    same pixels and truth, whatever `threads` is. Disk for one uncompressed copy is needed meanwhile.

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

    Raises
    ------
    InputError
        If a size, scale or share makes no sense.
    """
    _check(width, height, mpp, percent_positive)
    path = Path(path)
    scene = random_scene(seed, width * mpp, height * mpp, percent_positive, tissue=tissue)
    look = random_look(seed)
    if dab_strength is not None:
        look = replace(look, dab_strength=dab_strength)
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
    import pyvips

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".raw") as raw:
        with ThreadPoolExecutor(threads) as pool:
            for y in range(0, height, _BLOCK_PX):
                raw.write(_draw_strip(pool, scene, look, y, width, min(_BLOCK_PX, height - y), mpp).data)
        raw.flush()
        pixels_per_mm = 1000.0 / mpp
        image = pyvips.Image.rawload(raw.name, width, height, 3)
        image = image.copy(interpretation="srgb", xres=pixels_per_mm, yres=pixels_per_mm)
        with atomic_path(path) as temporary:
            image.tiffsave(
                str(temporary), tile=True, tile_width=256, tile_height=256, pyramid=True, compression="jpeg",
                Q=85, bigtiff=True, resunit="cm",
            )  # fmt: skip


def _draw_strip(
    pool: ThreadPoolExecutor, scene: Scene, look: SlideLook, y: int, width: int, rows: int, mpp: float
) -> NDArray[np.uint8]:
    strip = np.empty((rows, width, 3), np.uint8)

    def draw(x: int) -> None:
        columns = min(_BLOCK_PX, width - x)
        strip[:, x : x + columns] = render_block(scene, look, x, y, columns, rows, mpp)

    list(pool.map(draw, range(0, width, _BLOCK_PX)))
    return strip
