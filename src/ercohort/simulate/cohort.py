"""A small simulated cohort with its sheet: what a first run of the workflow is tried on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ercohort.files import atomic_path
from ercohort.simulate.slide import Truth, simulate_slide


@dataclass(frozen=True)
class DemoSlide:
    """One slide of the demo: its id, block, share of positive nuclei and DAB strength; None: no tissue."""

    slide_id: str
    block: str
    percent_positive: float | None
    dab_strength: float


DEMO_SLIDES = (
    DemoSlide("sim-negative", "A1", 0.0, 0.6),
    DemoSlide("sim-low-positive", "A2", 5.0, 0.45),
    DemoSlide("sim-positive", "B1", 90.0, 0.9),
    DemoSlide("sim-mixed", "B2", 40.0, 0.6),
    DemoSlide("sim-no-tissue", "C1", None, 0.6),
)


def simulate_cohort(
    folder: str | os.PathLike[str],
    *,
    width: int = 6000,
    height: int = 4000,
    mpp: float = 0.5,
    seed: int = 1,
    threads: int = 2,
) -> list[Truth]:
    """Write the demo cohort: slides, truth tables and `samples.tsv`.

    The sheet has two rows more than there are good slides: one whose file does not exist, and one file that
    is no slide. Its paths are relative to the folder in which it lies.

    Returns
    -------
    The truth of each slide, in the order of the sheet.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    truths = []
    rows = ["slide_id\tpath\tblock"]
    for number, slide in enumerate(DEMO_SLIDES):
        name = f"{slide.slide_id}.tiff"
        truths.append(
            simulate_slide(
                folder / name, width=width, height=height, mpp=mpp, seed=seed * 100 + number, threads=threads,
                percent_positive=slide.percent_positive or 0.0, tissue=slide.percent_positive is not None,
                dab_strength=slide.dab_strength,
            )
        )  # fmt: skip
        rows.append(f"{slide.slide_id}\t{name}\t{slide.block}")
    rows += ["sim-missing\tsim-missing.tiff\tC2", "sim-no-slide\tsim-no-slide.tiff\tD1"]
    with atomic_path(folder / "sim-no-slide.tiff") as temporary:
        temporary.write_text("This file has the name of a slide, but it is a text.\n")
    with atomic_path(folder / "samples.tsv") as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    return truths
