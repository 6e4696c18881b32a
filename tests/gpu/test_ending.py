"""A run on the GPU that is given up gives everything back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from ercohort.backends.protocol import Tile
from ercohort.config import DetectSettings
from ercohort.errors import BackendError
from ercohort.model import read_model
from tests.gpu.engines import DEFAULT_MODEL, open_pipeline

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(600)]
SIDE = 640


def test_it_can_be_given_up_with_batches_in_flight_and_opened_anew(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for _ in range(2):
        try:
            backend, _ = open_pipeline(
                read_model(DEFAULT_MODEL), tmp_path,
                tile_px=SIDE, detect=DetectSettings(), threads=2, batch=4, streams=2,
            )  # fmt: skip
        except BackendError as error:
            pytest.skip(f"no network on a GPU: {error}")
        backend.begin((SIDE, SIDE))
        for index in range(backend.n_slots):
            slot = backend.acquire()
            assert slot is not None
            slot.image[:] = noise
            slot.tile = Tile(index, 0, 0, SIDE, SIDE, 0, 0, SIDE, SIDE)
            backend.submit(slot)
        backend.cancel()
        began = time.monotonic()
        backend.close()
        assert time.monotonic() - began < 30
        assert backend.take() is None
