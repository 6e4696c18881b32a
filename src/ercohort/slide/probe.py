"""Finding out what a slide is, without risk for the process that asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ercohort.errors import SlideError, Status
from ercohort.slide import child
from ercohort.slide.info import SlideInfo

if TYPE_CHECKING:
    from ercohort.slide.reader import Slide

TIMEOUT_S = 180.0
_WINDOW_PX = 256
_PLACES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25), (0.5, 0.1), (0.5, 0.9))


def probe(path: str | os.PathLike[str], mpp: float | None = None, timeout_s: float = TIMEOUT_S) -> SlideInfo:
    """Open a slide and read some pixels of it in a child process.

    Parameters
    ----------
    path
        The slide's file, or a DICOM folder.
    mpp
        µm per pixel as the sheet states it; None to take the file's.
    timeout_s
        Seconds after which the slide counts as unreadable.

    Raises
    ------
    SlideError
        `missing`, `unreadable` (also where the reader crashes or does not end) or `no_mpp`.
    """
    arguments = {"path": os.fspath(path), "mpp": mpp}
    values = child.call("ercohort.slide.probe", arguments, path=os.fspath(path), timeout_s=timeout_s)
    return SlideInfo.from_dict(values)


def _probe(path: str, mpp: float | None) -> dict[str, Any]:
    from ercohort.slide.reader import open_slide

    with open_slide(path, mpp=mpp) as slide:
        check_pixels(slide)
        return slide.info.to_dict()


def check_pixels(slide: Slide) -> None:
    """Read a window in some places of a slide, until one can be read.

    Raises
    ------
    SlideError
        `unreadable`, if none can.
    """
    x, y, width, height = slide.info.bounds
    errors = []
    for share_x, share_y in _PLACES:
        left = x + int(share_x * width) - _WINDOW_PX // 2
        top = y + int(share_y * height) - _WINDOW_PX // 2
        try:
            slide.read(left, top, _WINDOW_PX, _WINDOW_PX)
            return
        except SlideError as error:
            errors.append(error.message)
    raise SlideError(
        Status.UNREADABLE,
        f"{slide.info.path}: it opens, but none of {len(errors)} places in it can be read: {errors[0]}",
    )


if __name__ == "__main__":
    child.serve(_probe)
