"""The nuclei of a few regions: by the model, exactly as a whole run would find them, or by their stain."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort import schema
from ercohort.config import DetectSettings, TileSettings
from ercohort.errors import SlideError, Status
from ercohort.labels.region_file import COLUMNS, region_of
from ercohort.record import TissueRecord

if TYPE_CHECKING:
    from ercohort.backends.select import BackendChoice
    from ercohort.model import ModelInfo
    from ercohort.slide import Slide, SlideInfo

LOGGER = logging.getLogger("ercohort")

HALO_UM = 24.0
"""Seen around a region by the classical finder: nuclei across the border, and what surrounds them."""


@dataclass(frozen=True, eq=False)
class Prelabels:
    """What a person is given to correct.

    Attributes
    ----------
    regions
        (R, 4) x0, y0, x1, y1, level-0 pixels of the slide frame: those whose pixels could be read.
    nuclei
        `COLUMNS` of `schema.NUCLEI`: the nuclei whose centre lies in one of the regions.
    model
        Name and hash of the detector, None for the classical finder.
    """

    regions: NDArray[np.int64]
    nuclei: pl.DataFrame
    model: str | None = None


def no_prelabels() -> Prelabels:
    """Return what there is to correct on a slide that cannot be looked at: nothing."""
    return Prelabels(np.empty((0, 4), np.int64), _typed(pl.DataFrame(schema=schema.NUCLEI)))


def find_by_stain(slide: Slide, regions: NDArray[np.int64], tissue: TissueRecord) -> Prelabels:
    """Find the nuclei of the regions with `ercohort.labels.finder`, without a trained detector.

    Raises
    ------
    SlideError
        `unreadable`, if no region can be read.
    """
    tables, failed = [no_prelabels().nuclei], {}
    for index, region in enumerate(regions):
        try:
            nuclei = _nuclei_around(slide, region, tissue.background)
        except SlideError as error:
            failed[index] = error.message
        else:
            tables.append(nuclei.filter(pl.Series(region_of(nuclei, region[None]) == 0)))
    return Prelabels(_readable(regions, failed), pl.concat(tables))


def _nuclei_around(
    slide: Slide, region: NDArray[np.int64], background: tuple[float, float, float]
) -> pl.DataFrame:
    """Nuclei of a region and its halo, boxes in level-0 pixels."""
    from ercohort.labels.finder import MPP, find_nuclei

    halo = round(HALO_UM / slide.info.mpp)
    x, y = (region[:2] - halo).tolist()
    width, height = (region[2:] - region[:2] + 2 * halo).tolist()
    scale = MPP / slide.info.mpp
    size = max(1, round(width / scale)), max(1, round(height / scale))
    image = slide.read(x, y, width, height, size=size)
    found = find_nuclei(image, mpp=MPP, background=background)
    step = np.tile(np.array([width, height]) / size, 2)
    boxes = found.boxes * step + np.array([x, y, x, y])
    values = (*boxes.T, found.scores, found.labels, found.dab_od, found.hematoxylin_od)
    return _typed(pl.DataFrame(dict(zip(COLUMNS, values, strict=True))))


@dataclass(frozen=True, eq=False)
class ModelFinder:
    """Finds the nuclei of regions with a detector.

    Only tiles that touch a region are looked at. They are tiles of the slide's own grid, with its halo and
    seams, so a nucleus gets the box and the class that it gets in a run over the whole slide.

    Parameters
    ----------
    model, choice
        The detector, and what runs it.
    tiles, detect
        Settings of the whole run.
    threads
        CPU threads.
    """

    model: ModelInfo
    choice: BackendChoice
    tiles: TileSettings
    detect: DetectSettings
    threads: int

    def find(
        self, slide: Slide, regions: NDArray[np.int64], tissue: TissueRecord, mask_shape: tuple[int, ...]
    ) -> Prelabels:
        """Find the nuclei of the regions.

        Parameters
        ----------
        mask_shape
            Rows and columns of the slide's tissue mask.

        Raises
        ------
        SlideError
            `unreadable`, if no region can be read.
        BackendError, ModelError
            The detector cannot be loaded, or fails.
        """
        from ercohort.detect import detect_shard
        from ercohort.merge import merge_shards

        grid = _tiles_of(slide.info, regions, tissue, self.tiles, mask_shape, self.model.mpp)
        opened = self.choice.open(
            self.model, tile_px=self.tiles.tile_px, detect=self.detect, threads=self.threads
        )
        with closing(opened) as backend:
            shard = detect_shard(
                slide, grid, grid, backend, settings=self.detect, background=tissue.background
            )
        nuclei = merge_shards(
            [shard.table],
            scale=self.model.mpp / slide.info.mpp,
            nms_iou=self.detect.nms_iou,
            seam_ios=self.detect.seam_ios,
        ).select(COLUMNS)
        readable = _readable(regions, _failed_regions(regions, grid, shard.stats["failed"]))
        inside = pl.Series(region_of(nuclei, readable) >= 0)
        return Prelabels(readable, nuclei.filter(inside), f"{self.model.name}@{self.model.sha256[:12]}")


def _tiles_of(
    info: SlideInfo,
    regions: NDArray[np.int64],
    tissue: TissueRecord,
    settings: TileSettings,
    mask_shape: tuple[int, ...],
    detector_mpp: float,
) -> pl.DataFrame:
    """Tiles of the slide's grid that own a part of a region."""
    from ercohort.tiles import make_tiles

    scale = np.array([tissue.downsample_x, tissue.downsample_y])
    mask = np.zeros(mask_shape, bool)
    for region in regions:
        first, last = np.floor(region[:2] / scale).astype(int), np.ceil(region[2:] / scale).astype(int)
        mask[first[1] : last[1], first[0] : last[0]] = True
    return make_tiles(
        width=info.width,
        height=info.height,
        bounds=info.bounds,
        slide_mpp=info.mpp,
        detector_mpp=detector_mpp,
        settings=settings,
        mask=mask,
        downsample_x=tissue.downsample_x,
        downsample_y=tissue.downsample_y,
        n_shards=1,
    )


def _failed_regions(
    regions: NDArray[np.int64], grid: pl.DataFrame, failed: Sequence[tuple[int, int, int, str]]
) -> dict[int, str]:
    """Regions of which a part lies in the core of a tile that could not be read, and why."""
    cores = {
        tile_id: np.array(core)
        for tile_id, *core in grid.select("tile_id", "core_x0", "core_y0", "core_x1", "core_y1").iter_rows()
    }
    return {
        int(index): message
        for tile_id, _, _, message in failed
        for index in np.flatnonzero(
            (regions[:, :2] < cores[tile_id][2:]).all(axis=1)
            & (regions[:, 2:] > cores[tile_id][:2]).all(axis=1)
        )
    }


def _readable(regions: NDArray[np.int64], failed: dict[int, str]) -> NDArray[np.int64]:
    """Leave out the regions that failed: a person would take them for tissue without nuclei."""
    for index, message in failed.items():
        LOGGER.warning("region at %s left out: %s", regions[index].tolist(), message)
    if failed and len(failed) == len(regions):
        raise SlideError(Status.UNREADABLE, f"no region could be read: {next(iter(failed.values()))}")
    return np.delete(regions, list(failed), axis=0)


def _typed(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.col(name).cast(schema.NUCLEI[name]) for name in COLUMNS)
