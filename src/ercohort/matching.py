"""One-to-one matching of detected nuclei to annotated ones, by the distance between their centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ercohort.errors import InputError

Method = Literal["hungarian", "greedy"]
"""How pairs are chosen: most pairs, then least total distance; or nearest pair first."""

DENSE_CELLS = 250_000
"""A connected group with more pred x truth cells than this is solved as a sparse problem."""


@dataclass(frozen=True)
class Matches:
    """Pairs of a detection and an annotation, ordered by the detection's index.

    Parameters
    ----------
    pred
        (N,) indices of the detections.
    truth
        (N,) indices of the annotations that they match.
    distance
        (N,) distances between the two centres, in the unit of the points.
    """

    pred: NDArray[np.int64]
    truth: NDArray[np.int64]
    distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pred)


def match_points(
    pred: NDArray[Any], truth: NDArray[Any], radius: float, method: Method = "hungarian"
) -> Matches:
    """Pair points one to one, none further apart than `radius`.

    Parameters
    ----------
    pred, truth
        (N, 2) and (M, 2) points.
    radius
        Greatest distance of a pair, inclusive, in the unit of the points.
    method
        `hungarian`: as many pairs as there can be and, among those choices, the least total distance
        (linear assignment, solved in each connected group of candidates by itself). `greedy`: the nearest
        pair first; of two equally near, the one with the lower detection index, then truth index.

    Raises
    ------
    InputError
        The radius is not above 0, a point is not finite, or the method is unknown.
    """
    if method not in get_args(Method):
        raise InputError(f"matching method {method!r} is unknown; choose hungarian or greedy")
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"matching radius {radius} must be above 0")
    pairs = _candidates(_points(pred, "detections"), _points(truth, "truth"), float(radius))
    chosen = _greedy(pairs) if method == "greedy" else _hungarian(pairs, float(radius))
    chosen = chosen[np.argsort(pairs.pred[chosen])]
    return Matches(pairs.pred[chosen], pairs.truth[chosen], pairs.distance[chosen])


def _points(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise InputError(f"{what}: a coordinate is not a finite number; correct or remove that row")
    return points


def _candidates(pred: NDArray[np.float64], truth: NDArray[np.float64], radius: float) -> Matches:
    """Return all pairs within the radius, by detection index, then truth index."""
    from scipy.spatial import cKDTree

    if not len(pred) or not len(truth):
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    near = cKDTree(pred).sparse_distance_matrix(cKDTree(truth), radius, output_type="ndarray")
    order = np.lexsort((near["j"], near["i"]))
    i, j = near["i"][order].astype(np.int64), near["j"][order].astype(np.int64)
    return Matches(i, j, near["v"][order])


def _greedy(pairs: Matches) -> NDArray[np.int64]:
    """Return which candidates are chosen, nearest first."""
    order = np.argsort(pairs.distance, kind="stable")
    used_pred: set[int] = set()
    used_truth: set[int] = set()
    chosen = []
    for index, i, j in zip(
        order.tolist(), pairs.pred[order].tolist(), pairs.truth[order].tolist(), strict=True
    ):
        if i not in used_pred and j not in used_truth:
            used_pred.add(i)
            used_truth.add(j)
            chosen.append(index)
    return np.array(chosen, dtype=np.int64)


def _hungarian(pairs: Matches, radius: float) -> NDArray[np.int64]:
    """Return which candidates are chosen by linear assignment, group by group."""
    if not len(pairs):
        return np.empty(0, np.int64)
    group = _groups(pairs)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    chosen = [order[starts[sizes == 1]]]
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        members = order[start : start + size]
        chosen.append(members[_assign(pairs, members, radius)])
    return np.concatenate(chosen)


def _groups(pairs: Matches) -> NDArray[np.int32]:
    """Label each candidate with the connected group that its two points belong to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_pred, n_truth = int(pairs.pred.max()) + 1, int(pairs.truth.max()) + 1
    n_nodes = n_pred + n_truth
    graph = coo_array((np.ones(len(pairs)), (pairs.pred, pairs.truth + n_pred)), shape=(n_nodes, n_nodes))
    _, label = connected_components(graph, directed=False)
    return np.asarray(label[pairs.pred], dtype=np.int32)


def _assign(pairs: Matches, members: NDArray[np.int64], radius: float) -> NDArray[np.int64]:
    """Solve one connected group; return positions in `members`."""
    distance = pairs.distance[members]
    pred, i = np.unique(pairs.pred[members], return_inverse=True)
    truth, j = np.unique(pairs.truth[members], return_inverse=True)
    # No reshuffle of the other pairs saves as much as one pair more, so the number of pairs comes first.
    bonus = (min(len(pred), len(truth)) + 1.0) * radius
    if len(pred) * len(truth) <= DENSE_CELLS:
        from scipy.optimize import linear_sum_assignment

        cost = np.zeros((len(pred), len(truth)))
        cost[i, j] = distance - bonus
        rows, columns = linear_sum_assignment(cost)
    else:
        rows, columns = _assign_sparse(i, j, distance, bonus)
    # Linear assignment also fills rows with cells that are no candidates; those fall out here.
    return np.flatnonzero(np.isin(i * len(truth) + j, rows * len(truth) + columns))


def _assign_sparse(
    i: NDArray[np.int64], j: NDArray[np.int64], distance: NDArray[np.float64], bonus: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Solve a large group; every detection may also stay alone, at the price of the bonus."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    n_pred, n_truth = int(i.max()) + 1, int(j.max()) + 1
    alone = np.arange(n_pred)
    # SciPy reads a weight of 0 as no edge, hence +1 for all: each detection takes exactly one edge.
    weights = np.concatenate([distance + 1.0, np.full(n_pred, bonus + 1.0)])
    index = (np.concatenate([i, alone]), np.concatenate([j, n_truth + alone]))
    graph = csr_array((weights, index), shape=(n_pred, n_truth + n_pred))
    rows, columns = min_weight_full_bipartite_matching(graph)
    paired = columns < n_truth
    return rows[paired], columns[paired]
