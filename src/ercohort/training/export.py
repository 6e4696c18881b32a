"""From a training checkpoint to the ONNX files that the workflow runs."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ercohort.config import DetectSettings, ExportSettings
from ercohort.errors import ModelError
from ercohort.files import write_json
from ercohort.training.checkpoint import Training, class_names, read_checkpoint, training_of
from ercohort.training.metadata import save_detector
from ercohort.training.packages import prepare_ultralytics, require_training_packages
from ercohort.training.parity import LEAST_F1, LEAST_F1_INT8, Parity, compare
from ercohort.training.tile_sets import TileSets, read_tile, to_grid

LOGGER = logging.getLogger("ercohort")

MODEL_LICENCE = "AGPL-3.0-or-later"
PARITY_TILES = 200
"""At most this many tiles are compared, evenly from all."""
_OPSET = 17


def config_hash(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the configuration as sorted JSON."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def export_all(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    settings: ExportSettings,
    detect: DetectSettings,
    sets: TileSets,
) -> dict[str, Any]:
    """Write the detector in float32, FP16 and, if it agrees, int8, each compared with the trained network.

    The files get their names only after all comparisons. int8 that does not agree is not written, and an
    older file of its name is removed.

    Parameters
    ----------
    folder
        Gets `<name>.onnx`, `<name>-fp16.onnx`, `<name>-int8.onnx` (if it agrees) and `parity.json`.
    detect
        Operating point and NMS of the comparison.
    sets
        Its validation tiles are compared on, or those for training if there are none; its training tiles set
        the int8 ranges.

    Returns
    -------
    What `parity.json` holds.

    Raises
    ------
    BackendError
        torch, ultralytics or onnx is not installed.
    ModelError
        The checkpoint is missing, cut short, of other classes or another scale than the tiles, or its
        float32 or FP16 file does not find what the trained network finds.
    """
    require_training_packages()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # In the folder itself, so that the files only have to be renamed.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        work = Path(name)
        prepare_ultralytics(work)
        source = _Source.read(checkpoint)
        source.check(sets)
        made = _make_files(source, work, settings, sets)
        parities, refused = _compare_files(source, made, sets, detect)
        report = _report(source, parities, refused, settings)
        for path in (folder / f"{settings.name}-int8.onnx", folder / "parity.json"):
            path.unlink(missing_ok=True)
        for path in made:
            if path.name not in refused:
                path.chmod(0o644)
                path.replace(folder / path.name)
    write_json(folder / "parity.json", report)
    return report


@dataclass(frozen=True)
class _Source:
    """The checkpoint and what it says about itself."""

    path: Path
    model: Any
    names: tuple[str, ...]
    training: Training

    @classmethod
    def read(cls, path: str | Path) -> _Source:
        model, _ = read_checkpoint(path)
        return cls(Path(path), model, class_names(model), training_of(model))

    def check(self, sets: TileSets) -> None:
        if self.names != sets.names:
            raise ModelError(
                f"{self.path}: its classes are {', '.join(self.names)}, those of the tiles "
                f"{', '.join(sets.names)}; train again on these tiles"
            )
        if self.training.mpp != sets.mpp:
            raise ModelError(
                f"{self.path}: was trained at {self.training.mpp:g} µm per pixel, the tiles have "
                f"{sets.mpp:g}; train again on these tiles"
            )

    def metadata(self, settings: ExportSettings) -> dict[str, str]:
        config = self.training.config or {}
        rate = settings.false_positive_percent
        return {
            "name": settings.name,
            "version": settings.version,
            "task": "detect",
            "names": repr(dict(enumerate(self.names))),
            "mpp": f"{self.training.mpp:g}",
            "tile_px": str(self.training.tile_px),
            "stride": "32",
            **({} if rate is None else {"false_positive_percent": f"{rate:g}"}),
            "training_config_sha256": config_hash(config),
            "training_config": json.dumps(config, sort_keys=True),
            "licence": MODEL_LICENCE,
            "author": "ercohort",
            "description": f"Detects nuclei of the classes {', '.join(self.names)}. "
            "Not validated for diagnosis. Research use only.",
        }


def _export_raw(checkpoint: str | Path, folder: Path, tile_px: int) -> Path:
    from ultralytics import YOLO

    copy = shutil.copy(checkpoint, folder / "model.pt")  # ultralytics writes beside the checkpoint
    return Path(
        YOLO(copy).export(
            format="onnx", dynamic=True, simplify=True, opset=_OPSET, imgsz=tile_px, device="cpu"
        )
    )


def _make_files(source: _Source, work: Path, settings: ExportSettings, sets: TileSets) -> list[Path]:
    """Write float32, FP16 and, if asked for, int8 files under `work`."""
    import onnx

    from ercohort.training.half import to_half
    from ercohort.training.quantise import write_int8

    metadata = source.metadata(settings)
    raw = _export_raw(source.path, work, source.training.tile_px)
    full, half, int8 = (work / f"{settings.name}{suffix}.onnx" for suffix in ("", "-fp16", "-int8"))
    save_detector(raw, full, metadata)
    # A GPU runs the FP16 file in place of the float32 one: this says that both are one detector.
    metadata["source_sha256"] = hashlib.sha256(full.read_bytes()).hexdigest()
    save_detector(to_half(onnx.load(str(full))), half, metadata)
    if not settings.int8:
        return [full, half]
    LOGGER.info("calibrating int8 on %d tiles", min(settings.calibration_tiles, len(sets.train)))
    write_int8(full, int8, _spread(sets.train, settings.calibration_tiles))
    return [full, half, int8]


def _compare_files(
    source: _Source, made: list[Path], sets: TileSets, detect: DetectSettings
) -> tuple[list[Parity], dict[str, str]]:
    """Compare each file as it will be run; return what is not offered and why.

    Raises
    ------
    ModelError
        A float32 or FP16 file does not agree in float32.
    """
    from ercohort.backends.openvino import inspect_cpu
    from ercohort.training.validation import detect as detect_by_torch

    tiles = _same_size(_spread(sets.val or sets.train, PARITY_TILES))
    reference = detect_by_torch(source.model, tiles, score=detect.score, nms_iou=detect.nms_iou)
    operating_point = DetectSettings(score=detect.score, nms_iou=detect.nms_iou)
    runs = [(made[0], "f32", LEAST_F1), (made[1], "f32", LEAST_F1)]
    runs += [(made[0], "bf16", LEAST_F1)] if inspect_cpu("auto").precision == "bf16" else []
    runs += [(path, "f32", LEAST_F1_INT8) for path in made[2:]]  # the layers around the int8 ones
    parities, refused = [], {}
    for path, precision, least in runs:
        parity = compare(path, tiles, reference, precision=precision, detect=operating_point, least_f1=least)
        LOGGER.info("%s", parity.line())
        parities.append(parity)
        if path in made[2:] and (parity.matched_f1 is None or not parity.holds):
            refused[path.name] = f"not offered: {parity.line()}"
        elif not parity.holds and precision == "f32":
            raise ModelError(f"{source.path}: {parity.line()}; nothing was written; train longer")
        elif not parity.holds:
            LOGGER.warning("%s does not agree in %s: set `precision: f32`", path.name, precision)
    if not parities[0].n_torch:
        LOGGER.warning("%s finds no nucleus above %g on %d tiles: nothing was compared; train longer",
                       source.path, detect.score, len(tiles))  # fmt: skip
    return parities, refused


def _report(
    source: _Source, parities: list[Parity], refused: dict[str, str], settings: ExportSettings
) -> dict[str, Any]:
    for reason in refused.values():
        LOGGER.warning("%s", reason)
    return {
        "checkpoint": source.path.name,
        "name": settings.name,
        "version": settings.version,
        "classes": list(source.names),
        "compared": [asdict(parity) | {"holds": parity.holds} for parity in parities],
        "not_offered": refused,
    }


def _spread(pictures: tuple[Path, ...], count: int) -> list[NDArray[np.uint8]]:
    """Read at most `count` tiles, evenly from all."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int))
    return [to_grid(read_tile(pictures[k])) for k in chosen]


def _same_size(tiles: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Pad all tiles with white to the side of the largest."""
    side = max(tile.shape[0] for tile in tiles)
    padding = [((0, side - tile.shape[0]), (0, side - tile.shape[0]), (0, 0)) for tile in tiles]
    return [np.pad(tile, pad, constant_values=255) for tile, pad in zip(tiles, padding, strict=True)]
