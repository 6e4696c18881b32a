"""From numbers to flags: thresholds, what a person reads, and what the merge writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ercohort.config import QualitySettings, ScoreSettings
from ercohort.errors import Status
from ercohort.quality import FocusPatch, QualityRecord
from ercohort.quality_flags import FLAGS, explain, judge, judge_slide, qc_flags
from ercohort.record import SlideRecord, TissueRecord
from ercohort.slide import SlideInfo

ROOT = Path(__file__).parents[2]
SOUND = QualityRecord(
    tuple(FocusPatch(x, 0, 0.3) for x in range(8)), pen_share=0.0, thick_share=0.0, hematoxylin_od=0.5,
    dab_od=1.0, clipped_share=0.0, bubble_share=0.0,
)  # fmt: skip
INFO = SlideInfo(
    path="a.svs", vendor="aperio", width=100, height=50, mpp=0.5, mpp_source="file",
    level_dimensions=((100, 50),), level_downsamples=(1.0,), bounds=(0, 0, 100, 50), has_bounds=False,
    background=(255, 255, 255), reader="vips", file_bytes=12, file_mpp=0.5,
)  # fmt: skip
ROW = {"n_nuclei": 3000, "tissue_mm2": 1.0, "n_tiles": 100, "n_tiles_failed": 0}
BROWN = pl.DataFrame({"dab_od": np.linspace(0.0, 0.8, 1000)})


def flags(
    quality: QualityRecord | None = SOUND,
    *,
    info: SlideInfo | None = INFO,
    row: dict | None = None,
    nuclei: pl.DataFrame | None = BROWN,
    settings: QualitySettings | None = None,
    n_dropped: int = 0,
) -> str | None:
    slide = SlideRecord("a", "a.svs", Status.OK, "", info, TissueRecord(16.0, 16.0, (255.0,) * 3, 1.0))
    judged = judge_slide(
        replace(slide, quality=quality), ROW | (row or {}), nuclei, settings or QualitySettings(),
        ScoreSettings(), detector_mpp=0.5, n_dropped=n_dropped,
    )  # fmt: skip
    assert list(judged) == [flag.name for flag in FLAGS]
    return qc_flags(judged)


def blurred(n: int) -> tuple[FocusPatch, ...]:
    return tuple(FocusPatch(x, 0, 0.05 if x < n else 0.3) for x in range(8))


@pytest.mark.parametrize(
    ("fault", "flag"),
    [
        ({}, None),
        ({"patches": blurred(2)}, None),
        ({"patches": blurred(3)}, "out_of_focus"),
        ({"patches": ()}, None),
        ({"pen_share": 0.0051}, "pen"),
        ({"thick_share": 0.021}, "folds"),
        ({"bubble_share": 0.011}, "bubbles"),
        ({"hematoxylin_od": 0.059}, "faint_counterstain"),
        ({"hematoxylin_od": 0.06}, None),
        ({"clipped_share": 0.121}, "saturated"),
        ({"dab_od": 0.05}, None),  # the nuclei are asked first
    ],
)
def test_each_number_of_the_slide_has_its_threshold(fault, flag) -> None:
    assert flags(replace(SOUND, **fault)) == flag


@pytest.mark.parametrize(
    ("brown", "n_nuclei", "flag"), [(0, 1000, "no_dab"), (1, 5000, "no_dab"), (10, 5000, None), (1, 5, None)]
)
def test_one_nucleus_in_a_thousand_shows_that_the_stain_worked(brown, n_nuclei, flag) -> None:
    density = [0.9] * brown + [0.1] * (n_nuclei - brown)
    assert flags(nuclei=pl.DataFrame({"dab_od": density})) == flag


@pytest.mark.parametrize(("percent", "flag"), [(None, None), (30.0, None), (30.1, "other_stain")])
def test_nuclei_that_are_not_the_colour_of_their_class_tell_of_another_stain(percent, flag) -> None:
    assert flags(row={"percent_od_disagrees": percent}) == flag


@pytest.mark.parametrize("nuclei", [None, pl.DataFrame({"dab_od": []}, schema={"dab_od": pl.Float32})])
def test_without_nuclei_the_tissue_says_whether_there_is_brown(nuclei) -> None:
    row = {"n_nuclei": 0}
    assert flags(nuclei=nuclei, row=row) is None
    assert flags(replace(SOUND, dab_od=0.19), nuclei=nuclei, row=row) == "no_dab"


@pytest.mark.parametrize(
    ("mpp", "source", "file_mpp", "flag"),
    [
        (0.5, "file", 0.5, None),
        (0.5, "sheet", 0.51, None),
        (0.5, "sheet", 0.53, "mpp_mismatch"),
        (0.53, "sheet", 0.5, "mpp_mismatch"),
        (0.5, "sheet", 0.25, "mpp_mismatch"),
        (0.5, "sheet", None, None),
    ],
)
def test_two_scales_that_differ_are_flagged(mpp, source, file_mpp, flag) -> None:
    assert flags(info=replace(INFO, mpp=mpp, mpp_source=source, file_mpp=file_mpp)) == flag


def test_a_slide_that_never_opened_has_no_flags() -> None:
    assert flags(None, info=None, row=dict.fromkeys(ROW), nuclei=None) is None


def test_what_the_tissue_shows_is_flagged_also_where_nothing_could_be_counted() -> None:
    row = {"n_nuclei": None, "n_tiles": 4, "n_tiles_failed": 4}
    assert flags(replace(SOUND, pen_share=0.5), row=row, nuclei=None) == "pen;tiles_failed"


def test_every_flag_can_be_switched_off_but_dropped_boxes() -> None:
    worst = QualityRecord(blurred(8), 1.0, 1.0, 0.0, 0.0, 1.0, 1.0)
    pale = pl.DataFrame({"dab_od": [0.0] * 10})
    fault = {
        "info": replace(INFO, mpp=1.0, mpp_source="sheet"),
        "row": {"n_nuclei": 99, "n_tiles_failed": 50, "percent_od_disagrees": 60.0},
        "nuclei": pale,
        "n_dropped": 3,
    }
    found = flags(worst, **fault)
    assert found.split(";") == [flag.name for flag in FLAGS if flag.name != "density_high"]
    off = QualitySettings(**dict.fromkeys(QualitySettings().model_dump().keys() - {"least_sharpness"}))
    assert flags(worst, **fault, settings=off) == "few_nuclei;boxes_dropped"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("out_of_focus", 0.4125, "patches out of focus 41.2 % (at most 25 %)"),
        ("no_dab", 0.0871, "DAB optical density of the brownest nuclei 0.0871 (at least 0.2)"),
        ("density_high", 23_456.7, "density 23,457 nuclei/mm² (at most 20,000 nuclei/mm²)"),
        ("mpp_mismatch", 1.0, "scale of the sheet differs from the file's by 100 % (at most 5 %)"),
        ("few_nuclei", 12, "nuclei 12 (at least 100)"),
    ],
)
def test_a_person_reads_the_number_beside_its_threshold(name, value, text) -> None:
    judged = judge({"pen": 0.0, name: value, "folds": None}, QualitySettings(), min_nuclei=100)
    (explained,) = explain(judged)
    assert explained["name"] == name
    assert explained["number"] == text


def test_the_manual_names_every_flag_and_says_what_the_report_says() -> None:
    manual, readme = (ROOT / "config/README.md").read_text(), (ROOT / "README.md").read_text()
    for flag in FLAGS:
        assert f"| `{flag.name}` | {flag.number} | " in manual
        assert flag.meaning[0].upper() + flag.meaning[1:] in manual
        assert f"`{flag.name}`" in readme
