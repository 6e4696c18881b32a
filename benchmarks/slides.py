"""The simulated slides that are measured, drawn once and kept in `benchmarks/.cache`.

The whole workload is the slide of the first version of this software: 38,463 x 25,295 px at 0.5 µm per pixel,
of whose 2,688 tiles 1,550 held tissue, with 1.86 million nuclei. Here 1,650 tiles of that size touch
tissue: as many nuclei in fewer would have no room.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from children import ROOT, do

CACHE = Path(__file__).with_name(".cache")
WIDTH, HEIGHT, MPP = 38_463, 25_295, 0.5
NUCLEI_PER_MM2 = 15_600.0
TISSUE_SHARE = 0.49


def planted(
    area: float,
    *,
    mpp: float = MPP,
    tissue_share: float = TISSUE_SHARE,
    nuclei_per_mm2: float = NUCLEI_PER_MM2,
) -> Path:
    """Draw `area` (1, 1/4, 1/16, ...) of the workload's slide; its truth lies beside it."""
    scale = math.sqrt(area) * MPP / mpp
    arguments = {
        "width": round(WIDTH * scale), "height": round(HEIGHT * scale), "mpp": mpp, "percent_positive": 40.0,
        "seed": 3, "tissue_share": tissue_share, "nuclei_per_mm2": nuclei_per_mm2,
    }  # fmt: skip
    path = CACHE / f"simulated-{arguments['width']}x{arguments['height']}-{_key(arguments)}.tiff"
    if not path.exists():
        _say(f"drawing {path.name}")
        CACHE.mkdir(exist_ok=True)
        if shutil.disk_usage(CACHE).free < 3 * 0.6 * arguments["width"] * arguments["height"]:
            raise SystemExit(f"{CACHE}: not enough disk for a slide of {arguments['width']} px")
        do("simulate", path=str(path), **arguments)
    return path


def truth(slide: Path) -> Path:
    """Name the table of the planted nuclei of a simulated slide."""
    return slide.with_name(f"{slide.stem}.truth.parquet")


def as_svs(slide: Path, mpp: float) -> Path:
    """Write the same picture in the format of Aperio's scanners."""
    path = slide.with_suffix(".svs")
    if not path.exists():
        _say(f"writing {path.name}")
        do("write_svs", slide=str(slide), path=str(path), mpp=mpp)
    return path


def _key(arguments: dict[str, Any]) -> str:
    """Change with the arguments and with the simulator itself."""
    digest = hashlib.sha256(json.dumps(arguments).encode())
    for file in sorted((ROOT / "src/ercohort/simulate").glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
