"""How good the detector is on the validation tiles after each epoch: by centres, as it is judged later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.config import DetectSettings
from ercohort.decode import decode_tile
from ercohort.kernels import njit
from ercohort.training.tile_sets import read_boxes, read_tile, to_grid

RADIUS_UM = 5.0
"""Greatest distance between the centres of a found and an annotated nucleus."""
NMS_IOU = DetectSettings().nms_iou
LOWEST_SCORE = 0.05
SCORES = np.round(np.arange(LOWEST_SCORE, 0.951, 0.01), 2)
"""Operating points among which the best is looked for."""
_BATCH = 8


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Nuclei of one tile.

    Attributes
    ----------
    boxes
        (N, 4) float32: x0, y0, x1, y1, pixels of the tile.
    labels
        (N,) class numbers.
    scores
        (N,) descending; 1 for annotated nuclei.
    at_edge
        (N,) whether the box touches the edge of the tile. Slivers of nuclei are not annotated there, so one
        that is found beyond the annotated ones is no mistake.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    at_edge: NDArray[np.bool_]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middles of the boxes, (N, 2)."""
        return (self.boxes[:, :2].astype(np.float64) + self.boxes[:, 2:]) / 2

    def above(self, score: float) -> Nuclei:
        """Return those with more than this score."""
        return self._only(self.scores > score)

    def of_class(self, label: int) -> Nuclei:
        """Return those of one class."""
        return self._only(self.labels == label)

    def _only(self, keep: NDArray[np.bool_]) -> Nuclei:
        return Nuclei(self.boxes[keep], self.labels[keep], self.scores[keep], self.at_edge[keep])


def read_truth(picture: Path) -> tuple[NDArray[np.uint8], Nuclei]:
    """Read a tile, padded to the network's grid, and its annotated nuclei."""
    tile = read_tile(picture)
    boxes, labels = read_boxes(picture, tile.shape[1], tile.shape[0])
    ones = np.ones(len(boxes), np.float32)
    return to_grid(tile), Nuclei(boxes, labels, ones, _at_edge(boxes, max(tile.shape)))


def detect(
    model: Any, tiles: Sequence[NDArray[np.uint8]], *, score: float = LOWEST_SCORE, nms_iou: float = NMS_IOU
) -> list[Nuclei]:
    """Run a torch detector on tiles, with the workflow's decoding: no cap on the number of nuclei.

    Parameters
    ----------
    model
        An ultralytics detection model in evaluation mode.
    tiles
        Each (side, side, 3) uint8 RGB with a side that is a multiple of 32.
    """
    import torch

    device = next(model.parameters()).device
    found: list[Nuclei] = []
    for batch in _batches(tiles):
        pixels = torch.from_numpy(np.stack(batch).transpose(0, 3, 1, 2)).to(device).float() / 255
        with torch.no_grad():
            output = model(pixels)
        heads = (output[0] if isinstance(output, (tuple, list)) else output).float().cpu().numpy()
        found += [_decode(head, batch[0].shape[0], score, nms_iou) for head in heads]
    return found


def _batches(tiles: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.uint8]]]:
    batches: list[list[NDArray[np.uint8]]] = []
    for tile in tiles:
        if batches and len(batches[-1]) < _BATCH and batches[-1][0].shape == tile.shape:
            batches[-1].append(tile)
        else:
            batches.append([tile])
    return batches


def _decode(head: NDArray[np.float32], side: int, score: float, nms_iou: float) -> Nuclei:
    head = np.ascontiguousarray(head)
    boxes, scores, labels = decode_tile(head, tile_px=side, score=score, nms_iou=nms_iou)
    return Nuclei(boxes, labels.astype(np.int64), scores, _at_edge(boxes, side))


def _at_edge(boxes: NDArray[np.float32], side: int) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, :2] < 1).any(1) | (boxes[:, 2:] > side - 1).any(1))


def judge(
    found: Sequence[Nuclei], truth: Sequence[Nuclei], *, n_classes: int, mpp: float
) -> dict[str, float]:
    """Compare what was found on the tiles with what is annotated.

    Found nuclei take, in order of score, the nearest annotated one within `RADIUS_UM` that is still free.

    Returns
    -------
    `score`, the operating point with the best mean of the classes' F1; at that point `precision`, `recall`
    and `f1` of nuclei of any class and `class_f1`, the mean over the annotated classes of the F1 by centre
    and class; and `map50`, the mean over those classes of the average precision at IoU 0.5 (area under the
    precision envelope over all scores above `LOWEST_SCORE`).
    """
    radius = RADIUS_UM / mpp
    of_class = [
        ([one.of_class(k) for one in found], [one.of_class(k) for one in truth]) for k in range(n_classes)
    ]
    present = [pair for pair in of_class if sum(len(one.boxes) for one in pair[1])]
    curves = [_f1(*_hits(*pair, _nearness, -radius)) for pair in present]
    mean = np.mean([f1 for _, _, f1 in curves], axis=0) if curves else np.zeros(len(SCORES))
    best = int(np.argmax(mean))
    precision, recall, f1 = _f1(*_hits(found, truth, _nearness, -radius))
    areas = [_average_precision(*_hits(*pair, _iou, 0.5)) for pair in present]
    return {
        "score": float(SCORES[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "f1": float(f1[best]),
        "class_f1": float(mean[best]),
        "map50": float(np.mean(areas)) if areas else 0.0,
    }


def _hits(
    found: Sequence[Nuclei], truth: Sequence[Nuclei], affinity: Any, least: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """Scores of all found nuclei, which of them take an annotated one, and how many are annotated."""
    scores, hits = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for one, other in zip(found, truth, strict=True):
        hit = take_best(affinity(one, other), least)
        counts = hit | ~one.at_edge
        scores.append(one.scores[counts])
        hits.append(hit[counts])
    return np.concatenate(scores), np.concatenate(hits), sum(len(one.boxes) for one in truth)


def _nearness(found: Nuclei, truth: Nuclei) -> NDArray[np.float64]:
    """Minus the distance between centres, (N, M)."""
    between = found.centres[:, None] - truth.centres[None]
    return -np.hypot(between[..., 0], between[..., 1])


def _iou(found: Nuclei, truth: Nuclei) -> NDArray[np.float64]:
    """Intersection over union, (N, M)."""
    a, b = found.boxes[:, None].astype(np.float64), truth.boxes[None].astype(np.float64)
    shared = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(
        -1
    )
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@njit(cache=True, nogil=True)
def take_best(affinity: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Let each row, in order, take the free column of the highest affinity that is at least `least`.

    Returns
    -------
    (N,) whether the row took one. Leaving out later rows changes nothing for earlier ones, so one pass over
    nuclei in order of score serves every operating point.
    """
    n, m = affinity.shape
    free = np.ones(m, np.bool_)
    took = np.zeros(n, np.bool_)
    for i in range(n):
        best = -1
        for j in range(m):
            if free[j] and affinity[i, j] >= least and (best < 0 or affinity[i, j] > affinity[i, best]):
                best = j
        if best >= 0:
            free[best] = False
            took[i] = True
    return took


def _f1(
    scores: NDArray[np.float32], hit: NDArray[np.bool_], n_truth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 at each of `SCORES`; 0 where undefined."""
    order = np.argsort(scores)
    hits_from = np.append(np.cumsum(hit[order][::-1])[::-1], 0)
    first = np.searchsorted(scores[order], SCORES.astype(np.float32), side="right")
    n_found, n_hit = len(scores) - first, hits_from[first]
    precision = n_hit / np.maximum(n_found, 1)
    recall = n_hit / max(n_truth, 1)
    return precision, recall, 2 * n_hit / np.maximum(n_found + n_truth, 1)


def _average_precision(scores: NDArray[np.float32], hit: NDArray[np.bool_], n_truth: int) -> float:
    hits = np.cumsum(hit[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(envelope * np.diff(hits, prepend=0)) / n_truth)
