"""A slide in memory and tables of nuclei, for tests of the pictures."""

from __future__ import annotations

import numpy as np
import polars as pl

from ercohort.errors import SlideError, Status
from ercohort.schema import LABELS
from ercohort.slide import SlideInfo

GREY = 200
LEVELS = (1, 4, 16, 64)


class GreySlide:
    """A plain grey slide in memory; with `broken`, no pixel of it can be read."""

    def __init__(self, width=2000, height=1500, *, bounds=None, mpp=0.5, broken=False, simulated=False):
        self.broken = broken
        self.info = SlideInfo(
            path="slide",
            vendor="test",
            width=width,
            height=height,
            mpp=mpp,
            mpp_source="sheet",
            level_dimensions=tuple((max(width // down, 1), max(height // down, 1)) for down in LEVELS),
            level_downsamples=tuple(map(float, LEVELS)),
            bounds=bounds or (0, 0, width, height),
            has_bounds=bounds is not None,
            background=(255, 255, 255),
            reader="test",
            file_bytes=1,
            simulated=simulated,
        )

    def level_for(self, downsample):
        return max(level for level, down in enumerate(LEVELS) if down <= max(downsample, 1))

    def read_level(self, level, start, step, out):
        if self.broken:
            raise SlideError(Status.UNREADABLE, "cannot be read")
        assert step == (1.0, 1.0)
        out[:] = GREY


def table(centres, labels, size=16, classes=LABELS):
    x, y = np.reshape(centres, (-1, 2)).astype(np.float32).T
    half = size / 2
    return pl.DataFrame(
        {"x0": x - half, "y0": y - half, "x1": x + half, "y1": y + half, "label": labels},
        schema={**dict.fromkeys(("x0", "y0", "x1", "y1"), pl.Float32), "label": pl.Enum(classes)},
    )


def row(**values):
    empty = dict.fromkeys(("n_nuclei", "percent_positive", "ci_low", "ci_high", "er_category", "tissue_mm2"))
    return {"slide_id": "S1", "status": "ok", "message": "", **empty, **values}


SCORED = row(
    n_nuclei=2, n_positive=1, percent_positive=50.0, ci_low=9.5, ci_high=90.5, er_category="Positive"
)
