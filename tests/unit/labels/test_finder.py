"""The classical finder: painted nuclei of known place, size and stain, and the real fields."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ercohort.confusion import Confusion
from ercohort.evaluate import evaluate_points
from ercohort.labels.finder import LEAST_CONTRAST, find_nuclei
from ercohort.stain import stain_matrix

GLASS = (240.0, 238.0, 242.0)


def paint(shape, ellipses, *, mpp=0.5, haze=(0.05, 0.02)):
    """Draw ellipses (x, y, half-axes in µm, haematoxylin, DAB) by Beer-Lambert over faint cytoplasm."""
    rows, cols = shape
    y, x = np.mgrid[:rows, :cols] + 0.5
    stains = np.empty((rows, cols, 2))
    stains[:] = haze
    for centre_x, centre_y, radius_x, radius_y, hematoxylin, dab in ellipses:
        across = ((x * mpp - centre_x) / radius_x) ** 2 + ((y * mpp - centre_y) / radius_y) ** 2
        stains[across <= 1] = hematoxylin, dab
    density = stains @ stain_matrix()[:2]
    return np.rint(np.array(GLASS) * 10**-density).astype(np.uint8)


def boxes_um(found, mpp):
    return found.boxes * mpp


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_painted_nuclei_come_back_with_place_size_and_class(mpp):
    planted = [
        (20.0, 22.0, 4.0, 4.0, 0.5, 0.0),
        (60.0, 30.0, 5.0, 3.5, 0.3, 0.6),
        (35.0, 62.0, 6.0, 6.0, 0.4, 0.1),
    ]
    found = find_nuclei(
        paint((round(90 / mpp), round(100 / mpp)), planted, mpp=mpp), mpp=mpp, background=GLASS
    )
    assert found.labels.tolist() == ["Negative", "Positive", "Negative"]
    for box, (x, y, radius_x, radius_y, *_) in zip(boxes_um(found, mpp), planted, strict=True):
        assert np.allclose(box, [x - radius_x, y - radius_y, x + radius_x, y + radius_y], atol=0.8)
    assert np.allclose(found.dab_od, [0.0, 0.6, 0.1], atol=0.05)
    assert (found.scores > 0.5).all()
    assert (found.scores < 1).all()


def test_dark_nuclei_score_higher_than_pale_ones():
    planted = [(20.0, 20.0, 4.0, 4.0, 0.2, 0.0), (60.0, 20.0, 4.0, 4.0, 0.8, 0.0)]
    pale, dark = find_nuclei(paint((80, 160), planted), mpp=0.5, background=GLASS).scores
    assert dark > pale > 0.5


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_nuclei_in_contact_are_two(gap):
    planted = [(30.0, 30.0, 4.5, 4.5, 0.5, 0.0), (39.0 + gap, 30.0, 4.5, 4.5, 0.3, 0.5)]
    found = find_nuclei(paint((120, 140), planted), mpp=0.5, background=GLASS)
    assert found.labels.tolist() == ["Negative", "Positive"]
    middles = (found.boxes[:, 0] + found.boxes[:, 2]) / 4
    assert np.allclose(middles, [30.0, 39.0 + gap], atol=1.0)


@pytest.mark.parametrize(
    "planted",
    [
        [],
        [(30.0, 30.0, 1.2, 1.2, 0.6, 0.0)],  # a speck
        [(30.0, 30.0, 5.0, 5.0, 0.05 + LEAST_CONTRAST / 3, 0.02)],  # a haze
    ],
)
def test_what_is_no_nucleus_is_not_found(planted):
    found = find_nuclei(paint((120, 120), planted), mpp=0.5, background=GLASS)
    assert found.boxes.shape == (0, 4)
    assert len(found.labels) == len(found.scores) == len(found.dab_od) == len(found.hematoxylin_od) == 0


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), seed=st.integers(0, 2**16))
def test_any_picture_gives_sound_boxes(shape, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = find_nuclei(noise, mpp=0.5, background=GLASS)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert np.isfinite(found.boxes).all()
    assert ((found.scores >= 0.5) & (found.scores < 1)).all()
    assert set(found.labels.tolist()) <= {"Positive", "Negative"}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "glass", "least"), [("bcdata", (220.0,) * 3, 0.70), ("ki67-fields", (253.0,) * 3, 0.70)]
)
def test_real_fields_are_found_well_enough_to_correct(shared_data, name, glass, least):
    folder = shared_data / "ihc-dev" / name
    total = Confusion.zero()
    with (folder / "index.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["width"]) * int(row["height"]))[:5]
    for row in rows:
        total += compare(folder / row["id"], float(row["mpp_estimate"]), glass)
    assert total.detection.f1 >= least


def compare(field, mpp, glass):
    picture = Image.open(field / "image.png").convert("RGB")
    scale = 0.5 / mpp
    small = picture.resize(
        (round(picture.width / scale), round(picture.height / scale)), Image.Resampling.BOX
    )
    found = find_nuclei(np.asarray(small), mpp=0.5, background=glass)
    with (field / "points.csv").open() as file:
        points = list(csv.DictReader(file))
    roi = None
    if (field / "roi.png").exists():
        roi = np.asarray(Image.open(field / "roi.png").convert("L")) > 127
    confusion, _ = evaluate_points(
        (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 * scale,
        found.labels,
        found.scores,
        [(float(point["x"]), float(point["y"])) for point in points],
        [point["class"].capitalize() for point in points],
        5 / mpp,
        roi=roi,
    )
    return confusion
