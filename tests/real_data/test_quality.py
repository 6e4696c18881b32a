"""Quality of real slides and fields: no flag where there is no fault, and a flag where one is put in."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ercohort.bubbles import find_bubbles
from ercohort.config import QualitySettings, ScoreSettings, TissueSettings
from ercohort.errors import Status
from ercohort.quality import QualityRecord, measure_quality
from ercohort.quality_flags import judge_slide, qc_flags
from ercohort.record import SlideRecord
from ercohort.slide import open_slide
from ercohort.slide.convert import convert
from ercohort.tissue import find_tissue
from tests import slides

pytestmark = pytest.mark.real_data

GROUPS = ("ki67-fields", "bcdata")


def measure(path: Path, mpp: float | None = None) -> QualityRecord:
    with open_slide(path, mpp=mpp) as slide:
        return measure_quality(slide, find_tissue(slide, TissueSettings()))


def flags(record: QualityRecord) -> str | None:
    slide = SlideRecord("a", "a", Status.OK, quality=record)
    judged = judge_slide(slide, {}, None, QualitySettings(), ScoreSettings(), detector_mpp=0.5, n_dropped=0)
    return qc_flags(judged)


def fields(folder: Path) -> Iterator[tuple[str, Path, float]]:
    for group in GROUPS:
        with (folder / "ihc-dev" / group / "index.csv").open() as file:
            for row in csv.DictReader(file):
                yield (
                    row["id"],
                    folder / "ihc-dev" / group / row["id"] / "image.png",
                    float(row["mpp_estimate"]),
                )
    for path in sorted((folder / "er-pr-tissue").glob("horizontal_*.png")):
        yield path.stem, path, 0.15


def show(name: str, record: QualityRecord) -> str:
    sharp = [patch.sharpness for patch in record.patches]
    return (
        f"{name:24} {len(sharp):2} patches, sharpness {min(sharp):.2f} to {max(sharp):.2f}, "
        f"ink {record.pen_share}, thick {record.thick_share}, bubbles {record.bubble_share}, "
        f"haematoxylin {record.hematoxylin_od}, DAB {record.dab_od}, clipped {record.clipped_share}: "
        f"{flags(record) or 'no flag'}"
    )


def test_real_fields_without_a_fault_have_no_flag(shared_data: Path, tmp_path: Path) -> None:
    """But one: a crop in which a person sees no blue either."""
    found = {}
    for name, picture, mpp in fields(shared_data):
        convert(picture, tmp_path / "field.tiff", mpp=mpp)
        record = measure(tmp_path / "field.tiff")
        print(show(name, record))
        found[name] = flags(record)
    assert len(found) == 27 + 11
    assert found.pop("horizontal_grid_r1_c1") == "faint_counterstain"
    assert set(found.values()) == {None}


def test_a_real_slide_without_a_fault_has_no_flag(shared_data: Path) -> None:
    """It is H&E: its eosin passes for brown, and that it is no immunohistochemistry is not seen."""
    record = measure(shared_data / "slides/CMU-1-Small-Region.svs")
    print(show("CMU-1-Small-Region", record))
    assert flags(record) is None
    assert record.dab_od > QualitySettings().no_dab


def test_a_fluorescence_slide_has_nothing_to_measure(shared_data: Path) -> None:
    found = sorted((shared_data / "slides").glob("*.ndpi"))
    assert len(found) == 2
    for path in found:
        assert measure(path) == QualityRecord((), None, None, None, None, None)


def blurred(picture: slides.Array) -> slides.Array:
    return np.asarray(ndimage.gaussian_filter(picture, (6, 6, 0)))  # 3 µm


def overexposed(picture: slides.Array) -> slides.Array:
    return (picture * np.float32(1.5)).clip(0, 255).astype(np.uint8)


def bubble(picture: slides.Array) -> slides.Array:
    middle = (picture.shape[1] / 2, picture.shape[0] / 2)
    return slides.with_bubble(picture, 0.5, middle, 200.0)


def marked(picture: slides.Array) -> slides.Array:
    out = picture.copy()
    out[200:400] = (out[200:400] * (0.1, 0.3, 0.8)).astype(np.uint8)
    return out


@pytest.mark.parametrize(
    ("fault", "flag"),
    [(blurred, "out_of_focus"), (overexposed, "saturated"), (marked, "pen"), (bubble, "bubbles")],
)
@pytest.mark.parametrize("name", ["field01", "field09", "field13", "field19", "field25"])
def test_a_fault_put_into_a_real_field_is_flagged(
    fault: Callable[[slides.Array], slides.Array], flag: str, name: str, shared_data: Path, tmp_path: Path
) -> None:
    with Image.open(shared_data / "ihc-dev/ki67-fields" / name / "image.png") as image:
        picture = np.asarray(image.convert("RGB"))
    path = slides.write_pyramid(tmp_path / "fault.tiff", fault(picture), 0.5)
    assert flag in (flags(measure(path)) or "").split(";")


def test_most_bubbles_drawn_into_real_fields_are_found(shared_data: Path, tmp_path: Path) -> None:
    n_found = n_drawn = 0
    for _, path, mpp in fields(shared_data):
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
        if min(picture.shape[:2]) * mpp < 450:
            continue
        for radius_um in (100.0, 200.0):
            for rim_um in (15.0, 25.0):
                middle = (picture.shape[1] / 2, picture.shape[0] / 2)
                drawn = slides.with_bubble(picture, mpp, middle, radius_um, rim_um=rim_um)
                with open_slide(slides.write_pyramid(tmp_path / "bubble.tiff", drawn, mpp)) as slide:
                    tissue = find_tissue(slide, TissueSettings())
                found = find_bubbles(tissue.thumbnail, tissue.background, tissue.scale_um)
                share = found.sum() * tissue.scale_um**2 / (np.pi * radius_um**2)
                n_drawn += 1
                n_found += share > 0.5
                assert share < 1.1
    print(f"{n_found} of {n_drawn} bubbles found")
    assert n_drawn == 48
    assert n_found >= 44
