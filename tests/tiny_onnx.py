"""Tiny ONNX detectors whose output is a known function of the pixels, without a trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STEP = 8
"""The tiny detector has one anchor for every STEP x STEP pixels; it looks at the upper left one of them."""
SIDE = 16.0
"""Side of its boxes, pixels."""
SPAN = 640.0
"""Red 255 puts a box's centre at x = SPAN, green at y = SPAN."""
GOOD_METADATA = {"names": "{0: 'Positive', 1: 'Negative'}", "mpp": "0.5", "tile_px": "128", "version": "3"}


def write_detector(
    path: Path,
    *,
    metadata: dict[str, str] | None = None,
    shape: tuple[int | str, ...] = ("batch", 3, "height", "width"),
    output: tuple[int | str, ...] = ("batch", 6, "anchors"),
    n_outputs: int = 1,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a detector with a YOLO head: centre (SPAN*R, SPAN*G), size SIDE, P = 1 - 2B, N = 0.8 - 0.8B."""
    weight = np.zeros((6, 3, 1, 1), np.float32)
    weight[0, 0] = weight[1, 1] = SPAN
    weight[4, 2], weight[5, 2] = -2.0, -0.8
    bias = np.array([0, 0, SIDE, SIDE, 1.0, 0.8], np.float32)
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
            numpy_helper.from_array(np.array([0, 6, -1], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, GOOD_METADATA if metadata is None else metadata)
    onnx.save(model, path)
    return path


def paint(image: np.ndarray, anchor: tuple[int, int], centre: tuple[int, int], blue: int) -> None:
    """Make the anchor (row, column) see a nucleus at SPAN/255 * centre (x, y); blue below 50 is positive."""
    image[anchor[0] * STEP, anchor[1] * STEP] = (*centre, blue)
