"""Nuclei as labelled points: annotations of people, truth of simulated slides, detections of any tool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ercohort.errors import InputError
from ercohort.schema import NEGATIVE, POSITIVE

IGNORED = "Ignored"
"""Label of points that are neither a nucleus to find nor a false alarm if found."""

LABEL_OF_CLASS = {"positive": POSITIVE, "negative": NEGATIVE, "til": IGNORED}
"""What the class names of annotation files mean, in lower case; `til` is a tumour-infiltrating lymphocyte."""

BOX = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True)
class Points:
    """Labelled points of one slide, level-0 pixels of the slide frame.

    Parameters
    ----------
    xy
        (N, 2) float64, centres.
    label
        (N,) text: `Positive`, `Negative` or `Ignored`.
    score
        (N,) float64, the detector's score; 1 where the table has none.
    """

    xy: NDArray[np.float64]
    label: NDArray[np.str_]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The files that hold one slide's truth.

    Parameters
    ----------
    points
        `points.csv`, or the Parquet table of a simulated slide.
    roi
        `roi.png`, if the truth covers only a part of the slide.
    mpp
        µm per pixel by the `index.csv` of the collection, if it has one.
    """

    points: Path
    roi: Path | None = None
    mpp: float | None = None


def read_points(path: str | Path) -> Points:
    """Read labelled points from CSV or Parquet.

    The table has `x, y` (centres) or `x0, y0, x1, y1` (boxes), `class` or `label`, and maybe `score`.
    Class names count in upper or lower case; `til` is read as ignored.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a class is unknown, or a coordinate is no number.
    """
    file = Path(path)
    table = _read_table(file)
    label_column = _first_of(file, table, ("class", "label"))
    if {"x", "y"} <= set(table.columns):
        centre = [pl.col("x").alias("cx"), pl.col("y").alias("cy")]
        needed = ["x", "y"]
    elif set(BOX) <= set(table.columns):
        needed = list(BOX)
        centre = [
            ((pl.col("x0") + pl.col("x1")) / 2).alias("cx"),
            ((pl.col("y0") + pl.col("y1")) / 2).alias("cy"),
        ]
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
    return Points(numbers.select(centre).to_numpy(), _labels(file, table[label_column]), score)


def _read_table(file: Path) -> pl.DataFrame:
    try:
        if file.suffix.lower() == ".parquet":
            return pl.read_parquet(file)
        table = pl.read_csv(file, infer_schema=False)
        return table.rename({name: name.strip().lower() for name in table.columns})
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
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


def _labels(file: Path, column: pl.Series) -> NDArray[np.str_]:
    names = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    labels = names.replace_strict(LABEL_OF_CLASS, default=None, return_dtype=pl.String)
    unknown = labels.is_null()
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        raise InputError(
            f"{file}, {_row(file, row)}: class {column[row]!r} is unknown; use positive, negative or til"
        )
    return labels.to_numpy().astype(np.str_)


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
            return np.asarray(picture.convert("L")) >= 128
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: cannot be read as a picture: {' '.join(str(error).split())}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def inside(xy: NDArray[Any], roi: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which points lie in the region; what lies off its picture is outside.

    Parameters
    ----------
    xy
        (N, 2) points in pixels of `roi`; pixel (0, 0) covers 0 <= x < 1, 0 <= y < 1.
    roi
        (rows, cols) region.
    """
    column, row = np.floor(np.asarray(xy, dtype=np.float64).reshape(-1, 2)).astype(np.int64).T
    on_picture = (row >= 0) & (column >= 0) & (row < roi.shape[0]) & (column < roi.shape[1])
    result = np.zeros(len(on_picture), dtype=bool)
    result[on_picture] = roi[row[on_picture], column[on_picture]]
    return result


def find_truth(path: str | Path) -> dict[str, Truth]:
    """Find the truth of one or many slides, by slide id.

    A file is the truth of one slide. In a folder, every `<id>/points.csv` and every `<id>.truth.parquet`
    or `<id>/truth.parquet` counts, at any depth. An `index.csv` beside the slide's folder may give
    `mpp` or `mpp_estimate` for its `id`.

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
    for file in sorted([*root.rglob("points.csv"), *root.rglob("*truth.parquet")]):
        slide_id = _truth_id(file)
        if slide_id in found:
            raise InputError(f"{root}: {slide_id} has two truths, {found[slide_id].points} and {file}")
        found[slide_id] = _truth(file)
    if not found:
        raise InputError(f"{root}: holds no <slide id>/points.csv and no <slide id>.truth.parquet")
    return found


def _truth_id(file: Path) -> str:
    if file.name in ("points.csv", "truth.parquet"):
        return file.resolve().parent.name
    return file.stem.removesuffix(".truth")


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
