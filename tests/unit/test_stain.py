"""Optical density of the stains: planted amounts come back, and the fast loop equals plain NumPy."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.stain import measure, optical_density, stain_matrix

WHITE = (255.0, 255.0, 255.0)


def dye(hematoxylin: float, dab: float, background: tuple[float, float, float] = WHITE) -> np.ndarray:
    """RGB of glass seen through these amounts of stain (Beer-Lambert), not rounded."""
    return np.array(background) * 10 ** -(np.array([hematoxylin, dab, 0.0]) @ stain_matrix())


def test_vectors_are_qupaths() -> None:
    matrix = stain_matrix()
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1)
    np.testing.assert_allclose(matrix[0], [0.651, 0.701, 0.290], atol=5e-4)
    np.testing.assert_allclose(matrix[1], [0.269, 0.568, 0.778], atol=5e-4)
    np.testing.assert_allclose(matrix[2] @ matrix[:2].T, 0, atol=1e-12)


def test_optical_density_of_known_values() -> None:
    table = optical_density((255, 200, 100))
    assert table.shape == (256, 3)
    assert table[255].tolist() == [0, 0, 0]  # brighter than the glass is 0, not negative
    np.testing.assert_allclose(table[20, 1], 1)
    np.testing.assert_allclose(table[10, 2], 1)
    np.testing.assert_array_equal(table[0], table[1])  # black counts as 1


@pytest.mark.parametrize("background", [WHITE, (241.0, 238.0, 244.5)])
@pytest.mark.parametrize(("hematoxylin", "dab"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.2), (0.3, 0.6), (0.1, 0.9)])
def test_planted_stain_comes_back(
    hematoxylin: float, dab: float, background: tuple[float, float, float]
) -> None:
    image = np.empty((40, 40, 3), np.uint8)
    image[:] = np.round(dye(hematoxylin, dab, background))
    dab_od, hematoxylin_od = measure(image, np.array([[10, 10, 28, 30]], np.float32), background)
    assert abs(dab_od[0] - dab) < 0.012  # what rounding to 8 bits leaves
    assert abs(hematoxylin_od[0] - hematoxylin) < 0.012


def test_only_the_ellipse_counts() -> None:
    """Corners of the box and all around it are black; inside the ellipse is plain glass."""
    image = np.zeros((40, 40, 3), np.uint8)
    y, x = np.mgrid[:40, :40] + 0.5
    image[((x - 20) / 9) ** 2 + ((y - 18) / 12) ** 2 <= 1] = 255
    dab_od, hematoxylin_od = measure(image, np.array([[11, 6, 29, 30]], np.float32), WHITE)
    assert (dab_od[0], hematoxylin_od[0]) == (0, 0)


def reference(image: np.ndarray, box: np.ndarray, background: tuple[float, ...]) -> tuple[float, float]:
    x0, y0, x1, y1 = box.astype(np.float64)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    centre_x, centre_y, half_x, half_y = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    inside = ((columns - centre_x) / half_x) ** 2 + ((rows - centre_y) / half_y) ** 2 <= 1
    if not inside.any():
        row = min(max(int(centre_y), 0), image.shape[0] - 1)
        inside[row, min(max(int(centre_x), 0), image.shape[1] - 1)] = True
    pixels = np.maximum(image[inside].astype(np.float64), 1)
    od = np.maximum(0, -np.log10(pixels / np.array(background)))
    amounts = od @ np.linalg.inv(stain_matrix())
    return amounts[:, 1].mean(), amounts[:, 0].mean()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-3, 40), st.floats(-3, 40), st.floats(0.01, 30), st.floats(0.01, 30),
)  # fmt: skip
def test_equals_numpy(seed: int, x: float, y: float, width: float, height: float) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    # Off the grid of halves, where both sides round a pixel on the rim the same way.
    box = (np.array([x, y, x + width, y + height]).round(2) + 0.0037).astype(np.float32)
    if not (box[2] > box[0] and box[3] > box[1]):
        return
    background = (240.0, 250.0, 230.0)
    dab_od, hematoxylin_od = measure(image, box[None], background)
    expected = reference(image, box, background)
    np.testing.assert_allclose([dab_od[0], hematoxylin_od[0]], expected, rtol=1e-4, atol=1e-5)


def test_no_boxes() -> None:
    dab_od, hematoxylin_od = measure(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), WHITE)
    assert len(dab_od) == len(hematoxylin_od) == 0


def test_a_crowded_tile_takes_milliseconds() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (640, 640, 3), dtype=np.uint8)
    corner = random.uniform(0, 622, (1200, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 18], axis=1)
    measure(image, boxes, WHITE)
    seconds = []
    for _ in range(7):
        begun = time.perf_counter()
        measure(image, boxes, WHITE)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.01  # 1.2 ms on an idle core; the margin is for a busy machine
    print(f"1,200 boxes of 18 px: {min(seconds) * 1e3:.2f} ms")
