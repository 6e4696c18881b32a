"""The sizes that an engine is built for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ercohort.config import TensorRtSettings
from ercohort.errors import BackendError

Shape = tuple[int, int, int, int]
"""Tiles, channels, height, width."""


@dataclass(frozen=True)
class Profile:
    """An explicit dynamic profile: kernels are chosen for the middle size, all sizes between run.

    Attributes
    ----------
    batch
        Tiles that go through the network together, at most and at best.
    min_px, tile_px, max_px
        Least, best and greatest side of a tile, pixels.
    """

    batch: int
    min_px: int
    tile_px: int
    max_px: int

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """Least, best and greatest shape of the input."""
        return (
            (1, 3, self.min_px, self.min_px),
            (self.batch, 3, self.tile_px, self.tile_px),
            (self.batch, 3, self.max_px, self.max_px),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)


def make_profile(settings: TensorRtSettings, tile_px: int) -> Profile:
    """Return the profile of the settings for tiles of `tile_px`.

    Raises
    ------
    BackendError
        The profile excludes tiles of this size.
    """
    if not settings.min_px <= tile_px <= settings.max_px:
        key, cure = ("min_px", "at most") if tile_px < settings.min_px else ("max_px", "at least")
        raise BackendError(
            f"engines are built for tiles of {settings.min_px} to {settings.max_px} px, and `tiles.tile_px` "
            f"is {tile_px}; set `tensorrt.{key}` to {cure} {tile_px}"
        )
    return Profile(settings.batch, settings.min_px, tile_px, settings.max_px)
