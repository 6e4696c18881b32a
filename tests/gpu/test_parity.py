"""The whole pipeline on the GPU finds the nuclei that the CPU finds in float32."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ercohort.backends import choose_backend
from ercohort.backends.protocol import Backend, Tile
from ercohort.config import DetectSettings
from ercohort.errors import BackendError
from ercohort.gpu.pipeline import PipelineBackend
from ercohort.matching import match_points
from ercohort.model import ModelInfo, read_model
from tests.gpu.engines import DEFAULT_MODEL, ROOT, open_pipeline

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(1800)]
SIDE = 640
DETECT = DetectSettings()
Nuclei = dict[int, tuple[np.ndarray, np.ndarray]]
"""Centres and labels by tile."""


@pytest.fixture(scope="module")
def model() -> ModelInfo:
    return read_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def tiles() -> list[np.ndarray]:
    """Tiles of the real fields beside the project, or of a simulated slide."""
    found = [tile for kind in ("ki67-fields", "bcdata") for tile in field_tiles(ROOT.parent / "shared", kind)]
    return found or simulated_tiles()


def field_tiles(shared: Path, kind: str) -> Iterator[np.ndarray]:
    index = shared / "data" / "ihc-dev" / kind / "index.csv"
    if not index.exists():
        return
    with index.open() as file:
        for row in csv.DictReader(file):
            with Image.open(index.parent / row["id"] / "image.png") as image:
                scale = float(row["mpp_estimate"]) / 0.5
                size = (round(image.width * scale), round(image.height * scale))
                yield from cut(np.asarray(image.convert("RGB").resize(size)))


def cut(picture: np.ndarray) -> Iterator[np.ndarray]:
    for y in range(0, picture.shape[0], SIDE):
        for x in range(0, picture.shape[1], SIDE):
            tile = np.full((SIDE, SIDE, 3), 255, np.uint8)
            part = picture[y : y + SIDE, x : x + SIDE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def simulated_tiles() -> list[np.ndarray]:
    import tempfile

    from ercohort.simulate import simulate_slide
    from ercohort.slide import open_slide

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.tiff"
        simulate_slide(path, width=5120, height=5120, mpp=0.5, percent_positive=60.0, seed=1)
        with open_slide(path) as slide:
            corners = range(0, 5120, SIDE)
            return [slide.read(x, y, SIDE, SIDE, size=(SIDE, SIDE)) for y in corners for x in corners]


def run(backend: Backend, tiles: list[np.ndarray]) -> Nuclei:
    """Every tile is a slide of its own: all its nuclei are its own."""
    found: Nuclei = {}

    def take() -> bool:
        candidates = backend.take()
        if candidates is None:
            return False
        assert candidates.slot.tile is not None
        boxes = candidates.boxes.astype(np.float64)
        assert candidates.slot.tile.tile_id not in found
        found[candidates.slot.tile.tile_id] = ((boxes[:, :2] + boxes[:, 2:]) / 2, candidates.label)
        backend.release(candidates.slot)
        return True

    backend.begin((SIDE, SIDE))
    for index, tile in enumerate(tiles):
        if index >= backend.n_slots:
            take()
        slot = backend.acquire()
        assert slot is not None
        slot.image[:] = tile
        slot.tile = Tile(index, 0, 0, SIDE, SIDE, 0, 0, SIDE, SIDE)
        backend.submit(slot)
    backend.finish()
    while take():
        pass
    return found


@pytest.fixture(scope="module")
def pipeline(model: ModelInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineBackend]:
    folder = tmp_path_factory.mktemp("gpu")
    try:
        backend, library = open_pipeline(
            model, folder, tile_px=SIDE, detect=DETECT, threads=4, batch=8, streams=3
        )
    except BackendError as error:
        pytest.skip(f"no network on a GPU: {error}")
    print(f"\nthe network runs on {backend.device} by {library}")
    with backend:
        yield backend


def test_same_nuclei_as_the_cpu(pipeline: PipelineBackend, model: ModelInfo, tiles: list[np.ndarray]) -> None:
    """Matched F1 at least 0.995, percent positive within 0.1 point."""
    with choose_backend("openvino", precision="f32").open(
        model, tile_px=SIDE, detect=DETECT, threads=4
    ) as cpu:  # type: ignore[attr-defined]
        reference = run(cpu, tiles)
    found = run(pipeline, tiles)
    assert sorted(found) == sorted(reference)
    pairs = total = 0
    for index, (centres, labels) in reference.items():
        other, other_labels = found[index]
        matches = match_points(other, centres, 5.0)
        pairs += int((other_labels[matches.pred] == labels[matches.truth]).sum())
        total += len(centres) + len(other)
    positive = [
        100 * (np.concatenate([labels for _, labels in one.values()]) != model.negative).mean()
        for one in (reference, found)
    ]
    print(
        f"\n{len(tiles)} tiles, F1 {2 * pairs / total:.5f}, "
        f"positive {positive[0]:.3f} and {positive[1]:.3f} %"
    )
    assert total > 1000
    assert 2 * pairs / total >= 0.995
    assert abs(positive[0] - positive[1]) <= 0.1


def test_a_tile_gives_the_same_nuclei_whatever_flies_with_it(
    pipeline: PipelineBackend, tiles: list[np.ndarray]
) -> None:
    some = tiles[:11]
    together, alone = run(pipeline, some), run(pipeline, some[3:4])
    for one, other in zip(together[3], alone[0], strict=True):
        np.testing.assert_array_equal(one, other)
    again = run(pipeline, some)
    for index, nuclei in together.items():
        for one, other in zip(nuclei, again[index], strict=True):
            np.testing.assert_array_equal(one, other)
