"""Regions and their nuclei as a GeoJSON file to correct in QuPath.

A region is an annotation, a rectangle of QuPath's class ``Region*``; its nuclei are detections. QuPath lets a
person delete a detection or change its class, but not redraw it or draw a new one: what is missing is added
as an annotation (an ellipse or a point) of the nucleus's class. The import of corrected files takes both.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort import __version__
from ercohort.files import atomic_path
from ercohort.geojson import MEASUREMENTS, NOTICE, class_colours
from ercohort.schema import class_names

if TYPE_CHECKING:
    from ercohort.slide import SlideInfo

REGION_CLASS = "Region*"
"""Built into QuPath; the asterisk keeps it out of measurements (`PathClass.StandardPathClasses`)."""

_REGION_COLOUR = (0, 0, 180)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "ercohort prelabel")
_BOX = ("x0", "y0", "x1", "y1")
COLUMNS = (*_BOX, "score", "label", "dab_od", "hematoxylin_od")
"""What is known of a nucleus here."""

# QuPath refuses a file with a ring that is left without area on its grid of 0.01 px (see `ercohort.geojson`).
_MIN_SIDE_PX = 0.1


def write_regions(
    output: str | os.PathLike[str],
    regions: NDArray[np.int64],
    nuclei: pl.DataFrame,
    *,
    slide_id: str,
    info: SlideInfo | None,
    frame: Literal["qupath", "slide"],
    made: dict[str, Any],
) -> int:
    """Write regions and the nuclei whose centre they hold as plain `.geojson`; equal input, equal bytes.

    Parameters
    ----------
    output
        File to write, `.geojson`.
    regions
        (R, 4) x0, y0, x1, y1, level-0 pixels of the slide frame; none overlap.
    nuclei
        `COLUMNS` of `schema.NUCLEI`, the same pixels. Each belongs to a region by its centre, and keeps its
        whole box; those outside all regions are left out.
    slide_id
        Part of every object's id: a second import of the same objects is noticed by QuPath.
    info
        Size and bounds of the slide; None for a slide that could not be opened, which has no regions.
    frame
        Origin of the coordinates: QuPath's (the bounds' corner) or the slide's.
    made
        How the labels were made, kept beside the objects; QuPath ignores it.

    Returns
    -------
    int
        Objects written, regions and nuclei.
    """
    shift = np.array(info.bounds[:2] if info and frame == "qupath" else (0, 0))
    of = region_of(nuclei, regions)
    nuclei = (
        nuclei.with_columns(pl.Series("of", of)).filter(pl.col("of") >= 0).sort("of", maintain_order=True)
    )
    objects = [*_regions(regions - np.tile(shift, 2), slide_id), *_nuclei(nuclei, shift, slide_id)]
    head = {
        "type": "FeatureCollection",
        "generator": f"ercohort {__version__}",
        "notice": NOTICE,
        "slide_id": slide_id,
        "coordinate_frame": _frame(info, frame),
        "prelabel": made,
    }
    text = json.dumps(head, separators=(",", ":"), allow_nan=False)
    lines = ",\n".join(json.dumps(item, separators=(",", ":"), allow_nan=False) for item in objects)
    with atomic_path(output) as temporary:
        temporary.write_text(f'{text[:-1]},"features":[\n{lines}\n]}}\n', encoding="utf-8")
    return len(objects)


def region_of(nuclei: pl.DataFrame, regions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the region that holds each nucleus's centre, -1 for none; (N,).

    A region is half open: a centre on the border of two belongs to the right or lower one.
    """
    boxes = nuclei.select(_BOX).to_numpy().astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    of = np.full(len(centres), -1)
    for index, region in enumerate(regions):
        of[((centres >= region[:2]) & (centres < region[2:])).all(axis=1)] = index
    return of


def _frame(info: SlideInfo | None, frame: str) -> dict[str, Any]:
    x, y, width, height = info.bounds if info else (0, 0, 0, 0)
    if info and frame == "slide":
        width, height = info.width, info.height
    return {"origin": frame, "bounds_x": x, "bounds_y": y, "width": width, "height": height}


def _regions(regions: NDArray[np.int64], slide_id: str) -> Iterator[dict[str, Any]]:
    for number, box in enumerate(regions.tolist(), start=1):
        properties = {
            "objectType": "annotation",
            "name": f"region {number}",
            "classification": {"name": REGION_CLASS, "color": _REGION_COLOUR},
        }
        yield _feature(f"{slide_id} region {box}", box, {}, properties)


def _nuclei(nuclei: pl.DataFrame, shift: NDArray[np.int64], slide_id: str) -> Iterator[dict[str, Any]]:
    boxes = nuclei.select(_BOX).to_numpy().astype(np.float64) - np.tile(shift, 2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + _MIN_SIDE_PX)
    colours = class_colours(class_names(nuclei.schema["label"]))
    seen: Counter[tuple[float, ...]] = Counter()
    columns = nuclei.select(pl.col("label").cast(pl.String), *MEASUREMENTS).iter_rows(named=True)
    for box, row in zip(boxes.round(2).tolist(), columns, strict=True):
        label = row.pop("label")
        values = {MEASUREMENTS[name]: round(value, 4) for name, value in row.items() if np.isfinite(value)}
        properties = {
            "objectType": "detection",
            "classification": {"name": label, "color": colours[label]},
            "measurements": values,
        }
        key = f"{slide_id} nucleus {box} {seen[tuple(box)]}"
        seen[tuple(box)] += 1
        yield _feature(key, box, {"isEllipse": True}, properties)


def _feature(key: str, box: list[float], shape: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, key)),
        "geometry": {"type": "Polygon", "coordinates": [ring], **shape},
        "properties": properties,
    }
