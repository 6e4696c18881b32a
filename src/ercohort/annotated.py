"""One slide's detections beside its annotations, wherever the files of either lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ercohort.config import DatasetSettings
from ercohort.errors import InputError, Status
from ercohort.files import read_json
from ercohort.points import (
    IGNORED,
    ROI,
    Points,
    Truth,
    area_px,
    find_truth,
    is_geojson,
    read_points,
    read_roi,
    table_labels,
)
from ercohort.schema import LABELS
from ercohort.slide.info import SlideInfo

UNSEEN = (Status.MISSING, Status.UNREADABLE, Status.NO_MPP, Status.FAILED)
"""Slides that the detector never saw: they are listed, not counted as full of misses."""

Frame = Literal["qupath", "slide"]


@dataclass(frozen=True, eq=False)
class AnnotatedSlide:
    """Detections and annotations of one slide, level-0 pixels of the slide frame.

    Parameters
    ----------
    pred, truth
        Detected nuclei with their scores, annotated nuclei.
    roi
        What of the slide is annotated; None for all of it.
    mpp, mpp_source
        µm per pixel, and where it came from: `argument`, `index.csv` or `slide.json`.
    area_mm2, area_source
        Evaluated area: of the annotated region, else of the tissue, else of the slide (`region`, `tissue`,
        `slide`); None and empty where none of these is known.
    info
        `SlideInfo` as a mapping, where the run left one: with it the pixels can be read.
    """

    slide_id: str
    pred: Points
    truth: Points
    roi: ROI | None
    mpp: float
    mpp_source: str
    area_mm2: float | None = None
    area_source: str = ""
    info: Mapping[str, Any] | None = None

    def above(self, score: float) -> AnnotatedSlide:
        """Return the slide with only the detections that a run with `detect.score: score` would take."""
        # As decode.decode_tile: more than the threshold, in single precision.
        return self.restricted(self.pred.score > np.float32(score))

    def restricted(self, chosen: NDArray[np.bool_]) -> AnnotatedSlide:
        """Return the slide with a part of its detections."""
        return replace(self, pred=self.pred.where(chosen))


@dataclass(frozen=True, eq=False)
class Annotated:
    """The slides that have detections and truth, ordered by id, and why the others were left out.

    Parameters
    ----------
    labels
        Classes, in the order of the detector; those that only the truth has come last.
    """

    labels: tuple[str, ...]
    slides: tuple[AnnotatedSlide, ...]
    left_out: dict[str, str]


def load_annotated(
    results: str | Path,
    truth: str | Path,
    *,
    mpp: float | None = None,
    dataset: DatasetSettings | None = None,
    frame: Frame = "qupath",
    slide_ids: Collection[str] | None = None,
) -> Annotated:
    """Read the detections and the truth of every slide that has both.

    Parameters
    ----------
    results, truth, mpp
        See `evaluate.evaluate_results`.
    dataset
        How classes of QuPath files are read; by default they are named as the detector's.
    frame
        Frame of QuPath files that do not state theirs.
    slide_ids
        Detections of other slides are left alone: those of an earlier run, say; None takes all.

    Raises
    ------
    InputError
        A file cannot be read, no slide has both, or a slide's µm per pixel is not known.
    """
    detected, truths = find_detections(results), find_truth(truth)
    if slide_ids is not None:
        detected = {name: one for name, one in detected.items() if name in slide_ids}
    if Path(results).is_file() and len(truths) == 1:
        detected = dict(zip(truths, detected.values(), strict=True))
    elif Path(truth).is_file() and len(detected) == 1:
        truths = dict(zip(detected, truths.values(), strict=True))
    both = sorted(detected.keys() & truths.keys())
    if not both:
        raise InputError(
            f"no slide id is in both {results} ({_some(detected)}) and {truth} ({_some(truths)}); "
            "name the truth's folders as the sheet names the slides"
        )
    left_out = {name: "no truth" for name in sorted(detected.keys() - truths.keys())}
    left_out |= {name: "no detections" for name in sorted(truths.keys() - detected.keys())}
    left_out |= {name: detected[name].trouble for name in both if detected[name].trouble}
    both = [name for name in both if name not in left_out]
    labels = _all_labels([(detected[name], truths[name]) for name in both], dataset)
    reading = dataset or DatasetSettings(classes={label: label for label in labels})
    slides = [_load(name, detected[name], truths[name], labels, mpp, reading, frame) for name in both]
    return Annotated(labels, tuple(slides), left_out)


def _some(names: Mapping[str, Any]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _all_labels(slides: list[tuple[Detected, Truth]], dataset: DatasetSettings | None) -> tuple[str, ...]:
    """Return the classes of all tables: the detector's, then those of the truth; each once."""
    names = [label for detected, _ in slides for label in table_labels(detected.table)]
    names += [label for _, truth in slides for label in table_labels(truth.points)]
    if dataset is not None and any(is_geojson(truth.points) for _, truth in slides):
        names += dataset.classes.values()
    return tuple(dict.fromkeys(names)) or LABELS


def _load(
    name: str,
    detected: Detected,
    truth: Truth,
    labels: tuple[str, ...],
    mpp: float | None,
    reading: DatasetSettings,
    frame: Frame,
) -> AnnotatedSlide:
    scale, source = _scale(name, detected, truth, mpp)
    pred = read_points(detected.table, labels)
    true, roi = _read_truth(detected, truth, labels, reading, frame)
    area, area_source = _area(detected, roi, scale)
    return AnnotatedSlide(name, pred, true, roi, scale, source, area, area_source, detected.info)


def _read_truth(
    detected: Detected, truth: Truth, labels: tuple[str, ...], reading: DatasetSettings, frame: Frame
) -> tuple[Points, ROI | None]:
    if is_geojson(truth.points):
        if detected.info is None:
            raise InputError(
                f"{truth.points}: to place it, the slide's size is needed; give the results folder of a run, "
                "which has slide.json"
            )
        return read_geojson_truth(truth.points, SlideInfo.from_dict(detected.info), reading, frame)
    true = read_points(truth.points, labels)
    roi = read_roi(truth.roi) if truth.roi else None
    if roi is not None and detected.size and roi.shape != detected.size[::-1]:
        raise InputError(
            f"{truth.roi}: is {roi.shape[1]} x {roi.shape[0]} px, the slide {detected.size[0]} x "
            f"{detected.size[1]}; draw it at the slide's full size"
        )
    return true, roi


def read_geojson_truth(
    path: Path, info: SlideInfo, reading: DatasetSettings, frame: Frame
) -> tuple[Points, NDArray[np.float64]]:
    """Read the nuclei of a corrected QuPath file and the regions that they were annotated in.

    Returns
    -------
    points
        Nuclei; those of ignored classes come as `Ignored`.
    regions
        (R, 4) rectangles x0, y0, x1, y1.

    Raises
    ------
    InputError
        See `labels.annotations.read_labels`.
    """
    from ercohort.labels.annotations import read_labels

    found = read_labels(
        path,
        classes=reading.classes,
        ignore=reading.ignore,
        info=info,
        frame=frame,
        point_um=reading.point_um,
    )
    boxes = np.concatenate([found.boxes, found.ignored])
    label = np.concatenate([found.labels, np.full(len(found.ignored), IGNORED)]).astype(np.str_)
    drawn = boxes.copy()
    # The size of a point's box is a setting, no truth to hold a detection's size against.
    drawn[: len(found.boxes)][found.is_point] = np.nan
    return Points((boxes[:, :2] + boxes[:, 2:]) / 2, label, np.ones(len(boxes)), drawn), found.regions


def _area(detected: Detected, roi: ROI | None, mpp: float) -> tuple[float | None, str]:
    """Return the evaluated area, mm², and what it is the area of."""
    if roi is not None:
        return area_px(roi) * mpp**2 / 1e6, "region"
    if detected.tissue_mm2:
        return detected.tissue_mm2, "tissue"
    if detected.size:
        return detected.size[0] * detected.size[1] * mpp**2 / 1e6, "slide"
    return None, ""


def _scale(name: str, detected: Detected, truth: Truth, mpp: float | None) -> tuple[float, str]:
    of_slide = detected.info["mpp"] if detected.info else None
    for value, source in ((mpp, "argument"), (truth.mpp, "index.csv"), (of_slide, "slide.json")):
        if value is not None:
            return value, source
    raise InputError(
        f"{name}: µm per pixel is not known; give --mpp, or mpp in an index.csv beside the truth"
    )


@dataclass(frozen=True)
class Detected:
    """One slide's detections.

    Parameters
    ----------
    table
        The file.
    info
        What `slide.json` says about the slide, if there is one: `SlideInfo` as a mapping.
    tissue_mm2
        Area of tissue by `slide.json`, mm².
    trouble
        Why the slide cannot be evaluated; empty if it can.
    """

    table: Path
    info: Mapping[str, Any] | None = None
    tissue_mm2: float | None = None
    trouble: str = ""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the slide, pixels."""
        return (self.info["width"], self.info["height"]) if self.info else None


def find_detections(path: str | Path) -> dict[str, Detected]:
    """Find the detections of one or many slides, by slide id.

    Raises
    ------
    InputError
        There are none.
    """
    root = Path(path)
    if root.is_file():
        has_own_folder = root.name == "nuclei.parquet"
        name = root.resolve().parent.name if has_own_folder else root.stem
        return {name: _detected(root, root.resolve().parent)}
    if not root.is_dir():
        raise InputError(f"{root}: no such file or folder")
    if (root / "nuclei.parquet").is_file():
        return {root.resolve().name: _detected(root / "nuclei.parquet", root)}
    folder = root / "slides" if (root / "slides").is_dir() else root
    found = {
        slide.name: _detected(slide / "nuclei.parquet", slide)
        for slide in sorted(folder.iterdir())
        if (slide / "nuclei.parquet").is_file() or (slide / "slide.json").is_file()
    }
    if not found:
        raise InputError(
            f"{root}: holds no slides/<slide id>/nuclei.parquet; give the results folder of a run"
        )
    return found


def _detected(table: Path, folder: Path) -> Detected:
    status, info, tissue_mm2, trouble = Status.OK, None, None, ""
    if (folder / "slide.json").is_file():
        record = read_json(folder / "slide.json")
        status, info = Status(record["status"]), record["info"]
        tissue_mm2 = (record.get("tissue") or {}).get("area_mm2")
    if (folder / "summary.json").is_file():
        # The slide opened, and detection then failed on it.
        status = Status(read_json(folder / "summary.json")["row"]["status"])
    if status in UNSEEN:
        trouble = f"the run could not read the slide: {status.value}"
    elif not table.is_file():
        trouble = f"{table} is missing: the run did not finish this slide"
    return Detected(table, info, tissue_mm2, trouble)
