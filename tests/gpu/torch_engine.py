"""A detector's FP16 file run by torch, where TensorRT is absent: the same `Context`, for tests only.

The ONNX graph is carried out node by node. What depends on the input's shape alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 10: torch.float16}
_ONE_TO_ONE: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Div": torch.div,
    "Mul": torch.mul,
    "Sigmoid": torch.sigmoid,
    "Sub": torch.sub,
    "Expand": lambda x, shape: x.broadcast_to(torch.broadcast_shapes(tuple(x.shape), tuple(shape.tolist()))),
    "Range": lambda start, end, step: torch.arange(int(start), int(end), int(step)),
    "Shape": lambda x: torch.tensor(x.shape),
}


class TorchNetwork:
    """An ONNX detector of fixed shape.

    Parameters
    ----------
    path
        The ONNX file.
    device
        Of torch, such as `cuda`.
    """

    def __init__(self, path: Path, device: str) -> None:
        graph = onnx.load(path).graph
        self.device = torch.device(device)
        self.source, self.result = graph.input[0].name, graph.output[0].name
        self.weights = {
            item.name: self._place(torch.from_numpy(numpy_helper.to_array(item).copy()))
            for item in graph.initializer
        }
        self.nodes = _in_order(graph)
        self.fixed: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Return the head of (n, 3, side, side) tiles; n and side have to be those of the first call."""
        values = {**self.weights, **self.fixed, self.source: image}
        changing = {self.source}
        for node in self.nodes:
            if node.output[0] in self.fixed:
                continue
            results = self._carry_out(node, [values.get(name) for name in node.input])
            values.update(zip(node.output, results, strict=True))
            if changing.intersection(node.input) and node.op_type != "Shape":
                changing.update(node.output)
            else:
                self.fixed.update(zip(node.output, results, strict=True))
        return values[self.result]

    def _carry_out(self, node: Any, inputs: list[Any]) -> list[torch.Tensor]:
        options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Split":
            sizes = inputs[1].tolist() if len(inputs) > 1 else len(node.output)
            return list(torch.split(inputs[0], sizes, dim=options.get("axis", 0)))
        if node.op_type in _ONE_TO_ONE:
            return [self._place(_ONE_TO_ONE[node.op_type](*inputs))]
        return [self._place(getattr(self, f"_{node.op_type.lower()}")(*inputs, **options))]

    def _place(self, value: torch.Tensor) -> torch.Tensor:
        """Sizes stay on the CPU, where asking for them costs nothing."""
        return value.to(self.device) if value.is_floating_point() else value.cpu()

    def _conv(self, x: Any, weight: Any, bias: Any = None, **options: Any) -> torch.Tensor:
        pads = options.get("pads", [0, 0, 0, 0])
        assert pads[:2] == pads[2:], "padding on one side"
        return functional.conv2d(
            x, weight, bias, options.get("strides", 1), pads[:2], groups=options.get("group", 1)
        )

    def _maxpool(self, x: Any, **options: Any) -> torch.Tensor:
        return functional.max_pool2d(x, options["kernel_shape"], options["strides"], options["pads"][:2])

    def _resize(self, x: Any, _: Any, scales: Any, **options: Any) -> torch.Tensor:
        assert options["mode"] == b"nearest"
        return functional.interpolate(x, scale_factor=scales[2:].tolist(), mode="nearest")

    def _concat(self, *inputs: Any, axis: int) -> torch.Tensor:
        return torch.cat(inputs, axis)

    def _reshape(self, x: Any, shape: Any, **_: Any) -> torch.Tensor:
        return x.reshape([x.shape[k] if size == 0 else size for k, size in enumerate(shape.tolist())])

    def _transpose(self, x: Any, perm: list[int]) -> torch.Tensor:
        return x.permute(perm)

    def _softmax(self, x: Any, axis: int) -> torch.Tensor:
        return torch.softmax(x, axis)

    def _cast(self, x: Any, to: int) -> torch.Tensor:
        return x.to(_TYPES[to])

    def _gather(self, x: Any, index: Any, axis: int = 0) -> torch.Tensor:
        return torch.from_numpy(np.asarray(np.take(x.numpy(), index.numpy(), axis)))

    def _unsqueeze(self, x: Any, axes: Any) -> torch.Tensor:
        for axis in sorted(axes.tolist()):
            x = x.unsqueeze(axis)
        return x

    def _constantofshape(self, shape: Any, value: Any) -> torch.Tensor:
        return torch.full(shape.tolist(), numpy_helper.to_array(value).item())

    def _slice(self, x: Any, starts: Any, ends: Any, axes: Any) -> torch.Tensor:
        for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
            x = x.narrow(axis, start, min(end, x.shape[axis]) - start)
        return x


class TorchContext:
    """Implements `ercohort.gpu.device.Context` on a stream of a CUDA device.

    Parameters
    ----------
    stream
        Handle of the stream.
    shape
        Of the input, which is float32: (n, 3, side, side).
    """

    def __init__(self, path: Path, stream: int, shape: tuple[int, int, int, int]) -> None:
        self.network = TorchNetwork(path, "cuda")
        self.stream = torch.cuda.ExternalStream(stream)
        self.shape = shape
        with torch.cuda.stream(self.stream):
            self.head_shape = tuple(self.network.run(torch.zeros(shape, device="cuda")).shape)
        self.stream.synchronize()

    def enqueue(self, source: int, result: int) -> None:
        """Run the network from one device address to another."""
        with torch.cuda.stream(self.stream):
            _at(result, self.head_shape).copy_(self.network.run(_at(source, self.shape)))

    def close(self) -> None:
        """Nothing is held that torch would not give back."""


class _Memory:
    """Device memory that another library allocated, as torch reads it."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "<f4", "data": (address, False), "version": 3, "stream": None,
        }  # fmt: skip


def _at(address: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.as_tensor(_Memory(address, shape), device="cuda")


def _in_order(graph: Any) -> list[Any]:
    """Sort the nodes so that each comes after those that it reads."""
    known = {item.name for item in graph.initializer} | {graph.input[0].name, ""}
    left, ordered = list(graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        assert ready, "the graph has a loop"
        ordered += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if not known.issuperset(node.output)]
    return ordered
