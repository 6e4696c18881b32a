"""The report in Chromium: how long a thousand slides take to load, how smoothly a million nuclei move.

`make bench-report`. The slides are synthetic summaries, the nuclei are drawn at random: nothing is detected.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from ercohort import schema
from ercohort.errors import Status
from ercohort.files import write_table
from ercohort.record import SlideRecord, TissueRecord
from ercohort.report.serve import make_server
from ercohort.slide import SlideInfo
from tests.report_cohort import large_cohort

WIDTH, HEIGHT = 38_463, 25_295

PAN = """async ([zoom, frames]) => {
  const viewport = ercohortViewer.viewport, times = [];
  viewport.zoomTo(zoom, null, true);
  await new Promise((done) => setTimeout(done, 2000));
  let last = performance.now();
  for (let frame = 0; frame < frames; frame++) {
    viewport.panBy(new OpenSeadragon.Point(0.004 / zoom * (frame < frames / 2 ? 1 : -1) * 2, 0), true);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def nuclei(n: int) -> pl.DataFrame:
    """Draw nuclei over the whole slide."""
    draw = np.random.default_rng(1)
    x, y, side = draw.uniform(0, WIDTH, n), draw.uniform(0, HEIGHT, n), draw.uniform(12, 26, n)
    positive = draw.uniform(size=n) < 0.4
    label = pl.Series(np.where(positive, *schema.LABELS), dtype=pl.Enum(schema.LABELS))
    return pl.DataFrame(
        {
            "x0": x - side / 2, "y0": y - side / 2, "x1": x + side / 2, "y1": y + side / 2,
            "score": draw.uniform(0.25, 1, n), "label": label, "dab_od": 0.3, "hematoxylin_od": 0.3,
            "grade": positive.astype(np.uint8), "region": "tissue", "tile_id": 0,
        }
    )  # fmt: skip


def write_slide(results: Path, n: int) -> None:
    """Write a slide whose file is gone: only its thumbnail and its nuclei are shown."""
    folder = results / "slides/million"
    folder.mkdir(parents=True)
    info = SlideInfo(
        "none.svs", "aperio", WIDTH, HEIGHT, 0.5, "file", ((WIDTH, HEIGHT),), (1.0,), (0, 0, WIDTH, HEIGHT),
        False, (255, 255, 255), "vips", 1,
    )  # fmt: skip
    tissue = TissueRecord(16.0, 16.0, (255.0, 255.0, 255.0), 240.0)
    SlideRecord("million", "none.svs", Status.OK, info=info, tissue=tissue).write(folder / "slide.json")
    Image.new("RGB", (WIDTH // 16, HEIGHT // 16), (225, 220, 230)).save(folder / "thumbnail.jpg")
    write_table(folder / "nuclei.parquet", nuclei(n), schema.NUCLEI)


class Meter:
    """Processor time of a page's main thread, which other work on the machine does not lengthen much."""

    def __init__(self, tab: Any) -> None:
        self.session = tab.context.new_cdp_session(tab)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def seconds(self) -> float:
        """Return what the tasks of the page have taken so far."""
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def load_report(browser: Any, page: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Open the page anew; return seconds until the table stands, by the clock and of processor."""
    clock, processor = [], []
    for _ in range(rounds):
        tab = browser.new_page()
        meter = Meter(tab)
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready=yes]", state="attached")
        clock.append(tab.evaluate("performance.now()") / 1000)
        processor.append(meter.seconds())
        tab.close()
    return clock, processor


def pan(browser: Any, address: str, zooms: list[float], frames: int) -> None:
    """Move the slide at several zooms and print the time of the frames."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.set_default_timeout(300_000)
    meter = Meter(tab)
    tab.goto(f"{address}view/million")
    tab.wait_for_selector("html[data-ready=yes]", state="attached")
    for zoom in zooms:
        before = meter.seconds()
        times = tab.evaluate(PAN, [zoom, frames])
        busy = 1000 * (meter.seconds() - before) / frames
        median, slow = statistics.median(times), np.quantile(times, 0.95)
        place = tab.inner_text("#place")
        print(f"{place}: frames of {median:.1f} ms (95 %: {slow:.1f} ms), processor {busy:.1f} ms a frame")
    tab.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--nuclei", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        page = large_cohort(Path(folder) / "large/results", arguments.slides)
        clock, processor = map(statistics.median, load_report(browser, page, arguments.rounds))
        print(f"{arguments.slides:,} slides, {page.stat().st_size / 1e6:.1f} MB: loaded in {clock:.2f} s")
        print(f"of that, processor time of the page: {processor:.2f} s")
        results = Path(folder) / "million/results"
        write_slide(results, arguments.nuclei)
        server = make_server(results)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pan(browser, server.address, [1, 4, 12, 40], 120)
        server.shutdown()
        browser.close()


if __name__ == "__main__":
    main()
