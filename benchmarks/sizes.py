"""How much is measured: `full` is the whole workload, `part` takes minutes, `tiny` shows that all works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What the parts measure.

    Attributes
    ----------
    area
        Of the seed workload's slide, as a share.
    peers_area
        Of the slide that the peers are given; they would need hours for all of it.
    detection_area, detection_tiles, repeat
        Slide and tiles of the detection stage alone, and how often it is timed.
    merged, exported
        Numbers of nuclei.
    sheets
        Numbers of slides in a sheet.
    pairs
        Of runs, when two revisions are compared.
    once
        Whether to measure what is only worth it once: a fresh clone, annotated fields.
    """

    area: float
    peers_area: float
    detection_area: float
    detection_tiles: int
    repeat: int
    merged: tuple[int, ...]
    exported: tuple[int, ...]
    sheets: tuple[int, ...]
    pairs: int
    once: bool = False


SIZES = {
    "full": Size(
        1.0, 1 / 16, 1 / 16, 180, 3, (10**4, 10**5, 10**6, 10**7), (10**4, 10**5, 10**6, 5 * 10**6),
        (10, 100, 1000), 3, True,
    ),
    "part": Size(
        1 / 16, 1 / 64, 1 / 16, 120, 2, (10**4, 10**5, 10**6), (10**4, 10**5, 10**6), (10, 100, 1000), 5
    ),
    "tiny": Size(1 / 256, 1 / 1024, 1 / 256, 6, 1, (10**3, 10**4), (10**3, 10**4), (2, 10), 1),
}  # fmt: skip
