"""Tiny ONNX detectors whose output is a known function of the pixels, without a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.slides import write_pyramid

STEP = 8
"""The tiny detector has one anchor for every STEP x STEP pixels; it looks at the upper left one of them."""
SIDE = 16.0
"""Side of its boxes, pixels."""
SPAN = 640.0
"""Red 255 puts a box's centre at x = SPAN, green at y = SPAN."""
GOOD_METADATA = {"names": "{0: 'Positive', 1: 'Negative'}", "mpp": "0.5", "tile_px": "128", "version": "3"}
TWO_CLASSES = ((1.0, -2.0), (0.8, -0.8))
"""Probability of each class where there is no blue, and what full blue adds to it."""
THREE_METADATA = {**GOOD_METADATA, "names": "{0: 'Positive', 1: 'Weak', 2: 'Negative'}"}
THREE_CLASSES = ((1.0, -3.0), (0.9, -1.5), (0.75, -0.75))
"""Of these, Positive is best up to blue 16, Weak up to 50, then Negative, which is below 0.25 from 171 on."""
THREE_BLUES = (4, 34, 77)
"""Blue of a nucleus of each of the three classes."""
TISSUE = (200, 180, 220)
"""A colour in which no detector here sees a nucleus."""
CORE, HALO = 576, 32
"""Of the default tiles, at 0.5 µm per pixel."""


def write_detector(
    path: Path,
    *,
    metadata: dict[str, str] | None = None,
    classes: Sequence[tuple[float, float]] = TWO_CLASSES,
    shape: tuple[int | str, ...] = ("batch", 3, "height", "width"),
    output: tuple[int | str, ...] | None = None,
    n_outputs: int = 1,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a detector with a YOLO head: centre (SPAN*R, SPAN*G), size SIDE, classes linear in blue."""
    start, slope = zip(*classes, strict=True)
    rows = 4 + len(classes)
    weight = np.zeros((rows, 3, 1, 1), np.float32)
    weight[0, 0] = weight[1, 1] = SPAN
    weight[4:, 2, 0, 0] = slope
    bias = np.array([0, 0, SIDE, SIDE, *start], np.float32)
    output = output or ("batch", rows, "anchors")
    nodes = [
        helper.make_node("Conv", ["images", "weight", "bias"], ["map"], strides=[STEP, STEP]),
        helper.make_node("Reshape", ["map", "shape"], ["output0"]),
    ]
    outputs = [helper.make_tensor_value_info("output0", dtype, output)]
    for index in range(1, n_outputs):
        nodes.append(helper.make_node("Identity", ["map"], [f"output{index}"]))
        outputs.append(helper.make_tensor_value_info(f"output{index}", dtype, None))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", dtype, shape)],
        outputs,
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([0, rows, -1], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, GOOD_METADATA if metadata is None else metadata)
    onnx.save(model, path)
    return path


def write_constant_detector(
    path: Path, head: np.ndarray, *, claimed: tuple[int | str, ...] = ("batch", 6, "anchors")
) -> Path:
    """Write a detector that gives `head`, (rows, anchors), whatever it sees; its file states `claimed`."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "shape"], ["flat"]),
        helper.make_node("Add", ["flat", "head"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ("batch", 3, "height", "width"))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, claimed)],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([-1, *[1] * head.ndim], np.int64), "shape"),
            numpy_helper.from_array(head.astype(np.float32)[np.newaxis], "head"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, GOOD_METADATA)
    onnx.save(model, path)
    return path


def paint(image: np.ndarray, anchor: tuple[int, int], centre: tuple[int, int], blue: int) -> None:
    """Make the anchor (row, column) see a nucleus at SPAN/255 * centre (x, y); blue below 50 is positive."""
    image[anchor[0] * STEP, anchor[1] * STEP] = (*centre, blue)


def write_marked_slide(path: Path, tiles: Sequence[Sequence[int]]) -> list[tuple[float, float, int]]:
    """Write a lossless slide of two by two default tiles, on which a detector sees nuclei of three classes.

    Parameters
    ----------
    path
        The slide to write, 0.5 µm per pixel.
    tiles
        Nuclei of each class (of `THREE_BLUES`) in each of the four tiles, row-major; up to 100 in a tile.

    Returns
    -------
    Centre (level-0 pixels) and class of every nucleus.
    """
    picture = np.full((2 * CORE, 2 * CORE, 3), 245, np.uint8)
    picture[60:-60, 60:-60] = TISSUE
    planted = []
    for index, counts in enumerate(tiles):
        row, column = divmod(index, 2)
        blues = np.repeat(np.arange(len(counts)), counts)
        for number, label in enumerate(blues.tolist()):
            # Centres 40 px apart and far from the borders of the core; marks where no other window looks.
            red, green = 60 + 16 * (number % 10), 60 + 16 * (number // 10)
            top, left = row * CORE - HALO, column * CORE - HALO
            mark = top + (12 + number // 10) * STEP, left + (20 + number % 10) * STEP
            picture[mark] = (red, green, THREE_BLUES[label])
            planted.append((left + red * SPAN / 255, top + green * SPAN / 255, label))
    write_pyramid(path, picture, compression="deflate")
    return planted
