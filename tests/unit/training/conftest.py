"""A stand-in for the outlined H&E tiles (pink ground, violet discs, their polygons), and a small training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ercohort.config import Config
from tests.unit.training.sets import write_set

SIZE = 512
EXTRA = "needs the `train` extra: pip install 'ercohort[train]'"
MODEL = Path(__file__).parents[3] / "models" / "er-yolov8n.onnx"


def _write_tile(folder, name, rng):
    image = Image.new("RGB", (SIZE, SIZE), (230, 160, 200))
    draw = ImageDraw.Draw(image)
    phi = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    lines = []
    for y in range(40, SIZE, 60):
        for x in range(40, SIZE, 60):
            a, b = rng.uniform(12.0, 20.0, 2)
            outline = np.stack([x + a * np.cos(phi), y + b * np.sin(phi)], 1)
            draw.polygon([tuple(point) for point in outline], fill=(90, 50, 150))
            lines.append("0 " + " ".join(f"{value / SIZE:.6f}" for value in outline.ravel()))
    image.save(folder / f"{name}.jpg", quality=95)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def outlined(tmp_path_factory):
    """Return a folder with three outlined tiles."""
    folder = tmp_path_factory.mktemp("outlined")
    rng = np.random.default_rng(1)
    for k in range(3):
        _write_tile(folder, f"organ_{k}", rng)
    return folder


@pytest.fixture(scope="session")
def extra():
    """Skip, saying so, where the packages for training are not installed; else return torch."""
    pytest.importorskip("ultralytics", reason=EXTRA)
    torch = pytest.importorskip("torch", reason=EXTRA)
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), train=6, val=3, recipe={"mpp": 0.4})


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data, extra):
    """Folder of a finished training that started from the shipped detector."""
    from ercohort.steps.train import train_detector

    folder = tmp_path_factory.mktemp("trained")
    config = Config(train={"base": str(MODEL), "epochs": 2, "batch": 3})
    assert train_detector(config=config, data=[data], folder=folder) == folder / "detector.pt"
    return folder
