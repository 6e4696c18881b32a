"""Tissue masks of real slides and fields."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ercohort.config import TileSettings, TissueSettings
from ercohort.slide import open_slide
from ercohort.slide.convert import convert
from ercohort.tiles import make_tiles
from ercohort.tissue import Tissue, find_tissue

pytestmark = pytest.mark.real_data


def tissue_of(path: Path) -> Tissue:
    with open_slide(path) as slide:
        return find_tissue(slide, TissueSettings())


def fields(folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield every field's picture, and the x and y of its annotated tumour nuclei."""
    for field in sorted(path for path in folder.iterdir() if path.is_dir()):
        with open(field / "points.csv") as file:
            rows = [row for row in csv.DictReader(file) if row["class"] != "til"]
        yield field / "image.png", np.array([(float(row["x"]), float(row["y"])) for row in rows])


@pytest.mark.parametrize(
    ("group", "mpp", "n_fields", "n_nuclei"), [("ki67-fields", 0.5, 14, 16_159), ("bcdata", 0.25, 13, 1_525)]
)
def test_annotated_nuclei_lie_in_kept_tiles(
    group: str, mpp: float, n_fields: int, n_nuclei: int, shared_data: Path, tmp_path: Path
) -> None:
    kept = masked = total = count = 0
    for picture, points in fields(shared_data / "ihc-dev" / group):
        convert(picture, tmp_path / "field.tiff", mpp=mpp)
        with open_slide(tmp_path / "field.tiff") as slide:
            info, tissue = slide.info, find_tissue(slide, TissueSettings())
        tiles = make_tiles(
            width=info.width, height=info.height, bounds=info.bounds, slide_mpp=info.mpp, detector_mpp=0.5,
            settings=TileSettings(), mask=tissue.mask, downsample_x=tissue.downsample_x,
            downsample_y=tissue.downsample_y, n_shards=1,
        )  # fmt: skip
        inside = np.zeros(len(points), bool)
        for x0, y0, x1, y1 in tiles.select("core_x0", "core_y0", "core_x1", "core_y1").iter_rows():
            inside |= (points >= (x0, y0)).all(axis=1) & (points < (x1, y1)).all(axis=1)
        rows = np.minimum(points[:, 1] // tissue.downsample_y, tissue.mask.shape[0] - 1).astype(int)
        cols = np.minimum(points[:, 0] // tissue.downsample_x, tissue.mask.shape[1] - 1).astype(int)
        masked += int(tissue.mask[rows, cols].sum())
        kept, total, count = kept + int(inside.sum()), total + len(points), count + 1
    print(f"{group}: {kept} of {total} nuclei in cores of kept tiles, {masked} in the mask itself")
    assert (count, total) == (n_fields, n_nuclei)
    assert kept >= 0.999 * total
    assert masked >= 0.999 * total


def test_aperio_mask(shared_data: Path) -> None:
    tissue = tissue_of(shared_data / "slides" / "CMU-1-Small-Region.svs")
    assert 0.4 < tissue.mask.mean() < 0.65
    assert 0.5 < tissue.area_mm2 < 0.9
    np.testing.assert_allclose(tissue.background, (245, 243, 243), atol=2)
    assert not tissue.mask[80:180, :20].any()  # glass
    assert tissue.mask[120:170, 55:70].all()  # skin


@pytest.mark.parametrize("name", ["test3-DAPI-2-387.ndpi", "test3-TRITC-2-560.ndpi"])
def test_fluorescence_is_no_tissue_in_our_sense(name: str, shared_data: Path) -> None:
    assert not tissue_of(shared_data / "slides" / name).mask.any()
