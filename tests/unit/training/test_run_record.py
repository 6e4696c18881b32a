"""The diary of a training says when it is over, and survives being read back."""

import pytest

from ercohort.errors import InputError
from ercohort.training.run_record import RunRecord


def _record(figures, *, seconds=10.0, **limits):
    rows = [{"epoch": k + 1, "seconds": seconds * (k + 1)} for k in range(len(figures))]
    for row, figure in zip(rows, figures, strict=True):
        if figure is not None:
            row["class_f1"] = figure
    return RunRecord({}, {"hours": 1.0, "epochs": 100, "patience": 0, **limits}, rows)


def test_a_new_training_is_not_over():
    assert _record([], patience=1).over() == ""
    assert _record([]).seconds == 0.0
    assert _record([]).best() is None


def test_it_is_over_after_its_epochs():
    assert _record([0.1, 0.2], epochs=3).over() == ""
    assert _record([0.1, 0.2, 0.3], epochs=3).over() == "3 epochs"


def test_it_is_over_after_its_hours():
    assert _record([0.1, 0.2], seconds=17.9, hours=0.01).over() == ""
    assert _record([0.1, 0.2], seconds=18.0, hours=0.01).over() == "0.01 hours"


def test_it_is_over_after_epochs_without_gain():
    assert _record([0.1, 0.5, 0.4], patience=2).over() == ""
    assert _record([0.1, 0.5, 0.4, 0.5], patience=2).over() == "2 epochs without gain"
    assert _record([0.1, 0.5, 0.4, 0.6], patience=2).over() == ""
    assert _record([0.1, 0.5, 0.4, 0.4], patience=0).over() == ""


def test_without_validation_patience_never_ends_it():
    assert _record([None] * 50, patience=2).over() == ""


def test_the_first_of_equal_epochs_is_the_best():
    assert _record([0.1, 0.7, 0.7]).best()["epoch"] == 2


def test_it_reads_back_as_it_was(tmp_path):
    record = _record([0.1, 0.7])
    record.finished = "2 epochs"
    record.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == record


def test_a_damaged_record_names_the_cure(tmp_path):
    (tmp_path / "run.json").write_text('{"plan": ')
    with pytest.raises(InputError, match=r"run\.json: is damaged .* to train anew"):
        RunRecord.read(tmp_path / "run.json")
