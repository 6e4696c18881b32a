"""The histogram of optical densities: every nucleus in its place, every threshold at its own."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ercohort.canvas import INK
from ercohort.config import ScoreSettings
from ercohort.geojson import COLOURS
from ercohort.od_histogram import (
    ABOVE,
    BIN,
    LEFT,
    PLOT_HEIGHT,
    TOP_OD,
    WIDTH,
    count_densities,
    write_od_histogram,
)
from ercohort.schema import LABELS, NEGATIVE, POSITIVE
from tests.grey_slide import SCORED, row

TOP = 168 + ABOVE
SPAN = WIDTH - 48 - LEFT


def nuclei(densities, labels):
    return pl.DataFrame(
        {"label": labels, "dab_od": densities},
        schema={"label": pl.Enum(LABELS), "dab_od": pl.Float32},
    )


def draw(tmp_path, table, scores=None, values=SCORED, **more):
    write_od_histogram(tmp_path / "h.png", nuclei=table, row=values, scores=scores or ScoreSettings(), **more)
    return np.asarray(Image.open(tmp_path / "h.png")).astype(int)[TOP : TOP + PLOT_HEIGHT]


def columns(picture, colour):
    return np.unique(np.argwhere(np.abs(picture - np.array(colour)).max(axis=2) < 8)[:, 1])


def test_a_density_is_counted_in_the_bin_that_begins_at_or_below_it():
    values = np.array([0.0, 0.0199, 0.02, 0.2, 0.4, 0.6, 1.39, 1.4, 9.0, np.nan, -0.1], np.float32)
    counts = count_densities(values, np.zeros(11, int), 2)
    assert counts[0].sum() == 10
    assert counts[1].sum() == 0
    assert {place: n for place, n in enumerate(counts[0].tolist()) if n} == {
        0: 3,
        1: 1,
        10: 1,
        20: 1,
        30: 1,
        69: 3,
    }


def test_classes_stand_where_their_densities_are(tmp_path):
    picture = draw(tmp_path, nuclei([0.1] * 50 + [0.8] * 5, [NEGATIVE] * 50 + [POSITIVE] * 5))[:-30]
    for label, density in ((NEGATIVE, 0.1), (POSITIVE, 0.8)):
        found = columns(picture, COLOURS[label])
        assert found.min() == pytest.approx(LEFT + SPAN * density / TOP_OD, abs=3)
        assert found.max() == pytest.approx(LEFT + SPAN * (density + BIN) / TOP_OD, abs=3)


def test_a_rare_class_is_as_high_as_a_common_one(tmp_path):
    picture = draw(tmp_path, nuclei([0.1] * 5000 + [0.8], [NEGATIVE] * 5000 + [POSITIVE]))
    tops = [
        np.argwhere(np.abs(picture - np.array(COLOURS[label])).max(axis=2) < 8)[:, 0].min()
        for label in LABELS
    ]
    assert tops[0] == tops[1]


def test_thresholds_are_those_of_the_settings_and_the_class_cut_is_dashed(tmp_path):
    table = nuclei([1.3], [POSITIVE])
    scores = ScoreSettings(dab_od=[0.15, 0.5, 0.9])
    plain, cut = draw(tmp_path, table, scores), draw(tmp_path, table, scores, min_dab_od=0.3)

    def share_dark(picture, density):
        x = LEFT + SPAN * density / TOP_OD
        return (picture[:-5, round(x) - 1 : round(x) + 2] == INK).all(axis=2).any(axis=1).mean()

    assert [share_dark(plain, density) for density in (0.15, 0.5, 0.9)] == [1, 1, 1]
    assert [share_dark(plain, density) for density in (0.2, 0.3, 0.4, 0.6)] == [0, 0, 0, 0]
    assert 0.3 < share_dark(cut, 0.3) < 0.7


def test_a_slide_without_nuclei_has_the_picture_too(tmp_path):
    assert draw(tmp_path, nuclei([], []), values=row()).std() > 0
