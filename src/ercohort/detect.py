"""From the tiles of a shard to its nuclei: read, infer, decode, own, measure, all at once.

Reader threads write tiles into the backend's slots, consumer threads take what the network found. The number
of slots bounds what is in flight; only the nuclei themselves grow with the slide.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ercohort.backends.protocol import Backend, Candidates, Tile
from ercohort.config import DetectSettings
from ercohort.errors import SlideError
from ercohort.schema import DETECTIONS, with_classes
from ercohort.seams import emit, resolve_shard
from ercohort.slide import Slide
from ercohort.stain import measure
from ercohort.stain_vectors import DEFAULT_VECTORS, StainVectors

_ROW = np.dtype(
    [
        ("box", np.float32, 4),
        ("score", np.float32),
        ("label", np.uint8),
        ("dab_od", np.float32),
        ("hematoxylin_od", np.float32),
        ("tile_id", np.int32),
        ("cut", np.bool_),
    ]
)
"""A nucleus while the shard runs: one small array for each tile, not ten."""


@dataclass(frozen=True, eq=False)
class ShardResult:
    """What a shard's tiles hold.

    Attributes
    ----------
    table
        Rows of `schema.DETECTIONS`, with the detector's classes: the nuclei, and the boxes that the merge
        has to decide about.
    stats
        How it went, as JSON can hold it: `n_tiles`, `failed` (tile_id, x, y, message of each tile that could
        not be read), `seconds`, `tiles_per_second`, `backend`, `precision`, `device`, and `stages`, in
        seconds: `read`, `decode_nms`, `od` and the waits `wait_slot` (readers, for a free slot) and
        `wait_result` (consumers) are sums over threads; `infer` is the time during which the network had a
        tile to work on; `seams` follows the last tile. `shares` has the same keys: the part of `seconds`, or
        of the time of all threads that do this work. `busy_share` is the part of `seconds` in which the
        device had something to do; the rest is what `Backend.stats` returned.
    """

    table: pl.DataFrame
    stats: dict[str, Any]


def detect_shard(
    slide: Slide,
    tiles: pl.DataFrame,
    all_tiles: pl.DataFrame,
    backend: Backend,
    *,
    settings: DetectSettings,
    background: tuple[float, float, float],
    vectors: StainVectors = DEFAULT_VECTORS,
    progress: Callable[[int, int], None] | None = None,
) -> ShardResult:
    """Detect the nuclei of one shard.

    The rows do not depend on the number of threads or on which tile is finished first. A tile whose pixels
    cannot be decoded is recorded as failed, and the run goes on. Any other error in any thread stops all.

    Parameters
    ----------
    slide
        Open slide.
    tiles, all_tiles
        This shard's rows of the tile manifest, and the whole manifest (`schema.TILES`).
    backend
        A loaded detector; cancelled if an error is raised.
    settings
        Of the detector and of the seams.
    background
        RGB of the slide's glass, for the optical density.
    vectors
        Of the slide's stains.
    progress
        Called with (tiles done, tiles in all) after each tile, by one thread at a time.

    Raises
    ------
    BackendError
        The network failed on a tile.
    """
    begun = perf_counter()
    run = _Run(slide, tiles, backend, background, vectors, progress)
    if run.tiles:
        run.run()
    at_seams = perf_counter()
    table = resolve_shard(
        run.table(),
        tiles,
        all_tiles,
        scale=backend.model.mpp / slide.info.mpp,
        nms_iou=settings.nms_iou,
        seam_ios=settings.seam_ios,
    )
    ended = perf_counter()
    seconds = ended - begun
    run.stages["seams"] = ended - at_seams
    return ShardResult(
        table,
        {
            "n_tiles": len(run.tiles),
            "failed": sorted(run.failed),
            "seconds": seconds,
            "tiles_per_second": len(run.tiles) / seconds,
            "stages": {name: round(spent, 4) for name, spent in run.stages.items()},
            "shares": {
                name: round(spent / (seconds * run.threads.get(name, 1)), 4)
                for name, spent in run.stages.items()
            },
            "busy_share": round(run.device_stats.get("busy_seconds", 0.0) / seconds, 4),
            **run.device_stats,
            "backend": backend.name,
            "precision": backend.precision,
            "device": backend.device,
        },
    )


class _Run:
    """One pass over the tiles of a shard; what the threads share, and the threads."""

    def __init__(
        self,
        slide: Slide,
        tiles: pl.DataFrame,
        backend: Backend,
        background: tuple[float, float, float],
        vectors: StainVectors,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.slide = slide
        self.tiles = [Tile(*row) for row in tiles.select(Tile._fields).iter_rows()]
        self.backend = backend
        self.background = background
        self.vectors = vectors
        self.progress = progress
        self.failed: list[tuple[int, int, int, str]] = []
        self.stages = dict.fromkeys(("read", "wait_slot", "infer", "decode_nms", "wait_result", "od"), 0.0)
        self._found: list[npt.NDArray[Any]] = []  # of each tile that is done
        self._lock = threading.Lock()
        self._todo = iter(self.tiles)
        self._readers = min(backend.threads, len(self.tiles))
        self._consumers = max(1, backend.threads // 2)
        self.threads = dict.fromkeys(("read", "wait_slot"), max(1, self._readers))
        self.threads |= dict.fromkeys(("decode_nms", "wait_result", "od"), self._consumers)
        self.device_stats: dict[str, Any] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        """Start the threads, wait for them, raise the first error of any of them."""
        work = [self._read_tiles] * self._readers + [self._take_results] * self._consumers
        threads = [threading.Thread(target=self._guarded, args=(job,), name=job.__name__) for job in work]
        self.backend.begin((self.slide.info.width, self.slide.info.height))
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:  # Ctrl-C, or no thread to be had: end the others before leaving
            self.backend.cancel()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        if self._error is not None:
            raise self._error
        self.device_stats = self.backend.stats()
        inside = self.backend.seconds()
        self.stages.update(inside)
        self.stages["wait_result"] = max(0.0, self.stages["wait_result"] - inside["decode_nms"])

    def table(self) -> pl.DataFrame:
        """Return what all tiles emitted, in any order: columns of `schema.DETECTIONS` but `open`."""
        rows = np.concatenate([np.empty(0, _ROW), *self._found])
        labels = self.backend.model.labels
        label = pl.Series(labels, dtype=pl.Enum(labels)).gather(rows["label"])
        columns = {name: rows["box"][:, axis] for axis, name in enumerate(("x0", "y0", "x1", "y1"))}
        columns |= {name: rows[name] for name in _ROW.names or () if name not in ("box", "label")}
        return pl.DataFrame({**columns, "label": label}).select(
            pl.col(name).cast(dtype)
            for name, dtype in with_classes(DETECTIONS, labels).items()
            if name != "open"
        )

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            with self._lock:
                if self._error is None:
                    self._error = error
            self.backend.cancel()

    def _read_tiles(self) -> None:
        """Fill slots until no tile is left; the last reader tells the backend."""
        read = waited = 0.0
        while (tile := self._next_tile()) is not None:
            before = perf_counter()
            slot = self.backend.acquire()
            if slot is None:
                return
            began = perf_counter()
            try:
                self._read(tile, slot.image)
            except SlideError as error:
                self.backend.release(slot)
                with self._lock:
                    self.failed.append((tile.tile_id, tile.x, tile.y, error.message))
                self._done(np.empty(0, _ROW))
            else:
                read += perf_counter() - began
                slot.tile = tile
                self.backend.submit(slot)
            waited += began - before
        with self._lock:
            self.stages["read"] += read
            self.stages["wait_slot"] += waited
            self._readers -= 1
            last = self._readers == 0
        if last:
            self.backend.finish()

    def _next_tile(self) -> Tile | None:
        with self._lock:
            return next(self._todo, None)

    def _read(self, tile: Tile, image: npt.NDArray[np.uint8]) -> None:
        size = (self.backend.tile_px, self.backend.tile_px)
        try:
            self.slide.read(tile.x, tile.y, tile.width, tile.height, size=size, out=image)
        except SlideError:
            raise
        except BaseException as error:
            error.add_note(f"while reading tile {tile.tile_id} at {tile.x}, {tile.y}")
            raise

    def _take_results(self) -> None:
        """Turn what the network found into rows until the backend says that it was all."""
        waited = measured = 0.0
        while True:
            before = perf_counter()
            found = self.backend.take()
            waited += perf_counter() - before
            if found is None:
                break
            began = perf_counter()
            tile = found.slot.tile
            if tile is None:
                raise RuntimeError("the backend returned a slot that was never submitted")
            try:
                rows = self._own(found, tile)
            finally:
                self.backend.release(found.slot)
            measured += perf_counter() - began
            self._done(rows)
        with self._lock:
            self.stages["wait_result"] += waited
            self.stages["od"] += measured

    def _own(self, found: Candidates, tile: Tile) -> npt.NDArray[Any]:
        """Place on the slide what the tile owns, and measure its stains."""
        info = self.slide.info
        emitted = emit(found.boxes, tile, tile_px=self.backend.tile_px, slide_size=(info.width, info.height))
        rows = np.empty(len(emitted.index), _ROW)
        # Not the network's box: at the slide's edge that may reach into the padding.
        corner = np.array([tile.x, tile.y, tile.x, tile.y], np.float32)
        inside = (emitted.boxes - corner) * np.float32(self.backend.tile_px / tile.width)
        rows["dab_od"], rows["hematoxylin_od"] = measure(
            found.slot.image, inside, self.background, self.vectors
        )
        rows["box"] = emitted.boxes
        rows["score"] = found.score[emitted.index]
        rows["label"] = found.label[emitted.index]
        rows["tile_id"] = tile.tile_id
        rows["cut"] = emitted.cut
        return rows

    def _done(self, rows: npt.NDArray[Any]) -> None:
        with self._lock:
            self._found.append(rows)
            if self.progress is not None:
                self.progress(len(self._found), len(self.tiles))
