"""The pictures of a training show what was counted."""

import numpy as np
import pytest
from PIL import Image

from ercohort.schema import LABELS
from ercohort.training.curves import draw_curves
from ercohort.training.worst_tiles import MARK, WIDTH, draw_worst_tiles, judge_tile, summarise
from tests.unit.training.test_validation import nuclei

IMAGE = np.full((320, 320, 3), 230, np.uint8)
TRUTH = nuclei((50, 50, 0, 1), (100, 50, 0, 1), (50, 100, 1, 1))
FOUND = nuclei((52, 50, 0, 0.9), (50, 100, 0, 0.8), (200, 200, 1, 0.7), (3, 300, 1, 0.6))


@pytest.fixture
def tile():
    return judge_tile("slide_7", IMAGE, TRUTH, FOUND, mpp=0.5)


def test_each_kind_of_mistake_is_told_apart(tile):
    assert tile.missed.tolist() == [False, True, False]
    assert tile.confused_truth.tolist() == [False, False, True]
    assert tile.confused_found.tolist() == [False, True, False, False]
    assert tile.false.tolist() == [False, False, True, False]  # the last is a sliver at the edge
    assert tile.n_wrong == 3
    assert tile.caption() == "3 nuclei: 1 missed, 1 false, 1 of the wrong class"


def test_figures_over_tiles_are_those_of_the_counts(tile):
    assert summarise([tile, tile]) == pytest.approx(
        {"precision": 4 / 6, "recall": 4 / 6, "f1": 4 / 6, "right_class": 1 / 2}
    )


def test_worst_tiles_come_first_and_good_ones_not_at_all(tile, tmp_path, monkeypatch):
    from ercohort.training import worst_tiles

    drawn = []
    monkeypatch.setattr(worst_tiles, "_draw_pair", lambda page, tile, *_: drawn.append(tile.name))
    good = judge_tile("good", IMAGE, TRUTH, TRUTH, mpp=0.5)
    empty = judge_tile("empty", IMAGE, TRUTH, nuclei(), mpp=0.5)
    worse = judge_tile(
        "worse", IMAGE, TRUTH, nuclei(*[(250, 40 * k + 40, 0, 0.9) for k in range(4)]), mpp=0.5
    )
    draw_worst_tiles(tmp_path / "w.jpg", [tile, good, worse, empty], LABELS, mpp=0.5, score=0.25)
    assert drawn == ["worse", "slide_7", "empty"]


def test_mistakes_are_ringed_on_both_sides(tile, tmp_path):
    draw_worst_tiles(tmp_path / "w.png", [tile], LABELS, mpp=0.5, score=0.25)
    pixels = np.asarray(Image.open(tmp_path / "w.png"))
    assert pixels.shape[1] == WIDTH
    ringed = (pixels[150:700] == MARK).all(2).sum(0)
    assert ringed[:605].sum() > 300  # truth: a missed one and one of the wrong class
    assert ringed[605:1200].sum() > 300
    assert ringed[1250:].sum() == 0


def test_a_page_without_mistakes_says_so(tmp_path):
    good = judge_tile("good", IMAGE, TRUTH, TRUTH, mpp=0.5)
    draw_worst_tiles(tmp_path / "w.jpg", [good], LABELS, mpp=0.5, score=0.25)
    assert Image.open(tmp_path / "w.jpg").size[0] == WIDTH


@pytest.mark.parametrize("judged", [True, False])
def test_curves_are_drawn_with_and_without_validation(tmp_path, judged):
    rows = [
        {"epoch": k, "seconds": 9.0 * k, "box_loss": 3 / k, "cls_loss": 2 / k, "dfl_loss": 1.0}
        for k in (1, 2)
    ]
    if judged:
        figures = dict.fromkeys(("class_f1", "f1", "precision", "recall", "map50"), 0.8)
        rows = [row | figures | {"score": 0.4} for row in rows]
    draw_curves(tmp_path / "curves.png", rows, finished="2 epochs")
    drawn = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
    assert drawn.shape == (720, 1800)
    right = (drawn[60:620, 950:] < 200).mean()
    assert right > 0.005 if judged else right < 0.02


def test_the_figure_before_training_is_drawn(tmp_path):
    figures = dict.fromkeys(("class_f1", "f1", "precision", "recall", "map50", "score"), 0.9)
    rows = [{"epoch": 1, "seconds": 9.0, "box_loss": 1.0, **figures}]
    for name, start in (("with", {**figures, "class_f1": 0.6}), ("without", {})):
        draw_curves(tmp_path / f"{name}.png", rows, start=start)
    drawn = [Image.open(tmp_path / f"{name}.png").convert("L") for name in ("with", "without")]
    assert (np.asarray(drawn[0]) != np.asarray(drawn[1])).any()
