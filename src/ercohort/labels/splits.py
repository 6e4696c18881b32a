"""Which slides train the detector, stop its training early, and test it.

Nuclei of one slide, or of one patient, look alike: a detector tested on slides of patients it was trained on
looks better than it is. So whole groups of slides go to one split, never tiles.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ercohort.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.sheet import Sample

SPLITS = ("train", "val", "test")
"""Names of the splits, as Ultralytics names their folders."""

N_TRIALS = 2000
"""Random splits of which the most even one is taken."""


def group_slides(samples: Mapping[str, Sample], slide_ids: Iterable[str], split_by: str) -> dict[str, str]:
    """Say to which group each labelled slide belongs.

    Parameters
    ----------
    samples
        The sheet.
    slide_ids
        The labelled slides.
    split_by
        `slide_id`, or a column of the sheet whose values are kept together, as `patient`.

    Returns
    -------
    Group by slide id, in the order given.

    Raises
    ------
    InputError
        The sheet has no such column, or a slide has nothing in it; one file is in two groups.
    """
    groups: dict[str, str] = {}
    files: dict[str, str] = {}
    for slide_id in slide_ids:
        sample = samples[slide_id]
        columns = {"slide_id": slide_id, **sample.extra}
        if split_by not in columns:
            close = difflib.get_close_matches(split_by, columns, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"the sheet has {', '.join(columns)}"
            raise InputError(f"dataset.split_by: the sheet has no column `{split_by}`; {hint}")
        if not columns[split_by]:
            raise InputError(
                f"slide {slide_id}: column `{split_by}` of the sheet is empty; fill it, "
                "since dataset.split_by keeps its values together"
            )
        groups[slide_id] = columns[split_by]
        file = os.path.realpath(sample.path)
        twin = files.setdefault(file, slide_id)
        if groups[twin] != groups[slide_id]:
            raise InputError(
                f"slides {twin} and {slide_id} are the same file {sample.path} and could fall into two "
                "splits; keep one of their label files"
            )
    return groups


def split_groups(
    counts: Mapping[str, Sequence[int]], *, validation_share: float, test_share: float, seed: int
) -> dict[str, str]:
    """Deal groups to splits, so that every split has about its share of every class.

    Parameters
    ----------
    counts
        Nuclei of each class, by group.
    validation_share, test_share
        Shares of the groups. A share above 0 gets at least one group, and so does training.
    seed
        Decides the split; equal input gives an equal split, whatever its order.

    Returns
    -------
    `train`, `val` or `test` by group, in the order given.

    Raises
    ------
    InputError
        There are fewer groups than splits.

    Notes
    -----
    Of `N_TRIALS` random splits the one is taken whose class counts differ least from the shares, summed over
    splits and classes, each class relative to all its nuclei. A class missing from validation weighs like ten
    that are wholly elsewhere, one missing from training twice that.
    """
    sizes = _sizes(len(counts), validation_share, test_share)
    names = sorted(counts)
    table = np.array([counts[name] for name in names], np.float64).reshape(len(names), -1)
    deal = np.repeat(np.arange(len(SPLITS)), sizes)
    rng = np.random.default_rng([seed, 0x5B])
    trials = [rng.permutation(deal) for _ in range(N_TRIALS if len(set(deal.tolist())) > 1 else 1)]
    best = min(trials, key=lambda trial: _unevenness(table, trial, sizes))
    chosen = {name: SPLITS[split] for name, split in zip(names, best.tolist(), strict=True)}
    return {name: chosen[name] for name in counts}


def _sizes(n_groups: int, validation_share: float, test_share: float) -> tuple[int, int, int]:
    """Count the groups of each split."""
    n_splits = 1 + (validation_share > 0) + (test_share > 0)
    if n_groups < n_splits:
        raise InputError(
            f"{n_groups} labelled slide{'s' * (n_groups != 1)} (or patients, by dataset.split_by) cannot "
            f"fill {n_splits} splits; label more slides, or set dataset.validation_share and test_share to 0"
        )
    if validation_share + test_share >= 1:
        raise InputError(
            "dataset.validation_share and dataset.test_share leave nothing to train on; lower them"
        )
    val = max(1, round(validation_share * n_groups)) if validation_share > 0 else 0
    test = max(1, round(test_share * n_groups)) if test_share > 0 else 0
    while val + test >= n_groups:
        val, test = (val - 1, test) if val >= test else (val, test - 1)
    return n_groups - val - test, val, test


def _unevenness(table: NDArray[np.float64], split: NDArray[np.int64], sizes: tuple[int, int, int]) -> float:
    """Sum how far the class counts of each split are from the share of its groups."""
    held = np.stack([table[split == number].sum(axis=0) for number in range(len(SPLITS))])
    total = np.maximum(table.sum(axis=0), 1)
    wanted = np.array(sizes)[:, None] / len(table)
    missing = (held[:2] == 0) & (np.array(sizes)[:2, None] > 0) & (table.sum(axis=0) > 0)
    return float(np.abs(held / total - wanted).sum() + 10 * missing.sum() + 10 * missing[0].sum())
