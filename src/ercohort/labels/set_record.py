"""What a training set was made of: counts for a person, the recipe for its next maker."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ercohort import __version__
from ercohort.config import Config
from ercohort.files import write_json
from ercohort.inert import safe_text
from ercohort.labels.annotations import SlideLabels, in_regions
from ercohort.labels.splits import SPLITS
from ercohort.labels.training_tiles import Window
from ercohort.schema import CLASS_COUNT
from ercohort.slide import SlideInfo


@dataclass
class LabelledSlide:
    """One labelled slide and its part in the set.

    Parameters
    ----------
    slide_id, group
        Its row of the sheet, and what is kept together with it.
    file, labels
        The file of labels and what it says.
    info
        The slide as it was opened.
    windows
        Where its tiles lie.
    split
        Where its tiles go.
    n_boxes
        Boxes of each class on its tiles, once they are cut.
    """

    slide_id: str
    group: str
    file: Path
    info: SlideInfo
    labels: SlideLabels
    windows: list[Window]
    split: str = "train"
    n_boxes: dict[str, int] = field(default_factory=dict)

    def counts(self, names: tuple[str, ...]) -> list[int]:
        """Nuclei of each class."""
        return [int((self.labels.labels == name).sum()) for name in names]


def counts_by_split(slides: list[LabelledSlide], names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Count the nuclei of each class in each split that has slides."""
    result = {}
    for split in SPLITS:
        mine = [slide.counts(names) for slide in slides if slide.split == split]
        if mine:
            result[split] = dict(zip(names, np.sum(mine, axis=0).tolist(), strict=True))
    return result


def write_counts(folder: Path, slides: list[LabelledSlide], names: tuple[str, ...]) -> None:
    """Write nuclei by slide, split and class; a nucleus that is on two tiles counts once."""
    rows = []
    for slide in slides:
        labels = slide.labels
        sides = (labels.regions[:, 2:] - labels.regions[:, :2]) * slide.info.mpp / 1000
        rows.append({
            "split": slide.split,
            "group": slide.group,
            "slide_id": slide.slide_id,
            "regions": len(labels.regions),
            "area_mm2": round(float(sides.prod(axis=1).sum()), 4),
            "tiles": len(slide.windows),
            **{CLASS_COUNT + name: n for name, n in zip(names, slide.counts(names), strict=True)},
            "points": int(labels.is_point.sum()),
            "ignored": int(in_regions(labels.ignored, labels.regions).any(axis=1).sum()),
            "outside": labels.n_outside,
        })  # fmt: skip
    with open(folder / "counts.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({**row, "group": safe_text(str(row["group"]))} for row in rows)
    splits = {}
    for split, nuclei in counts_by_split(slides, names).items():
        mine = [slide for slide in slides if slide.split == split]
        splits[split] = {
            "slides": len(mine),
            "tiles": sum(len(slide.windows) for slide in mine),
            "nuclei": nuclei,
            "boxes": {name: sum(slide.n_boxes[name] for slide in mine) for name in names},
        }
    write_json(folder / "counts.json", {"classes": list(names), "splits": splits, "slides": rows})


def write_recipe(folder: Path, slides: list[LabelledSlide], config: Config) -> None:
    """Write what the set was made of, and how."""
    write_json(
        folder / "recipe.json",
        {
            "version": __version__,
            "settings": config.dataset.model_dump(),
            "frame": config.geojson.frame,
            "groups": {slide.slide_id: slide.group for slide in slides},
            "splits": {slide.slide_id: slide.split for slide in slides},
            "labels": {
                slide.file.name: hashlib.sha256(slide.file.read_bytes()).hexdigest() for slide in slides
            },
            "mpp": {slide.slide_id: slide.info.mpp for slide in slides},
        },
    )
