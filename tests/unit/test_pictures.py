"""The pictures: they always exist, show each nucleus in its place and colour, and pick telling fields."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ercohort import pictures
from ercohort.canvas import PERCENT_RAMP, TISSUE, colour_ramp, font, key_lines, nice_length, score_lines, wrap
from ercohort.geojson import COLOURS, class_colours
from ercohort.heatmap import FEW_NUCLEI, HATCH, write_heatmap
from ercohort.hotspots import choose_fields, count_bins
from ercohort.schema import LABELS, NEGATIVE, POSITIVE
from tests.grey_slide import SCORED, GreySlide, row, table


def draw(tmp_path, slide, nuclei, mask=None, values=SCORED):
    mask = np.zeros((30, 40), bool) if mask is None else mask
    pictures.write_overlay(tmp_path / "overlay.png", slide=slide, nuclei=nuclei, mask=mask, row=values)
    write_heatmap(tmp_path / "heatmap.png", info=slide.info, nuclei=nuclei, mask=mask, row=values)
    return np.asarray(Image.open(tmp_path / "overlay.png")), np.asarray(Image.open(tmp_path / "heatmap.png"))


def places(picture, colour):
    """Rows and columns of the pixels of about that colour, the key at the bottom left out."""
    body = picture[170:-100].astype(int)
    return np.argwhere(np.abs(body - np.array(colour)).max(axis=2) < 40) + np.array([170, 0])


def test_each_nucleus_is_outlined_in_its_place_and_colour(tmp_path):
    overlay, _ = draw(tmp_path, GreySlide(), table([[500, 400], [1500, 1200]], [POSITIVE, NEGATIVE], 40))
    scale = 1500 / 1500  # 2000 x 1500 px fit into 2304 x 1500
    left = (2400 - 2000 * scale) / 2
    for label, centre in ((POSITIVE, (500, 400)), (NEGATIVE, (1500, 1200))):
        found = places(overlay, COLOURS[label])
        middle = (found.min(axis=0) + found.max(axis=0)) / 2 - (168, left)
        np.testing.assert_allclose(middle[::-1], np.multiply(centre, scale), atol=3)
        assert np.ptp(found, axis=0) == pytest.approx(40 * scale, abs=6)


def test_each_class_of_a_detector_has_its_colour(tmp_path):
    classes = ("Negative", "Weak", "Positive", "Mixed")
    centres = [[500, 400], [1500, 400], [500, 1200], [1500, 1200]]
    overlay, _ = draw(tmp_path, GreySlide(), table(centres, classes, 40, classes))
    for label, centre in zip(classes, centres, strict=True):
        found = places(overlay, class_colours(classes)[label])
        middle = (found.min(axis=0) + found.max(axis=0)) / 2 - (168, 200)
        np.testing.assert_allclose(middle[::-1], centre, atol=3)


def test_weak_nuclei_are_a_share_of_the_positive_ones_on_the_heatmap(tmp_path):
    centres = np.random.default_rng(3).uniform((0, 0), (2000, 1500), (4000, 2))
    classes = ("Positive", "Weak", "Negative")
    _, weak = draw(tmp_path, GreySlide(), table(centres, ["Weak"] * 4000, classes=classes))
    _, positive = draw(tmp_path, GreySlide(), table(centres, [POSITIVE] * 4000))
    np.testing.assert_array_equal(weak, positive)


def test_the_tint_of_a_class_is_its_colour(tmp_path):
    rng = np.random.default_rng(0)
    classes = ("Positive", "Negative", "Weak")
    slide, mixed = GreySlide(80_000, 60_000, mpp=0.25), rng.uniform((0, 0), (80_000, 60_000), (80_000, 2))
    overlay, _ = draw(tmp_path, slide, table(mixed, ["Weak"] * 80_000, 30, classes))
    body = overlay[300:1500, 300:1800].astype(int)
    assert np.quantile(body[..., 1] - body[..., 2], 0.9) > 50  # yellow: red and green far above blue
    assert np.quantile(abs(body[..., 0] - body[..., 1]), 0.9) < 10


def test_a_long_key_takes_more_lines_and_stays_beside_the_notice(tmp_path):
    classes = (*(f"Tumor: class of number {number}" for number in range(15)), NEGATIVE)
    counts = {f"n_class_{label}": 1_234_567 for label in classes}
    tissue = [("Tissue", TISSUE)]
    assert len(key_lines({}, LABELS, 1215, tissue)) == 1
    lines = key_lines(counts, classes, 1215, tissue)
    assert len(lines) > 5
    assert [entry[0] for line in lines for entry in line][:1] == ["Tumor: class of number 0 1,234,567"]
    assert len({colour for line in lines for _, colour in line}) == 17
    nuclei = table([[200, 450]], [NEGATIVE], classes=classes)
    long, _ = draw(tmp_path, GreySlide(5, 900), nuclei, values={**SCORED, **counts})
    short, _ = draw(tmp_path, GreySlide(5, 900), table([[200, 450]], [NEGATIVE]))
    assert len(long) - len(short) == 34 * (len(key_lines(counts, classes, long.shape[1], tissue)) - 1)


def test_only_the_bounds_are_shown(tmp_path):
    slide = GreySlide(4000, 3000, bounds=(1000, 500, 2000, 1500))
    overlay, _ = draw(tmp_path, slide, table([[1500, 900]], [POSITIVE], 40))
    middle = places(overlay, COLOURS[POSITIVE]).mean(axis=0) - (168, 200)
    np.testing.assert_allclose(middle[::-1], (500, 400), atol=3)


def test_nuclei_too_small_to_outline_become_a_tint(tmp_path):
    rng = np.random.default_rng(0)
    left = rng.uniform((0, 0), (30_000, 60_000), (40_000, 2))
    right = rng.uniform((50_000, 0), (80_000, 60_000), (40_000, 2))
    labels = [POSITIVE] * len(left) + [NEGATIVE] * len(right)
    slide = GreySlide(80_000, 60_000, mpp=0.25)
    overlay, _ = draw(tmp_path, slide, table(np.vstack([left, right]), labels, 30))
    body = overlay[300:1500].astype(int)
    reddish, bluish = body[..., 0] - body[..., 2] > 15, body[..., 2] - body[..., 0] > 10
    width = body.shape[1]
    assert reddish[:, : width // 3].mean() > 0.2
    assert bluish[:, 2 * width // 3 : -60].mean() > 0.2
    assert reddish[:, 2 * width // 3 : -60].mean() < 0.02


def test_one_positive_nucleus_among_a_hundred_thousand_is_seen(tmp_path):
    centres = np.random.default_rng(0).uniform((0, 0), (80_000, 60_000), (100_000, 2))
    centres[0] = 40_400, 30_400
    nuclei = table(centres, [POSITIVE] + [NEGATIVE] * 99_999, 30)
    overlay, _ = draw(tmp_path, GreySlide(80_000, 60_000, mpp=0.25), nuclei)
    found = places(overlay[:1690], COLOURS[POSITIVE])
    np.testing.assert_allclose(np.median(found, axis=0), (168 + 760, 1210), atol=4)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (5, 900), (900, 5), (3000, 900), (900, 3000)])
@pytest.mark.parametrize("n", [0, 1, 400])
def test_any_slide_gives_both_pictures(tmp_path, width, height, n):
    centres = np.random.default_rng(1).uniform((0, 0), (width, height), (n, 2))
    nuclei = table(centres, [POSITIVE, NEGATIVE, NEGATIVE, NEGATIVE] * (n // 4) + [POSITIVE] * (n % 4))
    overlay, heatmap = draw(tmp_path, GreySlide(width, height), nuclei, np.ones((3, 4), bool))
    assert overlay.shape[1] <= 2400
    assert overlay.std() > 0
    assert heatmap.std() > 0


def test_pixels_that_cannot_be_read_do_not_stop_the_picture(tmp_path):
    rng = np.random.default_rng(2)
    nuclei = table(rng.uniform(0, 1500, (500, 2)), [POSITIVE] * 500)
    overlay, _ = draw(
        tmp_path, GreySlide(broken=True), nuclei, values=row(status="partial", message="3 tiles")
    )
    assert len(places(overlay, COLOURS[POSITIVE])) > 500


def test_a_bad_slide_gets_a_card(tmp_path):
    for name in ("overlay.jpg", "heatmap.png"):
        pictures.write_card(tmp_path / name, slide_id="S" * 100, status="no_mpp", message="word " * 400)
        assert Image.open(tmp_path / name).size == (1200, 600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heatmap.png", "overlay.jpg"]


def test_the_heatmap_puts_shares_where_they_are(tmp_path):
    rng = np.random.default_rng(3)
    left, right = (
        rng.uniform((0, 0), (1000, 1500), (4000, 2)),
        rng.uniform((1000, 0), (2000, 1500), (4000, 2)),
    )
    labels = [POSITIVE] * 4000 + [NEGATIVE] * 4000
    _, heatmap = draw(tmp_path, GreySlide(), table(np.vstack([left, right]), labels))
    panel = heatmap[280:800, 48 : 48 + 960]
    assert panel[100, 200].tolist() == list(PERCENT_RAMP[-1])
    assert panel[100, 760].tolist() == list(PERCENT_RAMP[0])


def test_a_cell_that_the_slide_s_edge_cuts_is_as_dense_as_its_part():
    places = np.mgrid[5:1100:10, 5:700:10].reshape(2, -1).T  # 100 nuclei in 100 x 100 px
    bins = count_bins(np.hstack([places, places]), np.zeros(len(places), bool), (0, 0, 1100, 700), 500)
    density = bins.n_nuclei / bins.areas((1100, 700))
    np.testing.assert_allclose(density, 0.01)


def test_cells_with_few_nuclei_are_hatched_and_not_a_share(tmp_path):
    for n, shown in ((FEW_NUCLEI - 1, False), (FEW_NUCLEI, True)):
        _, heatmap = draw(tmp_path, GreySlide(), table([[600, 400]] * n, [POSITIVE] * n))
        coloured = (heatmap[250:, 48:988] == PERCENT_RAMP[-1]).all(axis=2)
        assert coloured.any() == shown
        striped = (heatmap[250:, 48:988] == HATCH).all(axis=2)
        assert striped.any() != shown


def test_a_cell_of_the_heatmap_is_250_um_wide(tmp_path):
    slide = GreySlide(8000, 6000, mpp=0.25)
    _, heatmap = draw(tmp_path, slide, table([[3500, 2500]] * 50, [POSITIVE] * 50))
    found = np.argwhere((heatmap[252:, 48:1008] == PERCENT_RAMP[-1]).all(axis=2))
    # 960 px show 2 mm; the fourth cell from the left and the third from above hold the nuclei.
    np.testing.assert_allclose(found.min(axis=0), (2 * 120, 3 * 120), atol=2)
    np.testing.assert_allclose(np.ptp(found, axis=0), (120, 120), atol=3)


def counted(centres, labels, side=400):
    boxes = np.hstack([np.subtract(centres, 5), np.add(centres, 5)])
    return choose_fields(boxes, np.array(labels), (0, 0, 4000, 4000), side)


def test_fields_are_the_densest_most_least_and_typically_positive():
    rng = np.random.default_rng(4)
    plan = {  # bin: nuclei, positive
        (0, 0): (100, 50),
        (4, 4): (60, 60),
        (8, 0): (60, 0),
        (0, 8): (60, 28),
        (8, 8): (4, 4),  # too few to count
    }
    centres, labels = [], []
    for (col, line), (n, positive) in plan.items():
        centres.append(
            rng.uniform((col * 400 + 10, line * 400 + 10), (col * 400 + 390, line * 400 + 390), (n, 2))
        )
        labels += [True] * positive + [False] * (n - positive)
    fields = counted(np.vstack(centres), labels)
    assert {field.name: (field.x, field.y, field.n_nuclei, field.n_positive) for field in fields} == {
        "Densest": (0, 0, 100, 50),
        "Most positive": (1600, 1600, 60, 60),
        "Least positive": (3200, 0, 60, 0),
        "Typical": (0, 3200, 60, 28),
    }


def test_a_field_that_is_best_twice_carries_both_names():
    rng = np.random.default_rng(6)
    centres = np.vstack([rng.uniform(10, 390, (100, 2)), rng.uniform(1210, 1590, (80, 2))])
    fields = counted(centres, [True] * 100 + [False] * 80)
    assert [field.name for field in fields] == ["Densest, most positive", "Least positive"]


def test_a_slide_without_positive_nuclei_has_no_extremes():
    centres = np.random.default_rng(5).uniform(0, 4000, (5000, 2))
    names = [field.name for field in counted(centres, [False] * 5000)]
    assert names == ["Densest", "Typical", "Typical", "Typical"]


def test_a_slide_with_a_handful_of_nuclei_has_no_fields():
    assert counted([[10, 10], [2000, 2000]], [True, False]) == []


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(0, 200),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    side=st.floats(20, 500),
    seed=st.integers(0, 99),
)
def test_bins_count_every_nucleus_once_and_fields_stay_on_the_slide(n, width, height, side, seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform((100, 50), (100 + width, 50 + height), (n, 2))
    boxes = np.hstack([centres - 4, centres + 4])
    is_positive = rng.random(n) < 0.3
    bounds = (100, 50, width, height)
    bins = count_bins(boxes, is_positive, bounds, side)
    assert bins.n_nuclei.sum() == n
    assert bins.n_positive.sum() == is_positive.sum()
    for field in choose_fields(boxes, is_positive, bounds, side):
        assert field.x >= 100
        assert field.y >= 50
        assert field.x + field.side <= 100 + width
        assert field.y + field.side <= 50 + height
        assert 0 <= field.percent_positive <= 100


def test_a_percentage_below_a_limit_is_not_rounded_up_to_it():
    lines = score_lines(
        row(percent_positive=0.9961, ci_low=0.5, ci_high=1.0042, er_category="Negative", borderline=True)
    )
    assert lines == ("0.99 % positive", "95 % CI 0.50 to 1.01 %  ·  ER Negative, borderline")


def test_helpers_have_known_answers():
    assert [nice_length(value) for value in (1, 1.9, 4.99, 5, 99, 1000)] == [1, 1, 2, 5, 50, 1000]
    assert colour_ramp(np.array([0.0, 1.0]), PERCENT_RAMP).tolist() == [
        list(PERCENT_RAMP[0]),
        list(PERCENT_RAMP[-1]),
    ]
    assert all(font(20).getlength(line) <= 200 for line in wrap("a bb ccc " * 30 + "x" * 300, 20, 200))
