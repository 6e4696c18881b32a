"""Pairs are one to one, within the radius, and as many and as near as can be."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ercohort import matching
from ercohort.errors import InputError
from ercohort.matching import match_points

METHODS = ("hungarian", "greedy")

# Small whole coordinates make ties, chains and coincident points common.
points = st.integers(0, 6).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.integers(0, 8).map(float), fill=st.nothing())
)


def best_by_brute_force(pred: np.ndarray, truth: np.ndarray, radius: float) -> tuple[int, float]:
    """Try every one-to-one assignment; return the greatest number of pairs and its least distance."""
    if len(pred) > len(truth):
        pred, truth = truth, pred
    best = (0, 0.0)
    for choice in itertools.permutations(range(len(truth)), len(pred)):
        distance = np.hypot(*(pred - truth[list(choice)]).T)
        near = distance[distance <= radius]
        best = min(best, (-len(near), float(near.sum())))
    return -best[0], best[1]


@given(points, points, st.floats(0.5, 6.0), st.sampled_from(METHODS))
def test_pairs_are_one_to_one_and_within_the_radius(pred, truth, radius, method):
    pairs = match_points(pred, truth, radius, method)
    assert len(set(pairs.pred.tolist())) == len(pairs) == len(set(pairs.truth.tolist()))
    assert (np.diff(pairs.pred) > 0).all()
    assert (pairs.distance <= radius).all()
    np.testing.assert_allclose(pairs.distance, np.hypot(*(pred[pairs.pred] - truth[pairs.truth]).T))


@settings(deadline=None, max_examples=150)
@given(points, points, st.floats(0.5, 6.0))
def test_hungarian_equals_brute_force(pred, truth, radius):
    pairs = match_points(pred, truth, radius)
    count, total = best_by_brute_force(pred, truth, radius)
    assert len(pairs) == count
    assert pairs.distance.sum() == pytest.approx(total)


@given(points, points, st.floats(0.5, 6.0))
def test_hungarian_finds_at_least_as_many_pairs_as_greedy_and_greedy_leaves_none_free(pred, truth, radius):
    greedy = match_points(pred, truth, radius, "greedy")
    assert len(match_points(pred, truth, radius)) >= len(greedy)
    free_pred, free_truth = np.delete(pred, greedy.pred, axis=0), np.delete(truth, greedy.truth, axis=0)
    gaps = np.linalg.norm(free_pred[:, None] - free_truth[None], axis=-1)
    assert (gaps > radius).all()


def test_hungarian_takes_two_pairs_where_greedy_takes_the_nearest_one():
    # p0 --4-- t0 -1- p1 --4-- t1, radius 4: greedy spends t0 on p1 and leaves p0 and t1 alone.
    pred, truth = np.array([[0.0, 0.0], [5.0, 0.0]]), np.array([[4.0, 0.0], [9.0, 0.0]])
    greedy = match_points(pred, truth, 4.0, "greedy")
    assert (greedy.pred.tolist(), greedy.truth.tolist(), greedy.distance.tolist()) == ([1], [0], [1.0])
    both = match_points(pred, truth, 4.0, "hungarian")
    assert (both.pred.tolist(), both.truth.tolist()) == ([0, 1], [0, 1])


def test_radius_is_inclusive_and_coincident_points_match():
    pred, truth = np.array([[0.0, 0.0], [10.0, 10.0]]), np.array([[3.0, 4.0], [10.0, 10.0]])
    for method in METHODS:
        assert match_points(pred, truth, 5.0, method).truth.tolist() == [0, 1]
        assert match_points(pred, truth, 4.999, method).truth.tolist() == [1]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_on_either_side_gives_no_pairs(method):
    some, nothing = np.zeros((3, 2)), np.empty((0, 2))
    assert len(match_points(some, nothing, 5.0, method)) == 0
    assert len(match_points(nothing, some, 5.0, method)) == 0
    assert len(match_points(nothing, nothing, 5.0, method)) == 0


def test_sparse_solver_agrees_with_the_dense_one(monkeypatch):
    rng = np.random.default_rng(7)
    truth = rng.uniform(0, 60, (120, 2))
    pred = np.concatenate([truth[:90] + rng.normal(0, 2, (90, 2)), rng.uniform(0, 60, (40, 2))])
    dense = match_points(pred, truth, 8.0)
    monkeypatch.setattr(matching, "DENSE_CELLS", 0)
    sparse = match_points(pred, truth, 8.0)
    assert len(sparse) == len(dense)
    assert sparse.distance.sum() == pytest.approx(dense.distance.sum())


def test_a_slide_of_200_000_nuclei_takes_seconds():
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(448.0), np.arange(448.0)), axis=-1).reshape(-1, 2) * 18
    truth = grid[:200_000]
    pred = truth + rng.uniform(-7, 7, truth.shape)
    start = time.perf_counter()
    pairs = match_points(pred, truth, 10.0)
    assert time.perf_counter() - start < 20
    assert len(pairs) == len(truth)
    # Every own point is within 7 * sqrt(2) < 10; a neighbour can only be nearer to one of two.
    assert (pairs.pred == pairs.truth).mean() > 0.98


@pytest.mark.parametrize(
    ("radius", "method", "words"),
    [
        (0.0, "greedy", "must be above 0"),
        (float("nan"), "hungarian", "must be above 0"),
        (5.0, "best", "unknown"),
    ],
)
def test_wrong_arguments_are_named(radius, method, words):
    with pytest.raises(InputError, match=words):
        match_points(np.zeros((1, 2)), np.zeros((1, 2)), radius, method)


def test_a_coordinate_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="detections: a coordinate"):
        match_points(np.array([[np.nan, 1.0]]), np.zeros((1, 2)), 5.0)
