"""The report as text: what it says of the slides, text that cannot act, plots, and the libraries in it."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ercohort.errors import InputError
from ercohort.files import write_json
from ercohort.report.collect import collect_report
from ercohort.report.examples import choose_examples
from ercohort.report.page import HERE
from ercohort.report.plots import RANGES, count_ranges, draw_percent_positive
from tests.report_cohort import EVIL, good_summary, small_cohort, write_cohort_report, write_slide


class Scripts(HTMLParser):
    """The scripts of a page as a browser takes them apart, and every other element's attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return small_cohort(tmp_path_factory.mktemp("cohort") / "results")


@pytest.fixture(scope="module")
def parsed(page):
    found = Scripts()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_hostile_text_stays_inside_the_data(page, parsed):
    text = page.read_text(encoding="utf-8")
    data = json.loads(parsed.scripts[0])
    assert data["columns"] == ["block", EVIL]
    assert {slide["id"]: slide for slide in data["slides"]}["torn"]["row"]["message"] == EVIL
    assert "\u2028" not in text
    assert "window.hacked" not in "".join(parsed.scripts[1:])
    assert [attributes for tag, attributes in parsed.tags if tag == "img"] == []


def test_nothing_but_the_page_s_own_scripts_may_run_and_nothing_is_fetched(page, parsed):
    assert not any("src" in attributes for tag, attributes in parsed.tags if tag == "script")
    assert [a["href"] for tag, a in parsed.tags if tag == "link"] == ["data:,"]
    assert "sourceMappingURL" not in page.read_text(encoding="utf-8")
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy.split("style-src")[0]
    assert policy.count("'sha256-") == len(parsed.scripts) - 1


def test_bad_slides_come_first_and_numbers_are_those_of_the_table(page):
    data = collect_report(page.parents[1], [{"slide_id": "good-1"}, {"slide_id": "gone"}])
    assert [slide["id"] for slide in data["slides"]] == ["gone", "good-1"]
    good = data["slides"][1]
    assert good["row"]["percent_positive"] == 0.5
    assert good["regions"][0]["percent_positive"] == 0.5
    names = [picture["file"] for picture in good["pictures"]]
    assert names == ["overlay.jpg", "fields.jpg", "heatmap.png", "od_histogram.png"]
    assert [file["file"] for file in good["files"]] == ["nuclei.geojson.zip", "summary.json", "slide.json"]


def test_a_flag_is_shown_with_its_number_its_threshold_and_what_to_do(page):
    data = collect_report(page.parents[1], [{"slide_id": name} for name in ("good-1", "few", "gone")])
    flags = {slide["id"]: slide["flags"] for slide in data["slides"]}
    assert flags == {
        "gone": [],
        "good-1": [],
        "few": [
            {"name": "few_nuclei", "meaning": "few nuclei: the percentage is uncertain",
             "number": "nuclei 50 (at least 100)"}
        ],
    }  # fmt: skip


def test_pictures_that_others_add_are_taken_and_half_written_ones_are_not(tmp_path):
    write_slide(tmp_path, good_summary("one", 5))
    folder = tmp_path / "slides/one"
    for name in ("zebra.png", "fields.jpg", "thumbnail.jpg", "tissue.png", ".overlay.jpg.x.tmp.jpg"):
        Image.new("RGB", (4, 4)).save(folder / name)
    (slide,) = collect_report(tmp_path, [{"slide_id": "one"}])["slides"]
    names = [picture["file"] for picture in slide["pictures"]]
    assert names == ["overlay.jpg", "fields.jpg", "heatmap.png", "od_histogram.png", "zebra.png"]


def test_groups_are_those_of_the_table_and_none_of_an_earlier_sheet(page):
    results = page.parents[1]
    groups = collect_report(results, [{"slide_id": "good-1", "block": "B0"}])["groups"]
    assert groups["column"] == "block"
    assert [row["block"] for row in groups["rows"]] == [f"B{number}" for number in range(6)]
    assert (groups["rows"][0]["n_nuclei"], groups["rows"][0]["percent_positive"]) == (2000, 0.25)
    assert collect_report(results, [{"slide_id": "good-1"}])["groups"] is None


@pytest.mark.parametrize(("stated", "table"), [(True, False), (False, True), (False, False)])
def test_a_slide_is_simulated_if_its_file_says_so_or_its_truth_lies_beside_it(tmp_path, stated, table):
    results = tmp_path / "results"
    write_slide(results, good_summary("one", 5))
    info = {"simulated": True} if stated else None
    write_json(results / "slides/one/slide.json", {"path": "in/one.svs", "info": info})
    if table:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/one.truth.parquet").touch()
    (slide,) = collect_report(results, [{"slide_id": "one"}])["slides"]
    assert slide["simulated"] == (stated or table)


def test_the_same_results_give_the_same_bytes(page, tmp_path):
    again = small_cohort(tmp_path / "results")
    for name in ("index.html", "percent_positive.svg", "examples.jpg"):
        assert (page.parent / name).read_bytes() == (again.parent / name).read_bytes()


def test_a_slide_without_summary_is_one_line_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"slides/x/summary.json: cannot be read .*; run snakemake"):
        collect_report(tmp_path, [{"slide_id": "x"}])


def test_a_cohort_without_any_result_has_a_report(tmp_path):
    page = write_cohort_report(tmp_path / "results", [])
    assert "ER cohort report" in page.read_text(encoding="utf-8")


def test_a_slide_on_a_cut_off_is_counted_in_its_category():
    counts = count_ranges([0, 0.99, 1.0, 10.0, 10.01, 100])
    low, high = RANGES.index(1), RANGES.index(10)
    assert counts[:low].sum() == 2
    assert counts[low:high].sum() == 2
    assert counts[high:].sum() == 2
    assert counts.sum() == 6


def test_every_scored_slide_is_a_bar_of_its_own_in_the_plot():
    rows = [
        {"percent_positive": p, "er_category": "Positive", "ci_low": p, "ci_high": p} for p in (50.0, 20.0)
    ]
    svg = draw_percent_positive([rows[0], {"status": "missing"}, rows[1]])
    assert re.findall(r'id="(bar-\d+)"', svg) == ["bar-2", "bar-0"]


def test_examples_are_the_extremes_and_the_slides_beside_the_cut_offs():
    percents = np.array([0, 0.2, 0.9, 1.3, 4, 8, 9.5, 11, 40, 70, 99])
    rows = [{"slide_id": f"s{p:g}", "percent_positive": p} for p in percents]
    assert choose_examples([*rows, {"slide_id": "bad"}]) == ["s0", "s0.9", "s1.3", "s9.5", "s11", "s99"]


def test_the_libraries_are_what_was_fetched_and_have_their_licences():
    folder = HERE / "vendor"
    known = json.loads((folder / "vendored.json").read_text())
    sums = {name: digest for package in known for name, digest in package["sha256"].items()}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    assert {path.name for path in folder.iterdir() if path.is_file()} == {*sums, "fetch.py", "vendored.json"}
    notice = (HERE.parents[2] / "NOTICE").read_text()
    assert all(f"{package['version']}" in notice for package in known)
