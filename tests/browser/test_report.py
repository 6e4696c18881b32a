"""The cohort's report, opened from disk in Chromium."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.report_cohort import EVIL


def open_page(page, path: Path, anchor: str = "") -> None:
    page.goto(path.as_uri() + anchor)
    page.wait_for_selector("html[data-ready=yes]", state="attached")


def until(page, condition: str) -> None:
    """Wait for a condition; the driver's own way to wait is a script that the page rightly refuses."""
    deadline = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def ids(page) -> list[str]:
    return page.locator("#table .tabulator-row [tabulator-field=id]").all_inner_texts()


def heading(page, name: str):
    return page.locator("#table .tabulator-col", has=page.get_by_text(name, exact=True)).first


def test_it_opens_from_disk_and_asks_for_nothing_but_the_run_s_own_files(page, seen, report):
    open_page(page, report)
    page.get_by_role("link", name="good-5").first.click()
    until(
        page, "[...document.images].length === 4 && [...document.images].every((i) => i.naturalWidth === 60)"
    )
    folder = report.parents[1].as_uri()
    assert [url for url in seen.asked if not url.startswith((folder, "data:"))] == []
    assert sorted(Path(url).name for url in seen.asked if url.startswith(folder)) == [
        "fields.jpg", "heatmap.png", "index.html", "od_histogram.png", "overlay.jpg",
    ]  # fmt: skip
    assert seen.said == []
    assert "Research use only" in page.inner_text("[role=note]")


def test_bad_slides_stand_first_with_their_reason(page, report):
    open_page(page, report)
    assert ids(page)[:3] == ["gone", "torn", "good-0"]
    told = page.locator("#attention li").all_inner_texts()
    assert told[0] == "gone (missing): in/gone.svs: no such file; correct the path"
    assert len(told) == 2


def test_headings_sort_by_mouse_and_by_keyboard_and_empty_cells_stay_below(page, report):
    open_page(page, report)
    column = heading(page, "Positive %")
    column.click()
    assert ids(page)[:3] == ["good-0", "good-1", "good-2"]
    column.focus()
    page.keyboard.press("Enter")
    assert ids(page)[:2] == ["good-6", "good-5"]
    assert set(ids(page)[-2:]) == {"gone", "torn"}


def test_filters_leave_the_slides_that_fit_and_pale_the_other_bars(page, report):
    open_page(page, report)
    page.keyboard.press("/")
    page.keyboard.type("GOOD-")
    until(page, "document.getElementById('count').textContent === '7 of 11 slides'")
    page.get_by_label("ER category").select_option("Low Positive")
    until(page, "document.getElementById('count').textContent === '3 of 11 slides'")
    assert ids(page) == ["good-2", "good-3", "good-4"]
    assert page.locator("#plot [data-slide]").count() == 9
    assert page.locator("#plot [data-slide].out").count() == 6
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Flag").select_option("few_nuclei")
    until(page, "document.getElementById('count').textContent === '1 of 11 slides'")
    assert ids(page) == ["few"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Positive % from").fill("1")
    page.get_by_label("to", exact=True).fill("10")
    until(page, "document.getElementById('count').textContent === '3 of 11 slides'")


def test_a_slide_is_opened_and_left_with_the_keyboard_alone(page, report):
    open_page(page, report)
    page.locator("#table .tabulator-row a", has_text="good-1").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#slide-heading:focus")
    text = page.inner_text("#slide")
    for part in ("0.50 % of 1,000 nuclei", "Negative", "net@abc", "a processor", "2.50"):
        assert part in text
    geojson = page.get_by_role("link", name="nuclei.geojson.zip").get_attribute("href")
    assert (report.parent / geojson).read_bytes() == b"a zip"
    page.keyboard.press("n")
    until(page, "document.title.startsWith('good-2')")
    page.keyboard.press("p")
    until(page, "document.title.startsWith('good-1')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cohort:not([hidden])")
    until(page, "document.activeElement.textContent === 'good-1'")


def cells(page, table: str) -> list[list[str]]:
    rows = page.locator(f"{table} .tabulator-row").all()
    return [row.locator(".tabulator-cell").all_inner_texts() for row in rows]


def test_slides_pooled_by_a_column_and_regions_have_tables_of_their_own(page, seen, report):
    open_page(page, report)
    pooled = cells(page, "#groups")
    assert page.inner_text("#groups h2") == "Slides pooled by block"
    assert pooled[0][:4] == ["B0", "2", "2,000", "0.25"]  # 0 % and 0.5 % of 1,000 nuclei each
    assert pooled[5][:3] == ["B5", "0 of 1", ""]
    regions = [row[:5] for row in cells(page, "#regions")]
    assert ["good-3", "tumour", "yes", "1,000", "4.20"] in regions
    assert ["good-3", "Control", "no", "1,000", "4.20"] in regions
    heads = page.locator("#groups .tabulator-col")
    heads.filter(has_text="Positive %").click()
    assert cells(page, "#groups")[0][0] == "B0"
    heads.filter(has_text="Positive %").focus()
    page.keyboard.press("Enter")
    assert cells(page, "#groups")[0][0] == "B3"
    page.locator("#regions a", has_text="good-3").first.click()
    until(page, "document.title.startsWith('good-3')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cohort:not([hidden])")
    assert len(cells(page, "#groups")) == 6
    assert seen.said == []


def test_tables_are_drawn_whole_when_the_report_was_opened_at_a_slide(page, report):
    open_page(page, report, "#/slide/good-1")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cohort:not([hidden])")
    until(page, "document.querySelectorAll('#groups .tabulator-row').length === 6")
    until(page, "document.querySelector('#groups .tabulator-cell')?.getBoundingClientRect().width > 50")
    assert len(cells(page, "#groups")) == 6


def test_a_slide_without_nuclei_has_one_picture(page, report):
    open_page(page, report, "#/slide/torn")
    assert page.locator("#slide img").count() == 1


def test_a_flag_says_its_number_its_threshold_and_what_it_means(page, report):
    open_page(page, report)
    page.get_by_role("grid", name="Slides").get_by_role("link", name="few").click()
    page.wait_for_selector("#slide-heading")
    flags = page.locator("h2", has_text="Quality flags").locator("xpath=..")
    assert flags.locator("tr").all_inner_texts() == [
        "few nuclei\tnuclei 50 (at least 100)\tfew nuclei: the percentage is uncertain"
    ]


def test_a_bar_opens_its_slide_and_an_address_leads_to_it(page, report):
    open_page(page, report)
    page.locator("#plot [data-slide]", has=page.locator("title", has_text="good-6")).click()
    until(page, "document.title.startsWith('good-6')")
    open_page(page, report, "#/slide/gone")
    assert "no such file" in page.inner_text("#slide .message")


@pytest.mark.parametrize("slide", ["evil", "torn"])
def test_text_from_outside_is_shown_and_does_nothing(page, seen, report, slide):
    open_page(page, report)
    assert page.locator("#table .tabulator-col-title", has_text="onerror='hacked=1'").count() == 1
    open_page(page, report, f"#/slide/{slide}")
    assert EVIL.split("\u2028")[0] in page.inner_text("#slide .message")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    assert seen.said == []


def test_a_thousand_slides_load_and_only_what_is_seen_is_in_the_page(page, seen, large_report):
    page.set_default_timeout(30_000)
    open_page(page, large_report)
    assert page.inner_text("#count") == "1,000 of 1,000 slides"
    assert 10 < page.locator("#table .tabulator-row").count() < 150
    assert page.locator("#attention li").count() == 20
    heading(page, "Slide").click()
    heading(page, "Slide").click()
    assert ids(page)[0] == "case-00999"
    assert seen.said == []
