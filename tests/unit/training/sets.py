"""Small YOLO sets of simulated tiles, as `snakemake dataset` lays them out."""

import json

import yaml
from PIL import Image

from ercohort.schema import LABELS
from ercohort.simulate import simulate_tile
from ercohort.training.dataset import yolo_lines

SIDE = 128


def write_set(folder, *, train=6, val=3, names=LABELS, seed=0, recipe=None):
    """Write simulated tiles and their boxes; return `data.yaml`."""
    number = seed
    splits = {}
    for split, count in (("train", train), ("val", val)):
        if not count:
            continue
        splits[split] = f"images/{split}"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            tile = simulate_tile(888_000 + number, size=SIDE, scale_jitter=0.0)
            Image.fromarray(tile.image).save(folder / "images" / split / f"tile_{number:03d}.png")
            (folder / "labels" / split / f"tile_{number:03d}.txt").write_text(yolo_lines(tile))
            number += 1
    (folder / "data.yaml").write_text(yaml.safe_dump({**splits, "names": dict(enumerate(names))}))
    if recipe is not None:
        (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder / "data.yaml"
