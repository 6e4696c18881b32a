"""An int8 detector by static calibration: convolutions between a quantise and a dequantise node (QDQ)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.model import twin_path
from ercohort.training.half import body_nodes, last_convolutions
from ercohort.training.metadata import metadata_of, save_detector

PERCENTILE = 99.999
"""Share of a layer's values that the 256 steps cover, in percent.

Over all values the steps would be coarser, for a few values far out: the first default detector then agreed
with float32 by a matched F1 of 0.994 instead of 0.996.
"""
_SIMULATED_TILES = 128
_FIRST_SEED = 70_000
"""Of the simulated tiles; no slide or tile that anything is measured on has such a seed."""

_AT_ONCE = 4  # tiles; the calibrator holds every layer's values of these in memory


def write_int8(model: Path, output: Path, tiles: Sequence[NDArray[np.uint8]]) -> None:
    """Write an int8 twin of a detector, which says what the detector says and which file it was made from.

    Weights are int8 by channel, activations uint8 by layer. In float32 stay the decoding of the head, the
    last convolutions, whose steps would show in the scores, and the first, which reads pixels.

    Parameters
    ----------
    tiles
        Tiles that set the ranges, (side, side, 3) uint8 RGB with sides in multiples of 32.
    """
    source = {"source_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    with tempfile.TemporaryDirectory() as folder:
        calibrated = Path(folder, "calibrated.onnx")
        _quantise(model, calibrated, tiles)
        save_detector(calibrated, output, metadata_of(model) | source)


def write_int8_by_simulated_tiles(model: str | os.PathLike[str]) -> Path:
    """Write `NAME-int8.onnx` beside a detector, with ranges from simulated tiles; return its path.

    For a detector whose training tiles are not at hand; `snakemake export` takes those.
    """
    from ercohort.simulate import simulate_tile

    output = twin_path(model, "int8")
    write_int8(Path(model), output, [simulate_tile(_FIRST_SEED + k).image for k in range(_SIMULATED_TILES)])
    return output


def _quantise(model: Path, output: Path, tiles: Sequence[NDArray[np.uint8]]) -> None:
    import onnx
    from onnxruntime import quantization as ort

    graph = onnx.load(str(model)).graph
    with _quiet():
        ort.quantize_static(
            str(model),
            str(output),
            _Reader(graph.input[0].name, tiles),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=_convolutions(graph),
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": _AT_ONCE},
        )


def _convolutions(graph: Any) -> list[str]:
    """Names of the body's convolutions but the first and the last ones."""
    body, last = body_nodes(graph), last_convolutions(graph)
    found = [node for node in graph.node if node.op_type == "Conv" and node.output[0] in body]
    return [node.name for node in found if node.name not in last and graph.input[0].name not in node.input]


class _Reader:
    """Hands tiles to onnxruntime's calibrator, in parts of `_AT_ONCE`."""

    def __init__(self, name: str, tiles: Sequence[NDArray[np.uint8]]) -> None:
        self._name = name
        self._tiles = [tiles[k % len(tiles)] for k in range(-(-len(tiles) // _AT_ONCE) * _AT_ONCE)]
        self._rest = iter(self._tiles)

    def __len__(self) -> int:
        return len(self._tiles)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._tiles[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tile = next(self._rest, None)
        if tile is None:
            return None
        return {self._name: tile.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)}


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep onnxruntime's remarks, which it prints and sends to the root logger, out of the log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
