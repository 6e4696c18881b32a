"""The one interface between the detection stage and whatever runs the network.

A backend owns a fixed number of *slots*: buffers for one tile each, allocated once. A tile's way::

    reader thread     acquire() -> fill slot.image, set slot.tile -> submit(slot)
    backend           runs the network, in any order, in batches if it likes
    consumer thread   take() -> Candidates -> measures on slot.image -> release(slot)

`acquire` blocks while no slot is free, which bounds what is in flight whatever the size of the slide.
Because readers write straight into the backend's own buffers, a GPU backend can hand out rows of pinned
batch buffers, and no copy is made in between.

`ercohort.backends.slots.SlotBackend` does the bookkeeping and the locking; a new backend adds how a tile is
started and how its result is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ercohort.model import ModelInfo


class Tile(NamedTuple):
    """One row of the tile manifest; level-0 pixels of the slide frame (see `ercohort.schema.TILES`)."""

    tile_id: int
    x: int
    y: int
    width: int
    height: int
    core_x0: int
    core_y0: int
    core_x1: int
    core_y1: int


@dataclass(eq=False)
class Slot:
    """A buffer for one tile.

    Attributes
    ----------
    index
        Position among the backend's slots.
    image
        The tile's pixels, (tile_px, tile_px, 3) uint8 RGB; memory of the backend, written by a reader, which
        stays as the reader left it until the slot is released.
    tile
        Which tile the pixels are, set by the reader before `submit`.
    """

    index: int
    image: npt.NDArray[np.uint8]
    tile: Tile | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the network sees in one tile, after the score threshold and class-agnostic NMS inside the tile.

    A backend may leave out what the tile does not own; `seams.emit` decides in either case.

    Attributes
    ----------
    slot
        The slot that was submitted; the consumer releases it.
    boxes
        (N, 4) float32: x0, y0, x1, y1 in pixels of the tile image, inside it, with an area, finite.
    score
        (N,) float32, each above the threshold, descending.
    label
        (N,) uint8, index into `model.labels`.
    """

    slot: Slot
    boxes: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]


class Backend(Protocol):
    """Runs the detector on tiles.

    All methods may be called by many threads at once. One shard is `begin`, any number of tiles, `finish`;
    the backend can then begin the next shard. After `cancel` it can only be closed.

    Attributes
    ----------
    name
        `openvino`, `tensorrt`, ...: the table's column `backend`.
    precision
        Arithmetic of the network: `f32`, `bf16`, `f16`, ...: the table's column `precision`.
    device
        The CPU's or GPU's own name.
    model
        The detector that is loaded.
    tile_px
        Side of the tile image, pixels at the detector's scale.
    n_slots
        How many tiles can be in flight; at least 1.
    threads
        CPU threads that the job was given; the detection stage has as many readers.
    """

    name: str
    precision: str
    device: str
    model: ModelInfo
    tile_px: int
    n_slots: int
    threads: int

    def begin(self, slide_size: tuple[int, int]) -> None:
        """Start a shard: no tile is in flight, the clocks of `seconds` and `stats` are at zero.

        Parameters
        ----------
        slide_size
            Width and height of the slide that the tiles are of, level-0 pixels.
        """

    def acquire(self) -> Slot | None:
        """Return a free slot, waiting for one; None once the backend is cancelled."""

    def submit(self, slot: Slot) -> None:
        """Hand in a filled slot without waiting; whatever goes wrong with it is raised by `take`."""

    def take(self) -> Candidates | None:
        """Return the next finished tile, in any order, waiting for one.

        None once `finish` was called and every submitted tile was taken, or the backend is cancelled.

        Raises
        ------
        BackendError
            The network failed on a tile.
        """

    def release(self, slot: Slot) -> None:
        """Give a slot back: one whose pixels are no longer needed, or one that was never submitted."""

    def finish(self) -> None:
        """Say that no more tiles come in this shard: an unfilled batch is run as it is."""

    def cancel(self) -> None:
        """Wake every thread that waits in `acquire` or `take`: they get None. Never blocks or raises."""

    def seconds(self) -> dict[str, float]:
        """Return seconds since `begin`.

        `infer`: at least one tile was in the network; `decode_nms`: taking results apart, summed over this
        machine's threads.
        """

    def stats(self) -> dict[str, Any]:
        """Return what else to record of the time since `begin`, as JSON can hold it.

        Always `busy_seconds`: the device had something to do. A GPU adds `device_stages` (seconds of each
        stage on the device, summed over streams), `peak_device_bytes`, `batch` and `streams`.
        """

    def close(self) -> None:
        """Cancel, wait for what is in flight and free all buffers; a second call does nothing."""
