"""The six fields: planted nuclei, of which each reason has one right field."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ercohort.canvas import INK
from ercohort.field_strip import field_side, write_fields
from ercohort.geojson import COLOURS
from ercohort.informative_fields import MIN_NUCLEI, Cores, choose_informative
from ercohort.schema import NEGATIVE, POSITIVE
from tests.grey_slide import SCORED, GreySlide, row, table

SIDE = 400
SIZE = 8000
CORE = 1000


def grid_of_cores(kept=None, side=CORE, n=SIZE // CORE):
    row_, col = (at.ravel() for at in np.mgrid[:n, :n])
    keep = np.ones(n * n, bool) if kept is None else kept
    return pl.DataFrame(
        {"core_x0": (col * side)[keep], "core_y0": (row_ * side)[keep], "core_x1": ((col + 1) * side)[keep]}
    )


class Planted:
    """Nuclei on a slide of 8000 x 8000 px, a patch of them at a time."""

    def __init__(self):
        self.rng = np.random.default_rng(7)
        self.centres, self.positive, self.scores = [], [], []

    def patch(self, x, y, n, positive, *, score=0.9, side=SIDE):
        """Put nuclei of 10 px inside a square, away from its border."""
        self.centres.append(self.rng.uniform((x + 12, y + 12), (x + side - 12, y + side - 12), (n, 2)))
        self.positive += [True] * positive + [False] * (n - positive)
        self.scores += [score] * n
        return self

    def choose(self, *, mask=None, cores=None, side=SIDE, densities=None):
        centres = np.vstack(self.centres)
        return choose_informative(
            boxes=np.hstack([centres - 5, centres + 5]),
            is_positive=np.array(self.positive),
            scores=np.array(self.scores),
            densities=np.linspace(0, 0.2, len(centres)) if densities is None else densities,
            cores=Cores.of(grid_of_cores() if cores is None else cores),
            mask=np.ones((80, 80), bool) if mask is None else mask,
            size=(SIZE, SIZE),
            bounds=(0, 0, SIZE, SIZE),
            side=side,
        )


def test_each_reason_finds_the_field_that_was_planted_for_it():
    planted = Planted()
    planted.patch(2400, 2400, 140, 130).patch(5200, 2400, 120, 0).patch(2400, 5200, 80, 30, score=0.3)
    planted.patch(6400, 6400, 80, 8)
    planted.patch(3200, 6400, 60, 20)  # at the edge of the tissue
    for x, y in ((4000, 4010), (4000, 4100), (4000, 4200)):  # across the seam at x = 4000
        planted.centres.append(np.array([[x, y]]))
        planted.positive.append(False)
        planted.scores.append(0.9)
    planted.patch(3800, 4000, 60, 20)
    planted.patch(400, 6400, 70, 40)  # where there is no tissue at all
    mask = np.ones((80, 80), bool)
    mask[60:72, :12] = False
    mask[66:70, 30:40] = False
    mask[64:66, 32:36] = True
    found = {field.name: (field.x, field.y, field.n_nuclei) for field in planted.choose(mask=mask)}
    assert found == {
        "Densest positive": (2400, 2400, 140),
        "Densest negative": (5200, 2400, 120),
        "Least certain": (2400, 5200, 80),
        "At a seam": (3800, 4000, 63),
        "At the edge of the tissue": (3200, 6400, 60),
        "Nearest to 10 %": found["Nearest to 10 %"],
    }
    limit = next(field for field in planted.choose(mask=mask) if field.name == "Nearest to 10 %")
    assert (limit.x, limit.y, limit.n_positive) == (6400, 6400, 8)


def test_the_limit_is_the_one_that_the_slide_is_near():
    none = grid_of_cores().clear()
    planted = Planted().patch(800, 800, 200, 0).patch(4000, 800, 100, 1).patch(4000, 4000, 100, 10)
    planted.patch(800, 4000, 100, 11).patch(6000, 6000, 100, 0, score=0.5)
    near = planted.choose(cores=none)[-1]
    assert (near.name, near.x, near.y) == ("Nearest to 10 %", 4000, 4000)
    planted.patch(6000, 800, 170, 0).patch(800, 6000, 190, 0).patch(4000, 6000, 190, 0)
    near = planted.choose(cores=none)[-1]
    assert (near.name, near.x, near.y) == ("Nearest to 1 %", 4000, 800)


def test_a_field_that_is_only_the_best_beside_others_says_so():
    planted = Planted().patch(2400, 2400, 200, 100).patch(5600, 5600, 50, 10)
    positive, negative, *_ = planted.choose()
    assert (positive.name, positive.x, positive.y) == ("Densest positive", 2400, 2400)
    assert (negative.name, negative.x, negative.y) == ("Densest negative, outside A", 5600, 5600)


def test_where_all_is_tissue_the_edge_is_the_slide_s():
    planted = Planted().patch(7600, 3200, 70, 10).patch(3200, 3200, 90, 50).patch(800, 800, 90, 0)
    planted.patch(4800, 4800, 80, 20, score=0.3)
    (edge,) = [field for field in planted.choose() if "edge" in field.name]
    assert (edge.name, edge.x) == ("At the edge of the slide", SIZE - SIDE)


def test_a_seam_is_only_between_tiles_that_were_both_looked_at():
    planted = Planted().patch(3800, 4400, 60, 20).patch(800, 800, 90, 0).patch(6400, 800, 90, 90)
    planted.patch(1200, 6400, 90, 20, score=0.3)
    planted.centres.append(np.array([[4000.0, 4500.0]]))
    planted.positive.append(False)
    planted.scores.append(0.9)
    seam = next(field for field in planted.choose() if "seam" in field.name)
    assert (seam.x, seam.y) == (3800, 4400)
    kept = np.ones(64, bool)
    kept[4 * 8 + 3] = False  # the core to the left of x = 4000 at y = 4500
    assert not any("seam" in field.name for field in planted.choose(cores=grid_of_cores(kept)))
    assert not any("seam" in field.name for field in planted.choose(cores=grid_of_cores().clear()))


def test_seams_are_drawn_where_cores_meet():
    cores = Cores.of(grid_of_cores())
    assert list(cores.lines((900, 200, 200, 200))) == [((1000, 200), (1000, 400))]
    assert list(cores.lines((200, 900, 200, 200))) == [((200, 1000), (400, 1000))]
    assert list(cores.lines((200, 200, 200, 200))) == []
    kept = np.zeros(64, bool)
    kept[0] = True
    assert list(Cores.of(grid_of_cores(kept)).lines((900, 200, 200, 200))) == []


def test_a_slide_without_positive_nuclei_has_no_field_for_them():
    planted = Planted().patch(800, 800, 100, 0).patch(4000, 4000, 90, 0).patch(6400, 800, 60, 0)
    densities = np.full(250, 0.1)
    densities[200] = 0.19
    fields = {field.name: field for field in planted.choose(densities=densities)}
    assert "Densest negative" in fields
    assert not any("ositive" in name or "%" in name for name in fields)
    # Instead, where one could have been missed.
    assert (fields["Brownest"].x, fields["Brownest"].y) == (6400, 800)
    assert fields["Brownest"].why == "its densest nucleus: 0.19 of DAB"


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 300),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    side=st.integers(2, 500),
    seed=st.integers(0, 99),
)
def test_fields_stay_on_the_slide_apart_from_each_other_and_are_the_same_again(n, width, height, side, seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform((100, 50), (100 + width, 50 + height), (n, 2))
    values = {
        "boxes": np.hstack([centres - 4, centres + 4]),
        "is_positive": rng.random(n) < 0.3,
        "scores": rng.random(n),
        "densities": rng.random(n),
        "cores": Cores.of(grid_of_cores(side=500)),
        "mask": rng.random((20, 20)) < 0.7,
        "size": (4000, 4000),
        "bounds": (100, 50, width, height),
        "side": side,
    }
    fields = choose_informative(**values)
    assert fields == choose_informative(**values)
    assert len(fields) <= 6
    for number, field in enumerate(fields):
        assert field.n_positive <= field.n_nuclei
        assert field.n_nuclei >= MIN_NUCLEI
        assert 100 <= field.x <= 100 + width - field.side
        assert 50 <= field.y <= 50 + height - field.side
        for other in fields[:number]:
            assert max(abs(field.x - other.x), abs(field.y - other.y)) >= field.side


def test_a_field_is_shown_pixel_by_pixel_or_enlarged_by_a_whole_number():
    assert [field_side(20_000, mpp) for mpp in (0.25, 0.5, 1.0)] == [640, 320, 160]
    assert field_side(20_000, 0.1) == 768
    assert field_side(600, 0.5) == 200


def strip(tmp_path, slide, nuclei, values=SCORED, **more):
    nuclei = nuclei.with_columns(score=pl.lit(0.9, pl.Float32), dab_od=pl.lit(0.1, pl.Float32))
    write_fields(
        tmp_path / "fields.png", slide=slide, nuclei=nuclei, tiles=grid_of_cores(), row=values,
        mask=more.pop("mask", np.ones((40, 40), bool)), **more,
    )  # fmt: skip
    return np.asarray(Image.open(tmp_path / "fields.png")).astype(int)


def about(picture, colour):
    return np.argwhere(np.abs(picture - np.array(colour)).max(axis=2) < 40)


def test_the_strip_outlines_each_nucleus_in_its_place(tmp_path):
    # All nuclei in one place but one: its outline is where it lies in the only field.
    centres = [[4200, 4200]] * 20 + [[4300, 4250]]
    nuclei = table(centres, [NEGATIVE] * 20 + [POSITIVE], 40)
    picture = strip(tmp_path, GreySlide(8000, 8000, mpp=0.25), nuclei)
    body = picture[168 : 168 + 640, 48 : 48 + 640]
    red, blue = (about(body, COLOURS[label]) for label in (POSITIVE, NEGATIVE))
    middle = [(found.min(axis=0) + found.max(axis=0)) / 2 for found in (red, blue)]
    np.testing.assert_allclose(middle[0] - middle[1], (50, 100), atol=1.5)
    np.testing.assert_allclose(np.ptp(red, axis=0), (40, 40), atol=4)


def test_a_coarse_slide_is_enlarged_and_its_scale_bar_with_it(tmp_path):
    bars = []
    for mpp in (0.25, 0.5):
        scale = 0.25 / mpp
        centres = np.array([[4500, 4500]] * 20) * scale
        slide = GreySlide(int(8000 * scale), int(8000 * scale), mpp=mpp)
        picture = strip(tmp_path, slide, table(centres, [POSITIVE] * 20, 40 * scale))
        body = picture[168 : 168 + 640, 48 : 48 + 640]
        np.testing.assert_allclose(np.ptp(about(body, COLOURS[POSITIVE]), axis=0), (40, 40), atol=4)
        bars.append(np.ptp(np.argwhere((body[600:] == INK).all(axis=2))[:, 1]))
    assert bars[0] == pytest.approx(20 / 0.25, abs=3)
    assert bars[0] == bars[1]


def test_what_cannot_be_read_is_blank_and_the_nuclei_stay(tmp_path):
    nuclei = table([[4200, 4200]] * 20, [POSITIVE] * 20, 40)
    picture = strip(tmp_path, GreySlide(8000, 8000, broken=True), nuclei)
    assert len(about(picture[168:808, 48:688], COLOURS[POSITIVE])) > 50


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 64), (5, 900), (900, 5), (3000, 900)])
@pytest.mark.parametrize("n", [0, 1, 400])
def test_any_slide_has_a_strip(tmp_path, width, height, n):
    centres = np.random.default_rng(1).uniform((0, 0), (width, height), (n, 2))
    picture = strip(tmp_path, GreySlide(width, height), table(centres, [POSITIVE] * n), values=row())
    assert picture.std() > 0
