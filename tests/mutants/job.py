"""Taking one slide through the steps of the workflow, each as a process that may die, and measuring them.

The steps are forked from a process that has loaded everything: what is measured is the slide, not Python.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Loaded before the fork.
import ercohort.backends.openvino
import ercohort.detect
import ercohort.pictures
import ercohort.slide.guarded
import ercohort.slide.resample
import ercohort.tissue  # noqa: F401
from ercohort.config import DetectSettings, TileSettings, TissueSettings
from ercohort.files import read_json
from ercohort.slide.convert import needs_conversion
from ercohort.slide.fingerprint import fingerprint
from ercohort.steps.detect import detect_nuclei
from ercohort.steps.engine import prepare_engine
from ercohort.steps.export import draw_pictures
from ercohort.steps.merge import merge_slide
from ercohort.steps.tiles import lay_out_tiles
from ercohort.steps.tissue import convert_slide, mask_tissue
from tests.tiny_onnx import write_detector

LIMIT_S = 300.0
"""Seconds after which a step counts as hanging, and is killed."""


@dataclass(frozen=True)
class Outcome:
    """What became of a slide: its row of the table, and what its most expensive step took."""

    status: str
    message: str
    seconds: float
    cpu_seconds: float
    megabytes: float
    died: tuple[str, ...]


class StepDiedError(Exception):
    """A step ended without a result, on its last attempt."""


def write_engine(folder: Path) -> None:
    """Write the detector and the record that the steps of all slides share."""
    model = write_detector(folder / "tiny.onnx")
    measured(lambda: prepare_engine(
        model=str(model), backend="openvino", precision="f32", output=folder / "engine.json", gpu=0
    ))  # fmt: skip


def take_through(path: Path, mpp: float | None, *, shared: Path, folder: Path) -> Outcome:
    """Take a slide from its file to its row, as the rules do, with a second attempt where they have one."""
    folder.mkdir(parents=True, exist_ok=True)
    shard, record = folder / "1-of-1.parquet", folder / "1-of-1.json"
    steps: list[tuple[str, Callable[[bool], None], int]] = [
        ("tissue", lambda _: _prepare(path, mpp, folder), 1),
        ("detect", lambda guarded: detect_nuclei(
            shard=1, model=str(shared / "tiny.onnx"), engine=shared / "engine.json",
            settings=DetectSettings(), tile_px=640, gpu=0, threads=2, folder=folder,
            detections=shard, record=record, guarded=guarded,
        ), 2),
        ("merge", lambda _: merge_slide(
            detections=[shard], records=[record], settings=DetectSettings(), detector_mpp=0.5, folder=folder
        ), 1),
        ("overlay", lambda guarded: draw_pictures(folder=folder, guarded=guarded), 2),
    ]  # fmt: skip
    seconds, cpu_seconds, megabytes, died = 0.0, 0.0, 0.0, []
    for name, step, attempts in steps:
        for attempt in range(attempts):
            ended, took, worked, most = measured(lambda step=step, attempt=attempt: step(attempt > 0))
            seconds, cpu_seconds = max(seconds, took), max(cpu_seconds, worked)
            megabytes = max(megabytes, most)
            if ended == 0:
                break
            died.append(f"{name} {attempt + 1} ({_how(ended)})")
        else:
            raise StepDiedError(f"{', '.join(died)}: {(folder / 'log').read_text()[-2000:]}")
    row = read_json(folder / "summary.json")["row"]
    return Outcome(row["status"], row["message"], seconds, cpu_seconds, megabytes, tuple(died))


def _prepare(path: Path, mpp: float | None, folder: Path) -> None:
    """What the workflow asks about the file, the conversion where one is needed, the tissue, the tiles."""
    fingerprint(str(path))
    readable = str(path)
    conversion = None
    if path.exists() and needs_conversion(path):
        readable, conversion = str(folder / "converted.tif"), folder / "converted.json"
        convert_slide(path=str(path), mpp=mpp, slide=readable, record=conversion)
    mask_tissue(
        slide_id="slide", path=str(path), readable=readable, conversion=conversion, mpp=mpp,
        settings=TissueSettings(), folder=folder,
    )  # fmt: skip
    lay_out_tiles(detector_mpp=0.5, settings=TileSettings(), folder=folder)


def measured(work: Callable[[], None]) -> tuple[int, float, float, float]:
    """Run in a fork; return how it ended (as subprocess does), seconds, seconds of CPU, megabytes."""
    begun = time.monotonic()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, ended, usage = os.wait4(process, os.WNOHANG)
        if done:
            worked = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(ended)
            return code, time.monotonic() - begun, worked, usage.ru_maxrss / 1024
        if time.monotonic() - begun > LIMIT_S:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _how(ended: int) -> str:
    return signal.Signals(-ended).name if ended < 0 else f"exit {ended}"
