"""The network in bfloat16 on the CPU: half the time of a step on CPUs with AMX or AVX-512 bf16.

Imported only while training, since its base class belongs to the `train` extra.
"""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel


class MixedPrecisionModel(DetectionModel):
    """A detection model whose training pass runs in bfloat16; the loss stays in float32."""

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network; the result is float32 throughout."""
        if not self.training:
            return super().predict(x, *args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = super().predict(x.contiguous(memory_format=torch.channels_last), *args, **kwargs)
        return _to_float32(result)


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_float32(item) for item in value)
    return value
