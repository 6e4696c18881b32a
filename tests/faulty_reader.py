"""A slide reader that crashes, hangs or eats memory at one place of level 0, in every process that is told.

No file is known that does this to the libraries as they are: the fault is put into our call of them, and is
real (a signal, a wait without end, an allocation) in the process that meets it.
"""

from __future__ import annotations

import os
from pathlib import Path

_CODE = """
import os, signal, time
from ercohort.slide import openslide_source, vips_source

X, Y = map(int, os.environ["FAULT_AT"].split(","))

def faulty(read):
    def wrapper(self, level, x, y, width, height):
        path = getattr(self, "path", None) or self._fallback.path
        here = path.endswith(os.environ.get("FAULT_IN", ""))
        if here and level == 0 and x <= X < x + width and y <= Y < y + height:
            with open(os.environ["FAULT_LOG"], "a") as log:
                print(os.getpid(), file=log)
            if os.environ["FAULT"] == "hang":
                time.sleep(3600)
            elif os.environ["FAULT"] == "memory":
                bytes(6 << 30)
            else:
                os.kill(os.getpid(), getattr(signal, os.environ["FAULT"]))
        return read(self, level, x, y, width, height)
    return wrapper

for source in (openslide_source.OpenSlideSource, vips_source.VipsSource):
    source.read = faulty(source.read)
"""


def faulty_environment(folder: Path, fault: str, at: tuple[int, int]) -> dict[str, str]:
    """Return variables that put the fault into every Python process started with them.

    `fault` is the name of a signal, `hang` or `memory`; `folder` gets the code, and `fault.log`, one line
    for every time that the fault was met. A variable FAULT_IN can name the end of the only path that has it.
    """
    (folder / "sitecustomize.py").write_text(_CODE)
    (folder / "fault.log").touch()
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "PYTHONPATH": path,
        "FAULT": fault,
        "FAULT_AT": f"{at[0]},{at[1]}",
        "FAULT_LOG": str(folder / "fault.log"),
    }
