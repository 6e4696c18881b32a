"""Annotated nuclei and regions are read as they were written, or the line that is wrong is named."""

import numpy as np
import polars as pl
import pytest

from ercohort import schema
from ercohort.errors import InputError
from ercohort.points import find_truth, inside, read_points, read_roi

P, N = schema.LABELS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,class\n1,2,stroma\n", r"points.csv, line 2: class 'stroma' is unknown; use positive"),
        ("x,y,class\n1,2,positive\n1,,positive\n", r"points.csv, line 3: a coordinate is no number"),
        ("x,y,class\n1,2,positive\nnan,3,positive\n", r"line 3: a coordinate is no number"),
        ("x,y\n1,2\n", r"column `class` is missing"),
        ("a,b,class\n1,2,positive\n", r"x, y \(or x0, y0, x1, y1\) are needed"),
        ("", r"points.csv: cannot be read"),
        ("x,y,class\n1,2\n1,2,positive,4,5\n", r"points.csv"),
    ],
)
def test_bad_tables_are_named_with_their_line(tmp_path, text, words):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_points(path)
    assert "\n" not in str(caught.value)


def test_a_header_without_points_is_an_empty_truth(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("x,y,class\n")
    assert len(read_points(path).xy) == 0


def test_inside_uses_the_pixel_that_covers_the_point():
    roi = np.array([[True, False]])
    xy = [(0, 0), (0.99, 0.99), (1.0, 0), (-0.01, 0), (0, 1.0), (2.0, 0)]
    assert inside(np.array(xy), roi).tolist() == [True, True, False, False, False, False]


@pytest.mark.real_data
def test_the_annotated_fields_are_read_as_their_index_counts_them(shared_data):
    fields = shared_data / "ihc-dev"
    found = find_truth(fields)
    counted = {P: 0, N: 0}
    for folder in ("bcdata", "ki67-fields"):
        index = pl.read_csv(fields / folder / "index.csv")
        for row in index.iter_rows(named=True):
            truth = found[row["id"]]
            labels = read_points(truth.points).label
            assert int((labels == P).sum()) == row["positive"]
            assert int((labels == N).sum()) == row["negative"]
            assert truth.mpp == row["mpp_estimate"]
            assert (truth.roi is not None) == bool(row["has_roi"])
            if truth.roi:
                assert read_roi(truth.roi).shape == (row["height"], row["width"])
            counted[P] += row["positive"]
            counted[N] += row["negative"]
    assert counted == {P: 2_856 + 783, N: 13_303 + 742}
