"""Whether an exported file finds the same nuclei as the network that was trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ercohort.config import DetectSettings
from ercohort.matching import match_points
from ercohort.training.validation import Nuclei

RADIUS_PX = 5.0
"""Greatest distance between the centres of what is taken for the same nucleus."""
LEAST_F1 = 0.995
"""Matched F1 that a float32, bf16 or FP16 run needs."""
LEAST_F1_INT8 = 0.99


@dataclass(frozen=True)
class Parity:
    """An exported file against torch in float32, on the same tiles at the same operating point.

    Attributes
    ----------
    file, precision
        The file, and the arithmetic of the backend that ran it.
    tiles, score
        How many tiles, and the operating point.
    n_torch, n_file
        Nuclei that torch and the file find.
    matched_f1
        F1 of the pairs of the same class with centres within `RADIUS_PX`; None if torch finds no nucleus.
    score_max, score_mean
        Differences of the scores of the pairs.
    box_max_px, box_mean_px
        Differences of the sides of the boxes of the pairs, pixels.
    least_f1
        What is asked of it.
    ms_per_tile
        Median time of a tile of `tile_px` on one thread, with decoding.
    """

    file: str
    precision: str
    tiles: int
    score: float
    n_torch: int
    n_file: int
    matched_f1: float | None
    score_max: float
    score_mean: float
    box_max_px: float
    box_mean_px: float
    least_f1: float
    tile_px: int
    ms_per_tile: float

    @property
    def holds(self) -> bool:
        """Whether it agrees well enough; without nuclei there is nothing to disagree about."""
        return self.n_file == 0 if self.matched_f1 is None else self.matched_f1 >= self.least_f1

    def line(self) -> str:
        """One line for the log."""
        agreed = "nothing to compare" if self.matched_f1 is None else f"matched F1 {self.matched_f1:.4f}"
        return (
            f"{self.file} in {self.precision}: {agreed} of {self.n_torch:,} nuclei "
            f"(at least {self.least_f1}), scores differ by {self.score_mean:.4f} "
            f"(at most {self.score_max:.3f}), boxes by {self.box_mean_px:.3f} px "
            f"(at most {self.box_max_px:.1f}), {self.ms_per_tile:.1f} ms a tile"
        )


def compare(
    file: Path,
    tiles: Sequence[NDArray[np.uint8]],
    reference: Sequence[Nuclei],
    *,
    precision: str,
    detect: DetectSettings,
    least_f1: float,
) -> Parity:
    """Run a file as the workflow does, by the OpenVINO backend, and compare.

    Parameters
    ----------
    tiles
        Each (side, side, 3) uint8 RGB, all of one side, a multiple of 32.
    reference
        What torch finds on each.
    precision
        `f32`, `bf16` or `auto`.
    detect
        Operating point and NMS, the same as those of `reference`.

    Raises
    ------
    ModelError, BackendError
        The file is not one that the workflow takes.
    """
    found, times, used = _run(file, tiles, precision, detect)
    scores, boxes = [np.zeros(0)], [np.zeros((0, 4))]
    for one, other in zip(found, reference, strict=True):
        pairs = match_points(one.centres, other.centres, RADIUS_PX)
        same = one.labels[pairs.pred] == other.labels[pairs.truth]
        mine, theirs = pairs.pred[same], pairs.truth[same]
        scores.append(np.abs(one.scores[mine].astype(np.float64) - other.scores[theirs]))
        boxes.append(np.abs(one.boxes[mine].astype(np.float64) - other.boxes[theirs]))
    score, box = np.concatenate(scores), np.concatenate(boxes)
    n_file, n_torch = (sum(len(one.boxes) for one in side) for side in (found, reference))
    return Parity(
        file=file.name,
        precision=used,
        tiles=len(tiles),
        score=detect.score,
        n_torch=n_torch,
        n_file=n_file,
        matched_f1=2 * len(score) / (n_file + n_torch) if n_torch else None,
        score_max=float(score.max(initial=0.0)),
        score_mean=float(score.mean()) if len(score) else 0.0,
        box_max_px=float(box.max(initial=0.0)),
        box_mean_px=float(box.mean()) if len(box) else 0.0,
        least_f1=least_f1,
        tile_px=tiles[0].shape[0],
        ms_per_tile=1e3 * median(times),
    )


def _run(
    file: Path, tiles: Sequence[NDArray[np.uint8]], precision: str, detect: DetectSettings
) -> tuple[list[Nuclei], list[float], str]:
    """Nuclei and seconds of each tile, one after the other on one thread; and the arithmetic."""
    from ercohort.backends.openvino import OpenVinoBackend
    from ercohort.model import read_model

    model = read_model(file)
    found, times = [], []
    with closing(
        OpenVinoBackend(model, tile_px=tiles[0].shape[0], detect=detect, threads=1, precision=precision)
    ) as backend:
        backend.begin((tiles[0].shape[1], tiles[0].shape[0]))
        for tile in tiles:
            slot = backend.acquire()
            assert slot is not None  # nobody cancels
            slot.image[...] = tile
            began = perf_counter()
            backend.submit(slot)
            taken = backend.take()
            assert taken is not None
            times.append(perf_counter() - began)
            nowhere = np.zeros(len(taken.boxes), np.bool_)
            found.append(Nuclei(taken.boxes, taken.label.astype(np.int64), taken.score, nowhere))
            backend.release(slot)
        return found, times, backend.precision
