"""An FP16 detector: half the size, and what a GPU runs fastest; the head's decoding stays in float32.

TensorRT 11 computes in the types that the file states, so FP16 has to be in the graph. Boxes come out of a
softmax over edge positions and products with the stride: in FP16 these would be off by up to half a pixel at
640 px, so everything after the last convolutions stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LARGEST = float(np.finfo(np.float16).max)
# Inputs that the ONNX standard wants in float32 whatever the data: region and scales of Resize.
_KEPT = {"Resize": (1, 2)}


def to_half(model: Any) -> Any:
    """Return a copy of an ONNX detector whose body is FP16, with float32 input and output.

    Parameters
    ----------
    model
        An `onnx.ModelProto` as ultralytics exports YOLOv8: convolutions, then the decoding of the head.
    """
    import onnx

    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    body = body_nodes(graph)
    renamed = _halve_weights(graph, body)
    fed = graph.input[0].name
    nodes = [_cast(fed, f"{fed}_half", onnx.TensorProto.FLOAT16)]
    renamed[fed] = f"{fed}_half"
    to_float: dict[str, str] = {}
    for node in graph.node:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        for place, name in enumerate(node.input):
            if node.output[0] in body:
                if place not in _KEPT.get(node.op_type, ()):
                    copy.input[place] = renamed.get(name, name)
            elif name in body and node.op_type != "Shape":
                if name not in to_float:
                    to_float[name] = f"{name}_float"
                    nodes.append(_cast(name, to_float[name], onnx.TensorProto.FLOAT))
                copy.input[place] = to_float[name]
        nodes.append(copy)
    used = {name for node in nodes for name in node.input}
    weights = [item for item in graph.initializer if item.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return half


def _halve_weights(graph: Any, body: set[str]) -> dict[str, str]:
    """Add FP16 twins of the float32 weights that the body reads; return their names by the originals'."""
    from onnx import TensorProto, numpy_helper

    read = {name for node in graph.node if node.output[0] in body for name in node.input}
    names = {}
    for item in list(graph.initializer):
        if item.name in read and item.data_type == TensorProto.FLOAT:
            names[item.name] = f"{item.name}_half"
            values = np.clip(numpy_helper.to_array(item), -_LARGEST, _LARGEST).astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(values, names[item.name]))
    return names


def _cast(name: str, output: str, kind: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [name], [output], name=f"{output}_cast", to=kind)


def body_nodes(graph: Any) -> set[str]:
    """Find the body: all convolutions but that of the head's softmax, and what feeds them.

    Returns
    -------
    Every output of the body's nodes.
    """
    producer = {name: node for node in graph.node for name in node.output}
    todo = [
        node.output[0] for node in graph.node if node.op_type == "Conv" and not _is_decoding(node, producer)
    ]
    body: set[str] = set()
    while todo:
        name = todo.pop()
        if name in producer and name not in body:
            body.update(producer[name].output)
            todo.extend(producer[name].input)
    return body


def last_convolutions(graph: Any) -> list[str]:
    """Names of the body's nodes whose result goes straight to the decoding: one per scale and branch."""
    body = body_nodes(graph)
    used = {name for node in graph.node if node.output[0] in body for name in node.input}
    return [node.name for node in graph.node if node.output[0] in body and not used.intersection(node.output)]


def _is_decoding(node: Any, producer: dict[str, Any]) -> bool:
    """Whether a convolution reads a softmax: the one that takes the mean over edge positions."""
    before = producer.get(node.input[0])
    while before is not None and before.op_type in ("Reshape", "Transpose"):
        before = producer.get(before.input[0])
    return before is not None and before.op_type == "Softmax"
