"""A cure for `operator torchvision::nms does not exist`.

The torchvision wheel beside a CPU build of torch cannot load its compiled operators, and ultralytics imports
it to train. Registering the two operators that torchvision looks for, one of them with ultralytics' own NMS
in plain torch, lets both import (pytorch/vision issue 9077).
"""

from __future__ import annotations

import importlib
from typing import Any

_registered: list[Any] = []


def make_torchvision_importable() -> None:
    """Register the missing operators once; does nothing where torchvision works by itself."""
    from torch import library as operators

    if _registered:
        return
    try:
        importlib.import_module("torchvision")
        return
    except (RuntimeError, OSError):
        pass
    library = operators.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _registered.append(library)  # torch forgets the operators with the library object
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    from ultralytics.utils.nms import TorchNMS

    return TorchNMS.nms(boxes, scores, iou_threshold)
