"""Results folders for tests of the report. Summaries are synthetic: no slide was run for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from ercohort import schema
from ercohort.cohort import write_groups
from ercohort.config import QualitySettings, ScoreSettings
from ercohort.errors import Status
from ercohort.files import read_json, write_json, write_table
from ercohort.pooling import pool
from ercohort.quality_flags import judge
from ercohort.record import SlideRecord, TissueRecord
from ercohort.scoring import summarise
from ercohort.slide import open_slide
from ercohort.steps.report import write_report

EVIL = "</script><script>window.hacked=1</script><img src=x onerror='hacked=1'>\u2028\u2029\"`{{7*7}}"
"""Text that acts wherever it is taken for HTML or script."""

PERCENTS = (0.0, 0.5, 1.0, 4.2, 10.0, 55.5, 98.0)


def nuclei_table(n_positive: int, n_nuclei: int) -> pl.DataFrame:
    labels = [schema.POSITIVE] * n_positive + [schema.NEGATIVE] * (n_nuclei - n_positive)
    return pl.DataFrame(
        {
            "label": pl.Series(labels, dtype=pl.Enum(schema.LABELS)),
            "dab_od": [0.5] * n_positive + [0.1] * (n_nuclei - n_positive),
        }
    )


def good_summary(slide_id: str, percent: float, *, n_nuclei: int = 1000, **more: Any) -> dict[str, Any]:
    nuclei = nuclei_table(round(percent * n_nuclei / 100), n_nuclei)
    row = {
        "slide_id": slide_id,
        **summarise(nuclei, tissue_mm2=1.5, mpp=0.5, n_tiles=9, n_tiles_failed=0), "region": "tissue",
        "model": "net@abc", "backend": "openvino", "precision": "bf16", "version": "1", **more,
    }  # fmt: skip
    shard = {"seconds": 2.5, "stages": {"read": 1.25, "infer": 2.0}, "device": "a processor", "status": "ok"}
    numbers = {"pen": 0.0, "no_dab": None, "few_nuclei": n_nuclei}
    return {
        "row": row, "regions": [{**row, "counted": True}], "failed_tiles": [], "shards": [shard],
        "quality": judge(numbers, QualitySettings(), min_nuclei=100),
    }  # fmt: skip


def bad_summary(slide_id: str, status: str, message: str) -> dict[str, Any]:
    row = {"slide_id": slide_id, "status": status, "message": message}
    return {"row": row, "regions": [], "failed_tiles": [], "shards": []}


def write_slide(results: Path, summary: dict[str, Any], *, pictures: bool = True) -> None:
    folder = results / "slides" / summary["row"]["slide_id"]
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", summary)
    write_json(folder / "slide.json", {"path": f"in/{summary['row']['slide_id']}.svs", "info": None})
    if pictures:
        Image.new("RGB", (60, 40), (200, 40, 40)).save(folder / "overlay.jpg")
        for name in ("heatmap.png", "fields.jpg", "od_histogram.png"):
            Image.new("RGB", (60, 40), (40, 40, 200)).save(folder / name)
        (folder / "nuclei.geojson.zip").write_bytes(b"a zip")


def write_cohort_report(results: Path, sheet: list[dict[str, str]]) -> Path:
    page = results / "report/index.html"
    write_report(
        results=results, sheet=sheet, page=page,
        plot=results / "report/percent_positive.svg", examples=results / "report/examples.jpg",
    )  # fmt: skip
    return page


def small_cohort(results: Path) -> Path:
    """Seven good slides, two bad ones that stand last in the sheet, and one full of hostile text.

    One has regions; all are pooled by block.
    """
    for number, percent in enumerate(PERCENTS):
        summary = good_summary(f"good-{number}", percent)
        if number == 3:
            summary["regions"] = [
                {**summary["row"], "region": name, "counted": name != "Control"}
                for name in ("tumour", "Control")
            ]
        write_slide(results, summary)
    write_slide(results, good_summary("few", 30, n_nuclei=50))
    hostile = good_summary("evil", 20, message=EVIL, model=EVIL, backend=EVIL)
    hostile["regions"] = [{**hostile["row"], "region": EVIL, "counted": False}]
    hostile["shards"][0] |= {"device": EVIL, "stages": {EVIL: 1.0}, "fallback": EVIL}
    write_slide(results, hostile)
    write_slide(results, bad_summary("gone", "missing", "in/gone.svs: no such file; correct the path"))
    write_slide(results, bad_summary("torn", "unreadable", EVIL))
    ids = [*(f"good-{number}" for number in range(len(PERCENTS))), "few", "evil", "gone", "torn"]
    sheet = [{"slide_id": name, "block": f"B{at // 2}", EVIL: EVIL} for at, name in enumerate(ids)]
    rows = [
        {**row, **read_json(results / "slides" / row["slide_id"] / "summary.json")["row"]} for row in sheet
    ]
    write_groups(results / "cohort_er_by_group.csv", "block", pool(rows, "block", settings=ScoreSettings()))
    return write_cohort_report(results, sheet)


def large_cohort(results: Path, n_slides: int) -> Path:
    """Write as many slides as asked for, every fiftieth of them bad, without pictures."""
    draws = np.random.default_rng(1).beta(0.4, 0.7, n_slides) * 100
    sheet = []
    for number, percent in enumerate(draws):
        slide_id = f"case-{number:05d}"
        bad = number % 50 == 7
        summary = (
            bad_summary(slide_id, "unreadable", "cannot be opened")
            if bad
            else good_summary(slide_id, percent)
        )
        write_slide(results, summary, pictures=False)
        sheet.append(
            {"slide_id": slide_id, "block": f"block {number % 40}", "patient": f"P{number // 2:04d}"}
        )
    return write_cohort_report(results, sheet)


PLANTED = ((100, 100, True, 0.9), (300, 160, False, 0.9), (511, 300, True, 0.4), (900, 700, True, 0.95))
"""Nuclei on the slide with a view: x and y from the corner of the scanned part, positive, score."""

NUCLEUS_PX = 40


def slide_with_nuclei(results: Path, scn: Path, slide_id: str = "seen") -> None:
    """Write the results of a slide whose scanned part does not begin at the origin, with planted nuclei."""
    folder = results / "slides" / slide_id
    folder.mkdir(parents=True)
    with open_slide(scn) as slide:
        info = slide.info
        Image.fromarray(slide.thumbnail(8.0)).save(folder / "thumbnail.jpg")
    tissue = TissueRecord(16.0, 16.0, (255.0, 255.0, 255.0), 0.1)
    SlideRecord(slide_id, str(scn), status=Status.OK, info=info, tissue=tissue).write(folder / "slide.json")
    left, top = info.bounds[:2]
    half = NUCLEUS_PX / 2
    rows = [
        {
            "x0": left + x - half, "y0": top + y - half, "x1": left + x + half, "y1": top + y + half,
            "score": score, "label": schema.POSITIVE if positive else schema.NEGATIVE, "dab_od": 0.5,
            "hematoxylin_od": 0.3, "grade": 3 if positive else 0, "region": "tissue", "tile_id": 0,
        }
        for x, y, positive, score in PLANTED
    ]  # fmt: skip
    write_table(folder / "nuclei.parquet", pl.DataFrame(rows), schema.NUCLEI)
    summary = good_summary(slide_id, 75.0, n_nuclei=len(PLANTED))
    write_json(folder / "summary.json", summary)
