"""The training set on disk: simulated and virtual IHC tiles with YOLO boxes."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ercohort.errors import InputError
from ercohort.schema import LABELS
from ercohort.simulate.tile import Tile, simulate_tile
from ercohort.training.photometry import photograph
from ercohort.training.virtual_ihc import LYMPHOID, read_outlined_tile, virtual_ihc_tile

_MIN_VISIBLE = 0.4
_MIN_SIDE_PX = 4.0


@dataclass(frozen=True)
class DatasetRecipe:
    """How many tiles of each kind, and their size.

    Attributes
    ----------
    n_simulated, n_virtual, n_validation
        Tiles for training, and tiles of each kind for validation (of other slides and other sources).
    tile_px
        Side of a tile, pixels at 0.5 µm each.
    seed
        Decides every tile.
    """

    n_simulated: int = 700
    n_virtual: int = 3000
    n_validation: int = 60
    tile_px: int = 320
    seed: int = 1


def build_dataset(
    folder: str | Path, nuinsseg: str | Path | None, recipe: DatasetRecipe, *, processes: int = 2
) -> Path:
    """Write the tiles, their boxes and `data.yaml` (classes 0 Positive, 1 Negative) under `folder`.

    Parameters
    ----------
    nuinsseg
        Folder with the outlined H&E tiles (`name.jpg`, `name.txt`); None: simulated tiles only.
    processes
        Tiles are made in this many processes.

    Returns
    -------
    Path of `data.yaml`.

    Raises
    ------
    InputError
        If `nuinsseg` holds no tiles although virtual tiles are asked for.
    """
    folder = Path(folder)
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
    jobs = _simulated_jobs(folder, recipe)
    if nuinsseg is not None:
        jobs += _virtual_jobs(folder, Path(nuinsseg), recipe)
    # Fresh interpreters: libraries that hold threads do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(_make_tile, jobs, chunksize=16):
            pass
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    names = "".join(f"  {k}: {label}\n" for k, label in enumerate(LABELS))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return data


@dataclass(frozen=True)
class _Job:
    """One tile to make; no sources: a simulated one."""

    folder: Path
    split: str
    name: str
    seed: int
    size: int
    sources: tuple[Path, ...] = ()


def _simulated_jobs(folder: Path, recipe: DatasetRecipe) -> list[_Job]:
    first = recipe.seed * 1_000_000
    splits = ["train"] * recipe.n_simulated + ["val"] * recipe.n_validation
    return [
        _Job(folder, split, f"simulated_{k:05d}", first + k, recipe.tile_px) for k, split in enumerate(splits)
    ]


def _virtual_jobs(folder: Path, nuinsseg: Path, recipe: DatasetRecipe) -> list[_Job]:
    paths = sorted(
        path for path in nuinsseg.glob("*.jpg") if not any(organ in path.name for organ in LYMPHOID)
    )
    if not paths:
        raise InputError(f"{nuinsseg}: no .jpg tiles; give the folder that holds the NuInsSeg tiles")
    rng = np.random.default_rng([recipe.seed, 0x50])
    order = rng.permutation(len(paths))
    # Every 20th source is kept for validation, so that no nucleus is in both sets.
    held_out = order[::20]
    used = np.setdiff1d(order, held_out) if len(paths) > 1 else order
    # Crowded tiles more often than empty ones: there is more to learn from.
    weights = np.sqrt([1 + len(path.with_suffix(".txt").read_text().splitlines()) for path in paths])
    first = recipe.seed * 1_000_000 + 500_000
    jobs = []
    for k in range(recipe.n_virtual + recipe.n_validation):
        split, pool = ("train", used) if k < recipe.n_virtual else ("val", held_out)
        sources = tuple(paths[i] for i in rng.choice(pool, 4, p=weights[pool] / weights[pool].sum()))
        jobs.append(_Job(folder, split, f"virtual_{k:05d}", first + k, recipe.tile_px, sources))
    return jobs


def _make_tile(job: _Job) -> None:
    if job.sources:
        sources = [read_outlined_tile(path) for path in job.sources]
        tile = virtual_ihc_tile(sources, job.seed, size=job.size)
    else:
        tile = simulate_tile(job.seed, size=job.size)
    _write_tile(job.folder, job.split, job.name, tile, job.seed)


def _write_tile(folder: Path, split: str, name: str, tile: Tile, seed: int) -> None:
    image = photograph(tile.image, np.random.default_rng([seed, 0x60]))
    # Stored without loss: the JPEG that a slide shows is already in the picture.
    Image.fromarray(image).save(folder / "images" / split / f"{name}.png", compress_level=1)
    (folder / "labels" / split / f"{name}.txt").write_text(yolo_lines(tile))


def yolo_lines(tile: Tile) -> str:
    """Boxes as YOLO text, `class x y width height` normalised; slivers at the picture's edge are left out."""
    size = tile.image.shape[0]
    clipped = np.clip(tile.boxes, 0.0, size)
    keep = (_area(clipped) >= _MIN_VISIBLE * _area(tile.boxes)) & (_sides(clipped) >= _MIN_SIDE_PX)
    labels = np.where(tile.positive, LABELS.index("Positive"), LABELS.index("Negative"))
    lines = []
    for label, (x0, y0, x1, y1) in zip(labels[keep], clipped[keep] / size, strict=True):
        lines.append(f"{label} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n")
    return "".join(lines)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sides: NDArray[np.float32] = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return sides
