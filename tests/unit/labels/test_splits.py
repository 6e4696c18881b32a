"""Slides of one patient never fall into two splits, and every split gets its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.errors import InputError
from ercohort.labels.splits import group_slides, split_groups
from ercohort.sheet import Sample

SHEET = {
    "a1": Sample("a1", "a1.svs", extra={"patient": "A", "site": "x"}),
    "a2": Sample("a2", "a2.svs", extra={"patient": "A", "site": ""}),
    "b1": Sample("b1", "b1.svs", extra={"patient": "B", "site": "x"}),
}


def test_slides_group_by_a_column_of_the_sheet() -> None:
    assert group_slides(SHEET, ["a2", "b1", "a1"], "patient") == {"a2": "A", "b1": "B", "a1": "A"}
    assert group_slides(SHEET, ["a1", "b1"], "slide_id") == {"a1": "a1", "b1": "b1"}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("pateint", "no column `pateint`; did you mean `patient`"),
        ("block", "the sheet has slide_id, patient, site"),
        ("site", "slide a2: column `site` of the sheet is empty; fill it"),
    ],
)
def test_a_column_that_cannot_group(column: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        group_slides(SHEET, ["a1", "a2"], column)


def test_one_file_under_two_ids_is_refused() -> None:
    sheet = {"a": Sample("a", "x/one.svs"), "b": Sample("b", "x/../x/one.svs")}
    with pytest.raises(InputError, match="slides a and b are the same file"):
        group_slides(sheet, ["a", "b"], "slide_id")


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=4), st.tuples(st.integers(0, 500), st.integers(1, 500)),
        min_size=3, max_size=25,
    ),
    st.floats(0.01, 0.49), st.floats(0.01, 0.49), st.integers(0, 9),
)  # fmt: skip
def test_every_split_with_a_share_gets_a_group(
    counts: dict[str, tuple[int, int]], validation: float, test: float, seed: int
) -> None:
    split = split_groups(counts, validation_share=validation, test_share=test, seed=seed)
    assert list(split) == list(counts)
    assert set(split.values()) == {"train", "val", "test"}
    backwards = dict(reversed(counts.items()))
    assert split_groups(backwards, validation_share=validation, test_share=test, seed=seed) == split


def test_shares_are_those_asked_for_and_the_seed_decides() -> None:
    counts = {f"p{k}": (10, 10) for k in range(20)}
    one = split_groups(counts, validation_share=0.2, test_share=0.1, seed=1)
    assert sorted(one.values()).count("val") == 4
    assert list(one.values()).count("test") == 2
    assert one != split_groups(counts, validation_share=0.2, test_share=0.1, seed=2)


def test_rare_classes_reach_training_and_validation() -> None:
    counts = {f"p{k:02d}": (0, 100) for k in range(12)}
    counts["p03"] = counts["p07"] = (30, 50)
    for seed in range(5):
        split = split_groups(counts, validation_share=0.2, test_share=0.0, seed=seed)
        assert {split["p03"], split["p07"]} == {"train", "val"}
    counts["p07"] = (0, 50)
    assert split_groups(counts, validation_share=0.2, test_share=0.0, seed=1)["p03"] == "train"


def test_counts_are_dealt_evenly() -> None:
    rng = np.random.default_rng(5)
    counts = {f"p{k:02d}": tuple(rng.integers(1, 2000, 3).tolist()) for k in range(20)}
    split = split_groups(counts, validation_share=0.25, test_share=0.0, seed=1)
    held = np.array([counts[name] for name, part in split.items() if part == "val"]).sum(axis=0)
    share = held / np.array(list(counts.values())).sum(axis=0)
    assert np.abs(share - 0.25).max() < 0.06


def test_one_slide_cannot_be_split() -> None:
    with pytest.raises(
        InputError, match=r"1 labelled slide \(.*cannot fill 2 splits; label more slides, or set"
    ):
        split_groups({"a": (3, 4)}, validation_share=0.2, test_share=0.0, seed=1)
    assert split_groups({"a": (3, 4)}, validation_share=0.0, test_share=0.0, seed=1) == {"a": "train"}


def test_shares_that_leave_nothing_to_train_on() -> None:
    counts = {name: (1, 1) for name in "abcdef"}
    with pytest.raises(InputError, match="leave nothing to train on"):
        split_groups(counts, validation_share=0.6, test_share=0.4, seed=1)
