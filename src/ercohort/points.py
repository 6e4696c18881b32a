"""Nuclei as labelled points: annotations of people, truth of simulated slides, detections of any tool."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.errors import InputError
from ercohort.schema import LABELS

IGNORED = "Ignored"
"""Label of points that are neither a nucleus to find nor a false alarm if found."""

TIL = "til"
"""Class of tumour-infiltrating lymphocytes in annotation files, in lower case; they are ignored."""

MOST_ROI_PX = 2_000_000_000
"""Of a region picture; the largest slides have half of that."""

_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How files of gzip, Zstandard and zlib begin."""

BOX = ("x0", "y0", "x1", "y1")

GEOJSON = (".geojson", ".geojson.gz", ".geojson.zip")

ROI = NDArray[np.bool_] | NDArray[np.float64]
"""What of a slide is annotated: a full-size picture, or (R, 4) rectangles x0, y0, x1, y1."""


@dataclass(frozen=True)
class Points:
    """Labelled points of one slide, level-0 pixels of the slide frame.

    Parameters
    ----------
    xy
        (N, 2) float64, centres.
    label
        (N,) text: a class of the detector, or `Ignored`.
    score
        (N,) float64, the detector's score; 1 where the table has none.
    boxes
        (N, 4) float64 x0, y0, x1, y1; NaN for nuclei that are known as points alone. None if all are.
    """

    xy: NDArray[np.float64]
    label: NDArray[np.str_]
    score: NDArray[np.float64]
    boxes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.xy)

    def where(self, chosen: NDArray[Any]) -> Points:
        """Return the points that a mask or indices choose."""
        boxes = None if self.boxes is None else self.boxes[chosen]
        return Points(self.xy[chosen], self.label[chosen], self.score[chosen], boxes)


@dataclass(frozen=True)
class Truth:
    """The files that hold one slide's truth.

    Parameters
    ----------
    points
        `points.csv`, the Parquet table of a simulated slide, or a GeoJSON file that QuPath exported.
    roi
        `roi.png`, if the truth covers only a part of the slide.
    mpp
        µm per pixel by the `index.csv` of the collection, if it has one.
    """

    points: Path
    roi: Path | None = None
    mpp: float | None = None


def read_points(path: str | Path, labels: Sequence[str] = LABELS) -> Points:
    """Read labelled points from CSV or Parquet.

    The table has `x, y` (centres) or `x0, y0, x1, y1` (boxes), `class` or `label`, and maybe `score`.
    Class names count in upper or lower case, whole or by their last part (`Positive` for
    `Tumor: Positive`); `til` is read as ignored.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a class is unknown, or a coordinate is no number.
    """
    file = Path(path)
    table = _read_table(file)
    label_column = _first_of(file, table, ("class", "label"))
    if {"x", "y"} <= set(table.columns):
        needed = ["x", "y"]
    elif set(BOX) <= set(table.columns):
        needed = list(BOX)
    else:
        raise InputError(
            f"{file}: has the columns {', '.join(table.columns)}; x, y (or x0, y0, x1, y1) are needed"
        )
    numbers = table.select(pl.col(needed).cast(pl.Float64, strict=False))
    _check_numbers(file, numbers)
    score = (
        table["score"].cast(pl.Float64, strict=False).fill_null(1.0).to_numpy()
        if "score" in table.columns
        else np.ones(len(table))
    )
    found = numbers.to_numpy()
    boxes = found if len(needed) == len(BOX) else None
    xy = found if boxes is None else (boxes[:, :2] + boxes[:, 2:]) / 2
    return Points(xy, _labels(file, table[label_column], labels), score, boxes)


def table_labels(path: str | Path) -> tuple[str, ...]:
    """Return the classes that a Parquet table of nuclei says it can hold; none for other tables."""
    file = Path(path)
    if file.suffix.lower() != ".parquet":
        return ()
    try:
        dtype = pl.read_parquet_schema(file).get("label")
    except (OSError, pl.exceptions.PolarsError):
        return ()  # reading the table will say what is wrong with it
    return tuple(dtype.categories) if isinstance(dtype, pl.Enum) else ()


def _read_table(file: Path) -> pl.DataFrame:
    if os.path.exists(file) and not os.path.isfile(file):
        raise InputError(f"{file}: it is no file; give a table")
    try:
        if file.suffix.lower() == ".parquet":
            return pl.read_parquet(file)
        with file.open("rb") as opened:
            if opened.read(4).startswith(_PACKED):  # polars would unpack it, however much comes of it
                raise InputError(f"{file}: it is packed; unpack it")
        table = pl.read_csv(file, infer_schema=False)
        return table.rename({name: name.strip().lower() for name in table.columns})
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        reason = (str(error).splitlines() or ["unknown error"])[0]
        raise InputError(f"{file}: cannot be read as {file.suffix.lstrip('.') or 'CSV'}: {reason}") from None


def _first_of(file: Path, table: pl.DataFrame, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise InputError(f"{file}: column `{names[0]}` is missing; it says positive or negative for each nucleus")


def _row(file: Path, index: int) -> str:
    """Name a row as a text editor numbers it: the header of a CSV file is line 1."""
    return f"line {index + 2}" if file.suffix.lower() != ".parquet" else f"row {index}"


def _check_numbers(file: Path, numbers: pl.DataFrame) -> None:
    bad = numbers.select(~pl.all_horizontal(pl.all().is_finite().fill_null(False))).to_series()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(f"{file}, {_row(file, row)}: a coordinate is no number; correct or remove the row")


def _labels(file: Path, column: pl.Series, labels: Sequence[str]) -> NDArray[np.str_]:
    leaves = [label.rpartition(":")[2].strip().lower() for label in labels]
    meaning = {TIL: IGNORED} | {
        leaf: label for leaf, label in zip(leaves, labels, strict=True) if leaves.count(leaf) == 1
    }
    meaning |= {label.lower(): label for label in labels}
    names = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    found = names.replace_strict(meaning, default=None, return_dtype=pl.String)
    unknown = found.is_null()
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        known = ", ".join(label.lower() for label in labels)
        raise InputError(f"{file}, {_row(file, row)}: class {column[row]!r} is unknown; use {known} or {TIL}")
    return found.to_numpy().astype(np.str_)


def read_roi(path: str | Path) -> NDArray[np.bool_]:
    """Read a region picture as (rows, cols) booleans; what is brighter than half counts.

    Raises
    ------
    InputError
        The file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_ROI_PX:
                raise ValueError(f"{picture.width} x {picture.height} px are more than any slide has")
            return np.asarray(picture.convert("L")) >= 128
    # Pillow raises the last ones where a file is damaged.
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as a picture: {' '.join(str(error).split())}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def inside(xy: NDArray[Any], roi: ROI) -> NDArray[np.bool_]:
    """Say which points lie in the region; what lies off its picture is outside.

    Parameters
    ----------
    xy
        (N, 2) points in pixels of the slide frame.
    roi
        (rows, cols) bool picture of the region, where pixel (0, 0) covers 0 <= x < 1, 0 <= y < 1; or
        (R, 4) rectangles, which hold their left and upper edge, not the other two.
    """
    if roi.dtype != np.bool_:
        points, result = np.asarray(xy, dtype=np.float64).reshape(-1, 2), np.zeros(len(xy), dtype=bool)
        for rectangle in roi:
            result |= ((points >= rectangle[:2]) & (points < rectangle[2:])).all(axis=1)
        return result
    column, row = np.floor(np.asarray(xy, dtype=np.float64).reshape(-1, 2)).astype(np.int64).T
    on_picture = (row >= 0) & (column >= 0) & (row < roi.shape[0]) & (column < roi.shape[1])
    result = np.zeros(len(on_picture), dtype=bool)
    result[on_picture] = roi[row[on_picture], column[on_picture]]
    return result


def area_px(roi: ROI) -> float:
    """Area of a region, square pixels; its rectangles do not overlap."""
    if roi.dtype == np.bool_:
        return float(np.count_nonzero(roi))
    return float(np.prod(roi[:, 2:] - roi[:, :2], axis=1).sum())


def find_truth(path: str | Path) -> dict[str, Truth]:
    """Find the truth of one or many slides, by slide id.

    A file is the truth of one slide. In a folder, every `<id>/points.csv`, every `<id>.truth.parquet` or
    `<id>/truth.parquet`, and every `<id>.geojson`, also as `.geojson.zip` or `.geojson.gz`, counts, at any
    depth. An `index.csv` beside the slide's folder may give `mpp` or `mpp_estimate` for its `id`.

    Raises
    ------
    InputError
        There is no truth, or two truths for one slide.
    """
    root = Path(path)
    if root.is_file():
        return {_truth_id(root): _truth(root)}
    if not root.is_dir():
        raise InputError(f"{root}: no such file or folder")
    found: dict[str, Truth] = {}
    names = ("points.csv", "*truth.parquet", *(f"[!.]*{suffix}" for suffix in GEOJSON))
    for file in sorted(path for name in names for path in root.rglob(name)):
        slide_id = _truth_id(file)
        if slide_id in found:
            raise InputError(f"{root}: {slide_id} has two truths, {found[slide_id].points} and {file}")
        found[slide_id] = _truth(file)
    if not found:
        raise InputError(
            f"{root}: holds no <slide id>/points.csv, no <slide id>.truth.parquet, no <slide id>.geojson"
        )
    return found


def _truth_id(file: Path) -> str:
    if file.name in ("points.csv", "truth.parquet"):
        return file.resolve().parent.name
    if is_geojson(file):
        return file.name[: file.name.lower().rindex(".geojson")]
    return file.stem.removesuffix(".truth")


def is_geojson(file: Path) -> bool:
    """Say whether a file is one that QuPath exported."""
    return file.name.lower().endswith(GEOJSON)


def _truth(file: Path) -> Truth:
    folder = file.resolve().parent
    roi = folder / "roi.png"
    has_own_folder = file.name in ("points.csv", "truth.parquet")
    index = (folder.parent if has_own_folder else folder) / "index.csv"
    return Truth(
        file,
        roi if has_own_folder and roi.is_file() else None,
        _index_mpp(index, _truth_id(file)) if index.is_file() else None,
    )


def _index_mpp(index: Path, slide_id: str) -> float | None:
    table = _read_table(index)
    column = next((name for name in ("mpp", "mpp_estimate") if name in table.columns), None)
    if column is None or "id" not in table.columns:
        return None
    values = table.filter(pl.col("id") == slide_id)[column].to_list()
    if not values or not values[0]:
        return None
    try:
        mpp = float(values[0])
    except ValueError:
        mpp = math.nan
    if not (math.isfinite(mpp) and mpp > 0):
        raise InputError(f"{index}: {column} of {slide_id} is {values[0]!r}; write µm per pixel as 0.25")
    return mpp
