"""Making the default detector: training tiles, YOLO training and ONNX export.

Only this package may import torch and ultralytics (the `train` extra), and only when training or export
starts: importing `ercohort.training` needs neither.
"""

from ercohort.training.dataset import DatasetRecipe, build_dataset
from ercohort.training.export import export
from ercohort.training.recipe import train_default_model
from ercohort.training.trainer import TrainSettings, train

__all__ = ["DatasetRecipe", "TrainSettings", "build_dataset", "export", "train", "train_default_model"]
