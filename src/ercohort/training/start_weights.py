"""Starting from a detector that was shipped as ONNX, so that no checkpoint has to be shipped or trusted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.errors import ModelError
from ercohort.model import ModelInfo, read_model

LOGGER = logging.getLogger("ercohort")

_HEAD = ".cv3."  # the branch of the head that scores the classes
_LAST = ".2"  # and its last layer, one row per class


def start_weights(
    base: str | Path, network: str, names: Sequence[str], tiles: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """Turn the weights of an ONNX detector into those of an ultralytics model that can go on training.

    Export folds every batch normalisation into the convolution before it. Here each one is opened again: with
    the mean m and the variance v of the convolution's output on some training tiles, its statistics become m
    and v, its scale sqrt(v + eps) and its shift b + m, where b is the folded bias. The model computes what
    the file computes, in evaluation mode exactly and in training mode nearly; with the identity (m = 0,
    v = 1) the first training step would rescale every layer.

    Parameters
    ----------
    base
        The detector, an ONNX file as `export` writes it, float32 or FP16.
    network
        Its network, such as "yolov8n".
    names
        Classes of the new model. Those that the file has too keep their weights; others start afresh.
    tiles
        Training tiles, (side, side, 3) uint8 RGB each, that the statistics are measured on.

    Returns
    -------
    The state of the model, to be loaded with `load_state_dict`.

    Raises
    ------
    ModelError
        The file is no detector, or of another network.
    """
    import torch
    from ultralytics.nn.tasks import DetectionModel

    info = read_model(base)
    arrays = _initializers(info)
    model = DetectionModel(f"{network}.yaml", nc=len(names), verbose=False).float().eval()
    model.fuse(verbose=False)
    state = model.state_dict()
    fresh = {name: state[name].numpy() for name in state}
    rows = _class_rows(info.labels, names)
    for name, target in fresh.items():
        if name.endswith((".weight", ".bias")) and ".dfl." not in name:
            source = _source(arrays, name, target.shape, info, network)
            if _is_class_layer(name):
                source = np.stack([target[k] if row is None else source[row] for k, row in enumerate(rows)])
            state[name] = torch.from_numpy(np.array(source, np.float32))
    opened = DetectionModel(f"{network}.yaml", nc=len(names), verbose=False).float().eval()
    _open_batch_norms(opened, state)
    _measure_batch_norms(opened, tiles)
    _report(base, info.labels, names, rows)
    return {name: value.clone() for name, value in opened.state_dict().items()}


def _initializers(info: ModelInfo) -> dict[str, NDArray[np.float32]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(info.path).graph
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        raise ModelError(f"{info.path}: is int8, which training cannot start from; use its float32 twin")
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def _source(
    arrays: dict[str, NDArray[np.float32]], name: str, shape: tuple[int, ...], info: ModelInfo, network: str
) -> NDArray[np.float32]:
    found = arrays.get(name)
    wanted = (len(info.labels), *shape[1:]) if _is_class_layer(name) else shape
    if found is None or found.shape != wanted:
        raise ModelError(
            f"{info.path}: its network is not {network}; set `train.network` to the file's own, "
            "or `train.base` to null to train from scratch"
        )
    return found


def _is_class_layer(name: str) -> bool:
    return _HEAD in name and name.rsplit(".", 1)[0].endswith(_LAST)


def _class_rows(old: Sequence[str], new: Sequence[str]) -> list[int | None]:
    """Return for each new class its row in the old head, None for one that the head does not know."""
    return [old.index(name) if name in old else None for name in new]


def _open_batch_norms(model: Any, fused: dict[str, Any]) -> None:
    """Load fused weights; every batch normalisation becomes the identity plus the folded bias."""
    state = model.state_dict()
    for name, value in fused.items():
        if name in state:
            state[name] = value
    model.load_state_dict(state)
    for name, module in _batch_norms(model):
        module.running_mean.zero_()
        module.running_var.fill_(1.0)
        module.weight.data.fill_(float(np.sqrt(1.0 + module.eps)))
        module.bias.data.copy_(fused[f"{name.removesuffix('bn')}conv.bias"])


def _batch_norms(model: Any) -> list[tuple[str, Any]]:
    import torch

    return [pair for pair in model.named_modules() if isinstance(pair[1], torch.nn.BatchNorm2d)]


def _measure_batch_norms(model: Any, tiles: Sequence[NDArray[np.uint8]]) -> None:
    """Replace each identity by the statistics that its layer shows on the tiles, with the same result."""
    import torch

    sums: dict[Any, Any] = {}

    def gather(module: Any, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].double()
        new = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        count = values.numel() // values.shape[1]
        total, n = sums.get(module, (torch.zeros_like(new), 0))
        sums[module] = (total + new, n + count)

    hooks = [module.register_forward_pre_hook(gather) for _, module in _batch_norms(model)]
    with torch.no_grad():
        for tile in tiles:
            model(torch.from_numpy(tile.transpose(2, 0, 1)[None].astype(np.float32) / 255))
    for hook in hooks:
        hook.remove()
    for module, ((total, square), count) in sums.items():
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=1e-6)
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
        module.weight.data.copy_((variance + module.eps).sqrt())
        module.bias.data.add_(mean)


def _report(base: str | Path, old: Sequence[str], new: Sequence[str], rows: Sequence[int | None]) -> None:
    if tuple(old) == tuple(new):
        LOGGER.info("starting from %s with its classes %s", base, ", ".join(new))
        return
    kept = [name for name, row in zip(new, rows, strict=True) if row is not None]
    fresh = [name for name, row in zip(new, rows, strict=True) if row is None]
    LOGGER.info(
        "starting from %s, whose classes are %s: %s keep their weights, %s start afresh",
        base, ", ".join(old), ", ".join(kept) or "none", ", ".join(fresh) or "none",
    )  # fmt: skip
