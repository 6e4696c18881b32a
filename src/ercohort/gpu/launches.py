"""What is launched for a batch of tiles: the kernels in order, with their grids, arguments and buffers.

Before the engine, `preprocess`; after it, `clear`, `select`, `rank`, `suppress`, `own`. Nothing here needs a
GPU: a launch is a record that any device can carry out, the CPU in the tests included. No kernel caps the
number of boxes: every buffer has room for all anchors of every tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ercohort.twins import SLACK_PX

if TYPE_CHECKING:
    from ercohort.backends.protocol import Tile
    from ercohort.backends.slots import Found

STRIDES = (8, 16, 32)
"""Pixels per anchor of the scales of a YOLO head; one with a P2 head has 4 before them."""

BLOCK = 256
"""Threads in a block; compiled into the kernels, which keep one entry per thread in shared memory."""

SUPPRESS_BLOCK = 512
"""Threads in a block of `suppress`, of which each tile has only one: more threads, less waiting."""

PADDING = 255
"""Byte to the right of and below a tile that is no multiple of the network's largest stride: white glass."""

_WINDOW = 11  # doubles per tile, `struct Window` of kernels/types.cuh
_HEADER = 16  # bytes before a tile's boxes in the result, so that they are aligned; two counts come first
_BOX, _SCORE, _LABEL = 16, 4, 1  # bytes


@dataclass(frozen=True)
class Launch:
    """One kernel launch.

    Attributes
    ----------
    kernel
        Its name in the cubin (extern "C").
    grid, block
        Blocks, and threads in a block, in x, y and z.
    arguments
        In the kernel's order and of its types: numpy scalars; a device address is an `np.uint64`.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[np.generic, ...]


@dataclass(frozen=True)
class TileShape:
    """What is the same for all tiles of a run.

    Attributes
    ----------
    side
        Side of the tile image, pixels.
    anchors
        Columns of the network's output; `anchors` tells how many a head has.
    classes
        Rows of the network's output less the four of the box.
    fp16_input
        Whether the engine's input is FP16; else float32. The cubin must be compiled with the same.
    """

    side: int
    anchors: int
    classes: int
    fp16_input: bool

    @property
    def padded(self) -> int:
        """Side of the network's input, pixels: the next multiple of the largest stride."""
        return _up(self.side, STRIDES[-1])

    @property
    def result_stride(self) -> int:
        """Bytes of one tile's result."""
        return _up(_HEADER + self.anchors * (_BOX + _SCORE + _LABEL), _HEADER)


def anchors(side: int, strides: Sequence[int] = STRIDES) -> int:
    """Count the anchors of a head for tiles of `side` pixels: 8400 at 640 with the usual strides."""
    side = _up(side, max(strides))
    return sum((side // stride) ** 2 for stride in strides)


def sizes(batch: int, shape: TileShape) -> dict[str, int]:
    """Bytes of each device buffer that a batch of up to `batch` tiles needs.

    `images` and `tiles` are copied in from the host (see `image_offset` and `pack_tile`), `input` and `head`
    are the engine's, the others belong to the kernels. The result is not among them: it lies in mapped host
    memory of `result_bytes`, whose device address goes into the addresses as `result`.
    """
    per_anchor = {
        "keys": 8,
        "boxes": _BOX,
        "scores": _SCORE,
        "labels": _LABEL,
        "anchor_ids": 4,
        "ranked_boxes": _BOX,
        "ranked_scores": _SCORE,
        "ranked_labels": _LABEL,
        "dropped": 1,
    }
    return {
        "images": batch * image_offset(1, shape),
        "tiles": tiles_bytes(batch),
        "input": batch * 3 * shape.padded**2 * (2 if shape.fp16_input else 4),
        "head": batch * (4 + shape.classes) * shape.anchors * 4,
        "counts": batch * 4,
        "odd": batch * 4,
        **{name: batch * shape.anchors * size for name, size in per_anchor.items()},
    }


def image_offset(row: int, shape: TileShape) -> int:
    """Bytes from the start of `images` to the tile in `row`: (side, side, 3) uint8, no gaps."""
    return row * shape.side * shape.side * 3


def tiles_bytes(batch: int) -> int:
    """Bytes of the buffer `tiles`, on the host and on the device."""
    return batch * _WINDOW * 8


def result_bytes(batch: int, shape: TileShape) -> int:
    """Bytes of the result of a batch, which the kernels write into mapped host memory."""
    return batch * shape.result_stride


def pack_tile(
    memory: NDArray[np.uint8], row: int, tile: Tile, slide_size: tuple[int, int], tile_px: int
) -> None:
    """Write where a tile lies and what it owns into the host's buffer `tiles`.

    The numbers are those that `seams.emit` computes from the tile, so that the kernel `own` has only to place
    a box and to compare.

    Parameters
    ----------
    memory
        (`tiles_bytes(batch)`,) uint8, aligned to 8 bytes.
    row
        Which tile of the batch.
    tile
        Window and core, level-0 pixels.
    slide_size
        Width and height of the slide, level-0 pixels.
    tile_px
        Side of the tile image.
    """
    scale = tile.width / tile_px
    slack = SLACK_PX * scale
    memory.view(np.float64).reshape(-1, _WINDOW)[row] = (
        scale,
        tile.x,
        tile.y,
        max(tile.x, 0),
        max(tile.y, 0),
        min(tile.x + tile.width, slide_size[0]),
        min(tile.y + tile.height, slide_size[1]),
        tile.core_x0 - slack,
        tile.core_y0 - slack,
        tile.core_x1 + slack,
        tile.core_y1 + slack,
    )


def read_result(memory: NDArray[np.uint8], n: int, shape: TileShape) -> list[Found]:
    """Copy what the kernels found in the `n` tiles of a batch.

    Parameters
    ----------
    memory
        At least (`result_bytes(n, shape)`,) uint8: the host's view of the mapped result.

    Returns
    -------
    For each tile, (N, 4) float32 boxes x0, y0, x1, y1 in pixels of the tile, (N,) float32 scores, descending,
    and (N,) uint8 labels: what `decode.decode_tile` keeps and `seams.emit` does not drop as another tile's.
    """
    found: list[Found] = []
    for tile in memory[: result_bytes(n, shape)].reshape(n, shape.result_stride):
        count = int(tile[:4].view(np.uint32)[0])
        boxes, scores, labels = np.split(
            tile[_HEADER:], np.cumsum([shape.anchors * _BOX, shape.anchors * _SCORE])
        )
        found.append(
            (
                boxes.view(np.float32).reshape(-1, 4)[:count].copy(),
                scores.view(np.float32)[:count].copy(),
                labels[:count].copy(),
            )
        )
    return found


def read_odd(memory: NDArray[np.uint8], n: int, shape: TileShape) -> list[int]:
    """Return of each tile how many anchors hold numbers that are no nucleus: `decode.decode_and_count`.

    Parameters
    ----------
    memory
        As in `read_result`.
    """
    results = memory[: result_bytes(n, shape)].reshape(n, shape.result_stride)
    return [int(tile[4:8].view(np.uint32)[0]) for tile in results]


def before_engine(addresses: Mapping[str, int], shape: TileShape, n: int) -> tuple[Launch, ...]:
    """Return the launches that turn the `n` tiles in `images` into the engine's input.

    Parameters
    ----------
    addresses
        Device address of each buffer that `sizes` names, and of `result`.
    """
    arguments: tuple[np.generic, ...] = (
        *_pointers(addresses, "images", "input"),
        *(np.int32(value) for value in (shape.side, shape.side, shape.padded, shape.padded, PADDING)),
    )
    return (Launch("preprocess", (_blocks(shape.padded**2), n, 1), (BLOCK, 1, 1), arguments),)


def after_engine(
    addresses: Mapping[str, int], shape: TileShape, n: int, *, score: float, nms_iou: float
) -> tuple[Launch, ...]:
    """Return the launches that turn the engine's output into the result.

    Parameters
    ----------
    addresses
        As in `before_engine`.
    score, nms_iou
        As in `decode.decode_tile`.
    """
    room = np.int32(shape.anchors)
    of_anchors, of_tiles, block = (_blocks(shape.anchors), n, 1), (n, 1, 1), (BLOCK, 1, 1)
    candidates = _pointers(addresses, "keys", "boxes", "scores", "labels", "anchor_ids")
    ranked = _pointers(addresses, "ranked_boxes", "ranked_scores", "ranked_labels")
    (ranked_boxes, _, _) = ranked
    head, counts, odd, dropped, tiles, result = _pointers(
        addresses, "head", "counts", "odd", "dropped", "tiles", "result"
    )
    select = (head, np.int32(shape.classes), np.float32(shape.side), np.float32(score))
    return (
        Launch("clear", (_blocks(n), 1, 1), block, (counts, odd, np.int32(n))),
        Launch("select", of_anchors, block, (*select, counts, odd, *candidates, room)),
        Launch("rank", of_anchors, block, (counts, *candidates, *ranked, room)),
        Launch(
            "suppress",
            of_tiles,
            (SUPPRESS_BLOCK, 1, 1),
            (counts, ranked_boxes, dropped, np.float32(nms_iou), room),
        ),
        Launch(
            "own",
            of_tiles,
            block,
            (counts, odd, *ranked, dropped, tiles, result, np.uint64(shape.result_stride), room),
        ),
    )


def _pointers(addresses: Mapping[str, int], *names: str) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(addresses[name]) for name in names)


def _blocks(threads: int) -> int:
    return -(-threads // BLOCK)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
