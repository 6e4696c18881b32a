"""Reading whole-slide images: one object for every format.

The names are loaded when they are first used: most steps of a run need `SlideInfo` only, and should not
wait for two image libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ercohort.slide.info import SlideInfo

if TYPE_CHECKING:
    from ercohort.slide.reader import Slide, open_slide

__all__ = ["Slide", "SlideInfo", "open_slide"]


def __getattr__(name: str) -> Any:
    if name in ("Slide", "open_slide"):
        from ercohort.slide import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
