"""Making detectors: training tiles, YOLO training, ONNX files.

Only this package may import torch and ultralytics (the `train` extra), and only when training or export
starts: importing `ercohort.training` needs neither.
"""

from ercohort.training.dataset import DatasetRecipe, build_dataset
from ercohort.training.export import export_all
from ercohort.training.tile_sets import TileSets, read_tile_sets
from ercohort.training.trainer import TrainSettings, train

__all__ = [
    "DatasetRecipe",
    "TileSets",
    "TrainSettings",
    "build_dataset",
    "export_all",
    "read_tile_sets",
    "train",
]
