"""Nuclei as a GeoJSON zip that QuPath loads: one detection object per nucleus.

The rules come from QuPath's reader (`qupath-core`: `QuPathTypeAdapters.java`, `GsonTools.java`,
`ROITypeAdapters.java`, `PathIO.java`); `ercohort.geojson_validate` checks them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ercohort import __version__
from ercohort.config import GeoJSONSettings
from ercohort.errors import GeoJSONError
from ercohort.files import atomic_path
from ercohort.schema import NEGATIVE, POSITIVE, class_names, is_negative
from ercohort.turns import in_turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ercohort.geojson_text import Template
    from ercohort.slide import SlideInfo
    from ercohort.zip_file import Deflated

COLOURS: dict[str, tuple[int, int, int]] = {POSITIVE: (250, 62, 62), NEGATIVE: (112, 112, 225)}
"""QuPath's own colours of the two classes (`PathClass.getDefaultColor`)."""

GRADE_COLOURS = {"1+": (255, 255, 0), "2+": (255, 187, 62), "3+": (250, 62, 62)}
"""QuPath's own colours of the intensity classes; it keeps them whatever a file says."""

# In this order each is as far as can be from those before it and from tissue, in CIE Lab, for normal
# vision and for all three kinds of colour blindness (Machado, Oliveira and Fernandes 2009).
EXTRA_COLOURS = (
    (255, 255, 0), (60, 0, 105), (165, 255, 165), (135, 0, 255), (75, 180, 150), (0, 90, 70), (90, 0, 0),
    (255, 165, 255), (0, 15, 165), (90, 0, 75), (120, 60, 150), (165, 165, 105), (240, 135, 15),
    (180, 225, 105), (255, 187, 62),
)  # fmt: skip
"""Colours of further classes."""

MEASUREMENTS: dict[str, str] = {
    "score": "Detection probability",
    "dab_od": "Nucleus: DAB OD mean",
    "hematoxylin_od": "Nucleus: Hematoxylin OD mean",
}
"""Column of the nuclei table to QuPath's name of the measurement."""

NOTICE = "Research use only. Not for diagnosis."

_BATCH_ROWS = 8_192
_ROUNDS = 6
_BOX = ("x0", "y0", "x1", "y1")
# QuPath keeps coordinates as float32 on a 0.01 px grid; at 131,072 px float32 steps by 0.016, so a box
# thinner than this could lose its area there and the whole file would be refused.
_MIN_SIDE_CENTI = 10


def write_geojson(
    nuclei: pl.DataFrame | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    slide_id: str,
    info: SlideInfo,
    settings: GeoJSONSettings,
) -> int:
    """Write the nuclei of one slide as `.geojson.zip` for QuPath.

    Memory does not grow with the slide, but for some 20 bytes a nucleus, and equal input gives equal bytes.

    Parameters
    ----------
    nuclei
        Table with the columns of `schema.NUCLEI`, or the Parquet file that holds it; boxes in level-0
        pixels of the slide frame.
    output
        The zip to write; its entries are `{slide_id}-001.geojson`, `-002` and so on, in the table's order.
        Without nuclei there is one entry without features.
    slide_id
        Name of the slide; part of every nucleus id.
    info
        Size and bounds of the slide, level-0 pixels.
    settings
        Frame of the coordinates and features per entry.

    Returns
    -------
    int
        Number of features written.

    Raises
    ------
    GeoJSONError
        A box is not finite, or a number has no place in a file.

    Notes
    -----
    QuPath shows a slide cropped to `openslide.bounds-*` (`OpenslideImageServer.java`), so the frame
    `qupath` is the slide frame minus the bounds' origin. An entry is read whole into QuPath's heap, about
    4.4 kB a feature: hence several entries.
    """
    from ercohort.geojson_text import Template
    from ercohort.zip_file import ZipWriter, deflate

    table = nuclei.lazy() if isinstance(nuclei, pl.DataFrame) else pl.scan_parquet(os.fspath(nuclei))
    labels = class_names(table.collect_schema()["label"])
    indices = {label: index for index, label in enumerate(labels)}
    label = pl.col("label").cast(pl.String).replace_strict(indices, return_dtype=pl.Int64)
    table = table.select(*_BOX, label, *MEASUREMENTS)
    source = f"slide {slide_id}" if isinstance(nuclei, pl.DataFrame) else str(nuclei)
    step, ordinals = settings.features_per_file, _check_and_number(table, source, settings.features_per_file)
    text = partial(
        _entry,
        head=_head(slide_id, info, settings.frame),
        template=Template(class_colours(labels), tuple(MEASUREMENTS.values())),
        key=_slide_key(slide_id),
        shift=info.bounds[:2] if settings.frame == "qupath" else (0, 0),
    )

    def pack(start: int) -> Deflated:
        part = table.slice(start, step).collect()
        return deflate(text(part, ordinals=ordinals[start : start + step]))

    starts = range(0, max(len(ordinals), 1), step)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        archive = ZipWriter(file)
        for number, packed in enumerate(in_turn(pack, starts), start=1):
            archive.add(f"{slide_id}-{number:03d}.geojson", packed)
        archive.close()
    return len(ordinals)


def class_colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Give every class a colour of its own.

    Parameters
    ----------
    labels
        Classes of a detector, up to 16.

    Returns
    -------
    RGB 0 to 255 by class, in the order of `labels`: QuPath's own for the leaf names Positive, 1+, 2+ and 3+
    and for the negative class; the first other class gets Positive's if that is free, the rest one each of
    `EXTRA_COLOURS`.
    """
    own = {**COLOURS, **GRADE_COLOURS}
    given: dict[str, tuple[int, int, int]] = {}
    for label in labels:
        leaf = NEGATIVE if is_negative(label) else label.rpartition(":")[2].strip()
        if leaf in own and own[leaf] not in given.values():
            given[label] = own[leaf]
    free = (colour for colour in (COLOURS[POSITIVE], *EXTRA_COLOURS) if colour not in given.values())
    return {label: given[label] if label in given else next(free) for label in labels}


def _head(slide_id: str, info: SlideInfo, frame: str) -> bytes:
    """Start of an entry up to its features; QuPath ignores the members beside `features`."""
    width, height = info.bounds[2:] if frame == "qupath" else (info.width, info.height)
    members: dict[str, Any] = {
        "type": "FeatureCollection",
        "generator": f"ercohort {__version__}",
        "notice": NOTICE,
        "slide_id": slide_id,
        "coordinate_frame": {
            "origin": frame,
            "bounds_x": info.bounds[0],
            "bounds_y": info.bounds[1],
            "width": width,
            "height": height,
        },
    }
    text = json.dumps(members, separators=(",", ":"))
    return f'{text[:-1]},"features":['.encode()


def _entry(
    part: pl.DataFrame,
    *,
    head: bytes,
    template: Template,
    key: NDArray[np.uint64],
    ordinals: NDArray[np.uint32],
    shift: tuple[int, int],
) -> Iterator[bytes]:
    """Text of one entry, a batch at a time."""
    from ercohort.geojson_text import LARGEST, uuids

    yield head
    offset = 100 * np.array(shift, np.int64)
    for start in range(0, part.height, _BATCH_ROWS):
        batch = part.slice(start, _BATCH_ROWS)
        centi = _centi(batch.select(_BOX).to_numpy())
        low = centi[:, :2] - offset
        high = np.maximum(centi[:, 2:] - offset, low + _MIN_SIDE_CENTI)
        yield b"\n" if start == 0 else b",\n"
        measured = batch.select(pl.col(*MEASUREMENTS).round(4).cast(pl.Float64).fill_null(np.nan)).to_numpy()
        if (np.abs(measured[np.isfinite(measured)]) >= LARGEST).any():
            raise GeoJSONError("a nucleus has a measurement beyond all reason; merge this slide again")
        text = template.write(
            np.hstack([low, high]),
            uuids(*_pack(centi), ordinals[start : start + _BATCH_ROWS], key),
            batch["label"].to_numpy(),
            measured,
        )
        yield text.tobytes()
    yield b"]}\n"


def _centi(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.rint(boxes.astype(np.float64) * 100).astype(np.int64)


def _check_and_number(table: pl.LazyFrame, source: str, step: int) -> NDArray[np.uint32]:
    """Refuse boxes that are not finite; number identical boxes 0, 1, ... so that their ids differ."""
    from ercohort.geojson_text import LARGEST, mix

    length = table.select(pl.len()).collect().item()
    boxes_key = np.empty(length, np.uint64)
    for start in range(0, length, step):
        boxes = table.slice(start, step).select(*_BOX).collect().to_numpy()
        finite = (np.abs(boxes) < LARGEST).all(axis=1)  # NaN is not
        if not finite.all():
            row = int(np.argmin(finite))
            raise GeoJSONError(
                f"{source}: nucleus {start + row} has the box {boxes[row].tolist()}; merge this slide again"
            )
        first, second = _pack(_centi(boxes))
        boxes_key[start : start + step] = mix(first + mix(second))
    ordinals = np.zeros(length, np.uint32)
    ordered = np.sort(boxes_key)
    repeated = np.isin(boxes_key, ordered[1:][ordered[1:] == ordered[:-1]])
    if repeated.any():
        twins = pl.Series("key", boxes_key[repeated]).to_frame()
        ordinals[repeated] = twins.select(pl.int_range(pl.len()).over("key")).to_series().to_numpy()
    return ordinals


def _slide_key(slide_id: str) -> NDArray[np.uint64]:
    digest = hashlib.blake2b(slide_id.encode(), digest_size=8 * _ROUNDS, person=b"ercohort nucleus").digest()
    return np.frombuffer(digest, np.dtype("<u8"))


def _pack(centi: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two corners of each box as one 64-bit number each."""
    corner = centi.astype(np.uint32).astype(np.uint64)
    shift = np.uint64(32)
    return corner[:, 0] << shift | corner[:, 1], corner[:, 2] << shift | corner[:, 3]
