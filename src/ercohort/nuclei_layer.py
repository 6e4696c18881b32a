"""The nuclei of a slide as the pictures draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ercohort.canvas import RGB
from ercohort.geojson import class_colours
from ercohort.schema import class_index, class_names, positive_mask
from ercohort.strokes import draw_ellipses

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class NucleiLayer:
    """What is drawn of the nuclei.

    Attributes
    ----------
    boxes
        x0, y0, x1, y1, level-0 pixels of the slide frame, shape (n, 4).
    classes
        Class of each as an index into `labels`, shape (n,).
    labels
        Classes of the detector.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, nuclei: pl.DataFrame) -> NucleiLayer:
        """Take columns x0, y0, x1, y1 and label of a table of nuclei."""
        boxes = nuclei.select("x0", "y0", "x1", "y1").to_numpy().astype(np.float64)
        return cls(boxes, class_index(nuclei["label"]), class_names(nuclei.schema["label"]))

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """Whether each nucleus counts as positive, shape (n,)."""
        return positive_mask(self.labels)[self.classes]

    @property
    def colours(self) -> list[RGB]:
        """Of the classes, in their order."""
        return list(class_colours(self.labels).values())

    def outline(self, picture: Image.Image, window: tuple[int, int, int, int], *, width: float) -> None:
        """Outline the nuclei of a window (x, y, width, height, level-0 pixels) in its picture."""
        scale = np.array([picture.width / window[2], picture.height / window[3]] * 2)
        local = (self.boxes - np.array([*window[:2], *window[:2]])) * scale
        seen = (local[:, 2:] > 0).all(axis=1) & (local[:, :2] < picture.size).all(axis=1)
        draw_ellipses(picture, local[seen], self.classes[seen], self.colours, width=width)
