"""Regions for a person to label: where they may lie, and which are chosen."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort import schema
from ercohort.config import PrelabelSettings
from ercohort.labels.regions import pick_regions
from ercohort.record import TissueRecord
from ercohort.slide import SlideInfo

STEP = 16.0  # level-0 pixels per mask pixel


def slide(width, height, *, bounds=None, mpp=0.5):
    return SlideInfo(
        path="a.svs", vendor="aperio", width=width, height=height, mpp=mpp, mpp_source="file",
        level_dimensions=((width, height),), level_downsamples=(1.0,), bounds=bounds or (0, 0, width, height),
        has_bounds=bounds is not None, background=(255, 255, 255), reader="vips", file_bytes=1,
    )  # fmt: skip


def pick(mask, info=None, *, slide_id="a", step=STEP, margin_um=0.0, nuclei=None, least_score=0.25, **values):
    mask = np.asarray(mask, bool)
    info = info or slide(round(mask.shape[1] * step), round(mask.shape[0] * step))
    return pick_regions(
        mask,
        TissueRecord(step, step, (255.0, 255.0, 255.0), 1.0),
        info,
        PrelabelSettings(**values),
        slide_id=slide_id,
        margin_um=margin_um,
        nuclei=nuclei,
        least_score=least_score,
    )


def tissue_share(mask, region, step=STEP):
    """Share of tissue in a region, pixel by pixel of level 0."""
    whole = np.kron(mask, np.ones((int(step), int(step)), bool))
    x0, y0, x1, y1 = region
    return whole[y0:y1, x0:x1].mean()


def nuclei_at(centres, scores):
    centres = np.asarray(centres, np.float64).reshape(-1, 2)
    n = len(centres)
    columns = {"x0": centres[:, 0] - 8, "y0": centres[:, 1] - 8, "x1": centres[:, 0] + 8}
    columns |= {"y1": centres[:, 1] + 8, "score": scores, "label": ["Positive"] * n, "grade": [None] * n}
    columns |= {"dab_od": [0.5] * n, "hematoxylin_od": [0.2] * n, "region": [None] * n, "tile_id": [0] * n}
    return pl.DataFrame(columns).select(pl.col(name).cast(kind) for name, kind in schema.NUCLEI.items())


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(3, 60), st.integers(3, 60)),
    tissue=st.floats(0.02, 1.0),
    region_um=st.floats(20.0, 500.0),
    n=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    crop=st.tuples(*[st.integers(0, 20)] * 4),
)
def test_regions_lie_in_the_bounds_and_apart(shape, tissue, region_um, n, seed, crop):
    mask = np.random.default_rng(seed).random(shape) < tissue
    left, top, right, bottom = crop
    width, height = int(shape[1] * STEP), int(shape[0] * STEP)
    bounds = (left, top, width - left - right, height - top - bottom)
    info = slide(width, height, bounds=bounds)
    regions = pick(mask, info, regions=n, region_um=region_um, seed=seed)
    side = min(round(region_um / info.mpp), *bounds[2:])
    assert regions.dtype == np.int64
    assert regions.shape[1:] == (4,)
    assert len(regions) <= n
    assert all(tissue_share(mask, region) > 0 for region in regions)
    # Tissue that the bounds leave out needs no region.
    assert len(regions) > 0 or not mask[2:-2, 2:-2].any()
    assert (regions[:, 2:] - regions[:, :2] == side).all()
    assert (regions[:, :2] >= bounds[:2]).all()
    assert (regions[:, 2:] <= np.add(bounds[:2], bounds[2:])).all()
    painted = np.zeros((height, width), np.int64)
    for x0, y0, x1, y1 in regions:
        painted[y0:y1, x0:x1] += 1
    assert painted.max(initial=0) <= 1
    again = pick(mask, info, regions=n, region_um=region_um, seed=seed)
    assert np.array_equal(again, regions)


def test_regions_are_mostly_tissue_where_there_is_enough_of_it():
    mask = np.zeros((160, 240), bool)
    mask[20:140, 20:120] = True
    regions = pick(mask, regions=8)
    assert len(regions) == 8
    shares = [tissue_share(mask, region) for region in regions]
    assert min(shares) >= 0.6
    assert min(shares) < 1.0  # the edge of the tissue is labelled too


def test_the_margin_of_the_mask_counts_as_glass():
    tissue = np.zeros((100, 100), bool)
    tissue[30:70, 30:70] = True
    widened = np.zeros_like(tissue)
    widened[25:75, 25:75] = True  # 5 mask pixels of 16 px at 0.5 µm: 40 µm
    seeds = range(12)
    shares = [
        tissue_share(tissue, region)
        for seed in seeds
        for region in pick(widened, margin_um=40.0, seed=seed, regions=1)
    ]
    assert min(shares) >= 0.6
    believed = [
        tissue_share(tissue, region) for seed in seeds for region in pick(widened, seed=seed, regions=1)
    ]
    assert min(believed) < 0.5


def test_a_mask_that_is_all_margin_is_used_as_it_is():
    mask = np.zeros((50, 50), bool)
    mask[24:27, 24:27] = True
    (region,) = pick(mask, margin_um=40.0, regions=1)
    assert tissue_share(mask, region) > 0


def test_small_tissue_gets_regions_with_less_of_it():
    mask = np.zeros((60, 60), bool)
    mask[30:36, 30:36] = True  # 48 µm, in regions of 200 µm
    (region,) = pick(mask, regions=1)
    assert tissue_share(mask, region) > 0
    assert tissue_share(mask, region) < 0.1


def test_a_field_smaller_than_a_region_is_one_region():
    regions = pick(np.ones((20, 25)), slide(400, 310), regions=4)
    assert len(regions) == 1
    x0, y0, x1, y1 = regions[0]
    assert (x1 - x0, y0, y1) == (310, 0, 310)


def test_no_tissue_no_regions():
    assert pick(np.zeros((30, 30))).shape == (0, 4)


def test_more_regions_are_the_same_and_some_more():
    mask = np.ones((100, 100))
    assert np.array_equal(pick(mask, regions=3), pick(mask, regions=9)[:3])


def test_seed_and_slide_decide_the_places():
    mask = np.ones((100, 100))
    places = {
        tuple(pick(mask, seed=seed, slide_id=name)[0].tolist()) for seed in range(5) for name in ("a", "b")
    }
    assert len(places) == 10


@pytest.mark.parametrize("seed", range(5))
def test_the_least_certain_place_comes_first(seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1600, (1500, 2))
    doubtful = (np.abs(centres - [1100, 500]) < 200).all(axis=1)
    table = nuclei_at(centres, np.where(doubtful, 0.3, 0.95))
    first, *others = pick(np.ones((100, 100)), nuclei=table, choose="uncertain", seed=seed, regions=5)
    inside = ((centres >= first[:2]) & (centres < first[2:])).all(axis=1)
    assert doubtful[inside].mean() > 0.9
    assert len(others) == 4
    assert not np.array_equal(first, pick(np.ones((100, 100)), seed=seed)[0])


def test_two_doubtful_nuclei_do_not_outweigh_a_hundred():
    rng = np.random.default_rng(0)
    few, many = np.array([[300.0, 300.0], [320.0, 300.0]]), rng.uniform(1100, 1400, (100, 2))
    sure = rng.uniform([0, 1000], [700, 1600], (300, 2))
    scores = np.repeat([0.26, 0.35, 0.99], [2, 100, 300])
    table = nuclei_at(np.concatenate([few, many, sure]), scores)
    (region,) = pick(np.ones((100, 100)), nuclei=table, choose="uncertain", regions=1)
    assert ((many >= region[:2]) & (many < region[2:])).all(axis=1).mean() > 0.5


def test_a_few_doubtful_nuclei_come_before_many_sure_ones():
    rng = np.random.default_rng(0)
    few, many = np.array([[300.0, 300.0], [320.0, 300.0], [310.0, 320.0]]), rng.uniform(1000, 1400, (400, 2))
    table = nuclei_at(np.concatenate([few, many]), np.repeat([0.5, 0.925], [3, 400]))
    (region,) = pick(np.ones((100, 100)), nuclei=table, choose="uncertain", regions=1)
    assert ((few >= region[:2]) & (few < region[2:])).all()


def test_uncertain_places_on_a_slide_without_nuclei_are_any():
    regions = pick(np.ones((100, 100)), nuclei=nuclei_at([], []), choose="uncertain")
    assert len(regions) == 4
