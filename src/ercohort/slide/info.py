"""What is known of a slide without reading its pixels, and where its scale comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ercohort.errors import SlideError, Status

MPP_RANGE = (0.05, 2.0)
"""Least and greatest µm per pixel that a slide scanner can mean."""

MPP_TOLERANCE = 0.05
"""Relative difference of mpp-x and mpp-y up to which pixels count as square."""

SIMULATED = "Simulated slide, made by ercohort; it shows no patient's tissue."
"""Description in the files that `ercohort simulate` writes."""

MAX_SIDE_MM = 300.0
MAX_AREA_MM2 = 50_000.0
"""More than the largest glass slide (150 x 200 mm): what is larger states a wrong size or scale."""


@dataclass(frozen=True)
class SlideInfo:
    """Size, scale and layout of a slide; all pixels are level-0 pixels of the slide frame.

    Attributes
    ----------
    path
        The slide as it was opened (for DICOM, the file that was found in the folder).
    vendor
        OpenSlide's name of the format.
    width, height
        Size of level 0.
    mpp, mpp_source
        µm per level-0 pixel, and whether the sheet or the file said so (`sheet`, `file`).
    level_dimensions
        (width, height) of every level.
    level_downsamples
        Level-0 pixels per pixel of the level. Writers drop a part of a pixel at the edge of a level, so
        46001 px over 11500 px means 4, not 4.0001; such values are given as the whole number.
    bounds, has_bounds
        x, y, width, height of the scanned part if the file names one, else of the whole slide.
    background
        RGB put behind transparent pixels and outside the slide.
    reader
        Which library decodes the pixels: `vips` or `openslide`.
    file_bytes
        Size of the slide on disk, companion files included.
    simulated
        Whether the file says that the simulator made it.
    file_mpp
        µm per pixel as the file states it, also where the sheet's was taken; None where it states nothing
        that a scanner can mean (72 dpi, for one).
    """

    path: str
    vendor: str
    width: int
    height: int
    mpp: float
    mpp_source: str
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    bounds: tuple[int, int, int, int]
    has_bounds: bool
    background: tuple[int, int, int]
    reader: str
    file_bytes: int
    simulated: bool = False
    file_mpp: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SlideInfo:
        """Rebuild from `to_dict`, also after a way through JSON (which turns tuples into lists)."""
        fields = dict(values)
        fields["level_dimensions"] = tuple(tuple(size) for size in fields["level_dimensions"])
        for name in ("level_downsamples", "bounds", "background"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def resolve_mpp(path: str, properties: Mapping[str, str], mpp: float | None) -> tuple[float, str]:
    """Return µm per pixel and its source: the sheet's value if there is one, else the file's.

    The file's value is the mean of mpp-x and mpp-y. Where these differ by more than 5 % one of them is
    wrong, and nobody but the lab knows which: that is an error, not a mean.

    Raises
    ------
    SlideError
        `no_mpp`, with the value that was seen.
    """
    if mpp is not None:
        _check_range(path, mpp, "the sheet")
        return float(mpp), "sheet"
    seen = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
    values = [value for value in seen if value is not None]
    if not values:
        raise SlideError(
            Status.NO_MPP, f"{path}: the file states no µm per pixel{_power(properties)}; {_CURE}"
        )
    if max(values) > min(values) * (1 + MPP_TOLERANCE):
        raise SlideError(
            Status.NO_MPP,
            f"{path}: the file states {values[0]:g} x {values[1]:g} µm per pixel, which cannot both be "
            f"right; {_CURE}",
        )
    value = sum(values) / len(values)
    _check_range(path, value, "the file")
    return value, "file"


def stated_mpp(properties: Mapping[str, str]) -> float | None:
    """Return the µm per pixel that the file states, the mean of x and y, if a scanner can mean it."""
    seen = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
    values = [value for value in seen if value is not None and MPP_RANGE[0] <= value <= MPP_RANGE[1]]
    return sum(values) / len(values) if values else None


_CURE = "give it in the `mpp` column of the sheet"


def _check_range(path: str, mpp: float, source: str) -> None:
    low, high = MPP_RANGE
    if not (math.isfinite(mpp) and low <= mpp <= high):
        raise SlideError(
            Status.NO_MPP,
            f"{path}: {source} states {mpp:g} µm per pixel, outside {low} to {high}; {_CURE}",
        )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _power(properties: Mapping[str, str]) -> str:
    power = properties.get("openslide.objective-power")
    return f" (objective {power}x)" if power else ""


def check_size(path: str, width: int, height: int, mpp: float) -> None:
    """Check that a slide can be of glass; the pictures made of it would fill the memory if it cannot.

    Raises
    ------
    SlideError
        `unreadable`.
    """
    mm = [size * mpp / 1000 for size in (width, height)]
    if max(mm) > MAX_SIDE_MM or mm[0] * mm[1] > MAX_AREA_MM2:
        raise SlideError(
            Status.UNREADABLE,
            f"{path}: states {width} x {height} px at {mpp:g} µm, which is {mm[0]:,.0f} x {mm[1]:,.0f} mm, "
            "larger than any slide; check the `mpp` of the sheet, or copy the slide again",
        )


def snap_downsample(downsample: float, level0: tuple[int, int], level: tuple[int, int]) -> float:
    """Return the whole number that a level's downsample stands for, if rounded sizes explain the rest."""
    whole = round(downsample)
    explained = whole >= 1 and all(
        abs(size0 / whole - size) < 1 for size0, size in zip(level0, level, strict=True)
    )
    return float(whole) if explained else float(downsample)
