"""The workflow on real slides, and how its nuclei agree with annotated ones."""

from __future__ import annotations

import csv
from itertools import islice

import polars as pl
import pytest
from rich.console import Console

from ercohort.cohort import read_cohort, table_text
from ercohort.evaluate import evaluate_results
from ercohort.evaluation_report import format_evaluation
from tests.workflow.conftest import Folder

# Twenty slides: on a busy machine without bf16 instructions they take more than five minutes.
pytestmark = [pytest.mark.real_data, pytest.mark.slow, pytest.mark.timeout(1800)]

FIELDS = ("ki67-fields", "bcdata")
EXPECTED = {
    "svs": {"ok", "no_nuclei"},
    "ndpi-dapi": {"no_tissue"},
    "ndpi-tritc": {"no_tissue"},
    "nonsense-mpp": {"no_mpp"},
    "small-dicom": {"unreadable"},
    "smalltif": {"no_mpp"},
}


def sheet_rows(shared_data):
    slides = shared_data / "slides"
    rows = [
        ("svs", slides / "CMU-1-Small-Region.svs", ""),
        ("ndpi-dapi", slides / "test3-DAPI-2-387.ndpi", ""),
        ("ndpi-tritc", slides / "test3-TRITC-2-560.ndpi", ""),
        ("nonsense-mpp", slides / "bad/nonsense-mpp.tiff", ""),
        ("small-dicom", slides / "bad/small_dicom.dcm", ""),
        ("smalltif", slides / "bad/smalltif.tif", ""),
    ]
    for kind in FIELDS:
        with (shared_data / "ihc-dev" / kind / "index.csv").open() as file:
            # Every second one: what breaks shows on these; `evaluate` on all gave the model card's figures.
            for row in islice(csv.DictReader(file), None, None, 2):
                image = shared_data / "ihc-dev" / kind / row["id"] / "image.png"
                rows.append((row["id"], image, row["mpp_estimate"]))
    return [(slide_id, str(path), mpp, "") for slide_id, path, mpp in rows]


@pytest.fixture(scope="module")
def cohort(shared_data, tmp_path_factory, request):
    path = tmp_path_factory.mktemp("real")
    (path / "config").mkdir()
    folder = Folder(path)
    folder.write_config(precision="auto")
    folder.write_sheet(*sheet_rows(shared_data))
    result = folder.snakemake("--quiet", "rules", timeout=1700)
    assert result.returncode == 0, result.stdout + result.stderr
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + table_text(read_cohort(path / "results/cohort_er.csv"), width=140))
    return folder


def test_every_slide_has_one_row_and_the_right_status(cohort, shared_data):
    table = cohort.table()
    assert table["slide_id"].to_list() == [row[0] for row in sheet_rows(shared_data)]
    status = dict(zip(table["slide_id"], table["status"], strict=True))
    for slide_id, allowed in EXPECTED.items():
        assert status.pop(slide_id) in allowed, slide_id
    assert set(status.values()) == {"ok"}
    assert table.filter(pl.col("status").is_in(["unreadable", "no_mpp"]))["message"].null_count() == 0


def test_the_slide_of_another_stain_is_flagged_and_no_field_is(cohort):
    """CMU-1-Small-Region is H&E; the fields are DAB with haematoxylin."""
    table = cohort.table()
    flagged = table.filter(pl.col("qc_flags").fill_null("").str.contains("other_stain"))
    assert flagged["slide_id"].to_list() == ["svs"]
    fields = table.filter((pl.col("status") == "ok") & (pl.col("slide_id") != "svs"))
    assert fields["percent_od_disagrees"].max() < 20  # well below the threshold of 30


@pytest.mark.parametrize("kind", FIELDS)
def test_nuclei_agree_with_the_annotated_fields(cohort, shared_data, kind, capsys):
    """Floors well under the figures of the model card: they catch a broken path, not a worse model."""
    evaluation = evaluate_results(cohort.path / "results", shared_data / "ihc-dev" / kind)
    with capsys.disabled():
        console = Console(width=140, color_system=None)
        console.print(f"\n{kind}")
        console.print(format_evaluation(evaluation))
    assert len(evaluation.slides) == 7
    assert evaluation.pooled.detection.f1 > 0.5
