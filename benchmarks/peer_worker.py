"""One other tool on one picture: runs in the peers' own environment and needs nothing of ercohort.

`python peer_worker.py TOOL ARGUMENTS` writes the boxes that it counts, and prints time and memory as JSON.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

TILE = 640
MANY = 10_000
"""Boxes allowed in a picture; the default of Ultralytics is 300, without a word when there are more."""


def sahi(
    picture: np.ndarray, model: str, score: float, nms_iou: float, max_det: int, overlap: int
) -> np.ndarray:
    """Count by SAHI's sliced prediction, its defaults where nothing else is said."""
    from sahi import AutoDetectionModel
    from sahi.predict import get_sliced_prediction

    detector = AutoDetectionModel.from_pretrained(
        "ultralytics", model_path=model, confidence_threshold=score, device="cpu", image_size=TILE
    )
    detector.model.overrides.update(max_det=max_det, iou=nms_iou)
    found = get_sliced_prediction(
        picture, detector, slice_height=TILE, slice_width=TILE, overlap_height_ratio=overlap / TILE,
        overlap_width_ratio=overlap / TILE, perform_standard_pred=False, verbose=0,
    )  # fmt: skip
    return np.array([item.bbox.to_xyxy() for item in found.object_prediction_list]).reshape(-1, 4)


def ultralytics(
    picture: np.ndarray, model: str, score: float, nms_iou: float, max_det: int, overlap: int
) -> np.ndarray:
    """Count on crops, one after the other, and add up."""
    from ultralytics import YOLO

    detector, step, found = YOLO(model, task="detect"), TILE - overlap, []
    height, width = picture.shape[:2]
    for y in range(0, height, step):
        for x in range(0, width, step):
            crop = np.ascontiguousarray(picture[y : y + TILE, x : x + TILE, ::-1])
            result = detector.predict(
                crop, imgsz=TILE, conf=score, iou=nms_iou, max_det=max_det, device="cpu", verbose=False
            )[0]
            found.append(result.boxes.xyxy.numpy() + np.array([x, y, x, y]))
    return np.concatenate(found)


def mend_torchvision() -> None:
    """Let a torchvision that cannot load its compiled operators be imported, as training does."""
    cure = Path(__file__).parents[1] / "src/ercohort/training/torchvision_cure.py"
    runpy.run_path(str(cure))["make_torchvision_importable"]()


def main() -> None:
    """Time from opening the picture to its boxes; imports and the compiling of nothing count."""
    tool, given = sys.argv[1:]
    arguments = json.loads(given)
    slide, out = arguments.pop("slide"), arguments.pop("out")
    count = {"sahi": sahi, "ultralytics": ultralytics}[tool]
    mend_torchvision()
    __import__(tool)
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    Image.MAX_IMAGE_PIXELS = None
    begun = perf_counter()
    picture = np.asarray(Image.open(slide).convert("RGB"))
    boxes = count(picture, **arguments)
    seconds = perf_counter() - begun
    np.save(out, boxes)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak_mb": peak * 1024 / 1e6}))


if __name__ == "__main__":
    main()
