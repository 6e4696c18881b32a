"""The directions of haematoxylin and DAB in optical density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

HEMATOXYLIN = (0.65, 0.70, 0.29)
DAB = (0.27, 0.57, 0.78)
"""QuPath's "H-DAB (default)": Ruifrok and Johnston, Anal Quant Cytol Histol 2001;23:291-299."""


@dataclass(frozen=True)
class StainVectors:
    """The optical density of one unit of each stain, red, green and blue.

    Attributes
    ----------
    hematoxylin, dab
        Directions; their length does not matter.
    source
        `default` (QuPath's), or `estimate` (from the slide itself).
    message
        Why the default is used although an estimate was asked for; else empty.
    """

    hematoxylin: tuple[float, float, float] = HEMATOXYLIN
    dab: tuple[float, float, float] = DAB
    source: Literal["default", "estimate"] = "default"
    message: str = ""

    def summary(self) -> str:
        """For the table: where they come from, and what they are or why they are the default."""
        if self.source == "default":
            return f"default: {self.message}" if self.message else "default"
        stains = (self.hematoxylin, self.dab)
        hematoxylin, dab = (" ".join(f"{part:.3f}" for part in stain) for stain in stains)
        return f"estimate: haematoxylin {hematoxylin}, DAB {dab}"

    @classmethod
    def of(cls, values: dict[str, Any]) -> StainVectors:
        """Make one from what JSON holds of it."""
        return cls(tuple(values["hematoxylin"]), tuple(values["dab"]), values["source"], values["message"])


DEFAULT_VECTORS = StainVectors()
