"""Part 3: float32, bf16 and int8 side by side: time a tile, and the nuclei that each finds."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slides
from children import ROOT, do
from figures import Figure, Part
from sizes import Size

if TYPE_CHECKING:
    import polars as pl

    from ercohort.backends.openvino import OpenVinoBackend
    from ercohort.evaluate import Evaluation

INT8 = "int8"
RADIUS_UM = 3.0
"""A nucleus is found by a box whose centre is no further off; neighbours are 7.5 µm apart."""

ROUND_TILES = 60  # more than a backend holds at once

FIELDS = ROOT.parent / "shared/data/ihc-dev"
KINDS = ("ki67-fields", "bcdata")


def measure(size: Size) -> Part:
    """Run the default detector in every precision that this processor has, on the same tiles."""
    slide = slides.planted(size.peers_area, tissue_share=0.9)
    with tempfile.TemporaryDirectory() as folder:
        found = do("compare_precisions", slide=str(slide), repeat=size.repeat)
        fields, remark = _on_fields(found["order"], Path(folder)) if size.once else ([], "")
    figures = [figure for name in found["order"] for figure in _figures(name, found)]
    remarks = [
        f"{slide.name}, {found['n_tiles']} tiles, {found['n_planted']:,} planted nuclei; a nucleus is found "
        f"within {RADIUS_UM:g} µm; in turn, {size.repeat} times, all cores, the fastest counts",
        f"`precision: auto` takes {found['auto']} on this processor",
    ]
    return Part("Precision", figures + fields, None, remarks + [remark] * bool(remark))


def _figures(name: str, found: dict[str, Any]) -> list[Figure]:
    one, before = found[name], found[found["order"][-2]]
    figures = [
        Figure(f"{name}: whole stage", 1e3 * one["stage"], "ms/tile"),
        Figure("  network alone", 1e3 * one["network"], "ms/tile"),
        Figure("  F1 against the planted nuclei", one["f1"], ""),
        Figure("  F1, mean of classes", one["class_mean_f1"], ""),
    ]
    if name != "f32":
        figures.append(Figure("  F1 against float32's nuclei", one["agreement"], "", at_least=one["least"]))
    if name == INT8:
        ratio = one["network"] / before["network"]
        figures.append(Figure(f"  network's time / {found['order'][-2]}'s", ratio, "x"))
    return figures


def _on_fields(names: list[str], folder: Path) -> tuple[list[Figure], str]:
    """Compare the last two precisions on annotated fields, where they are."""
    if not FIELDS.is_dir():
        return [], f"annotated fields not measured: {os.path.relpath(FIELDS, ROOT)} is not there"

    def found_by(name: str) -> dict[str, Any]:
        return do("on_fields", precision=name, data=str(FIELDS), out=str(folder / name))

    figures = []
    with ThreadPoolExecutor() as pool:  # nothing is timed here
        for name, done in zip(names[-2:], pool.map(found_by, names[-2:]), strict=True):
            for kind in KINDS:
                figures += [
                    Figure(f"{name} on {done[kind]['n']} annotated {kind}: F1", done[kind]["f1"], ""),
                    Figure("  F1, mean of classes", done[kind]["class_mean_f1"], ""),
                ]
    return figures, "annotated fields: Ki-67, within 5 µm, through `ercohort run` and `ercohort evaluate`"


@dataclass
class Runner:
    """One precision, loaded twice: as the workflow runs it, and the network alone."""

    whole: OpenVinoBackend
    alone: OpenVinoBackend
    least: float
    stage: float = float("inf")
    network: float = float("inf")
    nuclei: pl.DataFrame | None = None


def compare(path: Path, repeat: int) -> dict[str, Any]:
    """Time every precision on all tiles of a slide, in turn, and count what each finds.

    Returns
    -------
    For every name in `order`: `stage` and `network`, least seconds a tile; `f1`, `class_mean_f1` against the
    planted nuclei; `agreement`, F1 of nuclei of the same class against float32's, and `least`, what `export`
    asks for. `auto`: the precision that the workflow takes.
    """
    import polars as pl
    from detect import lay_tiles, time_network

    from ercohort.backends import choose_backend
    from ercohort.config import load_config
    from ercohort.detect import detect_shard
    from ercohort.merge import merge_shards
    from ercohort.model import read_model
    from ercohort.slide import open_slide

    config = load_config(Path("config/config.yaml"))
    settings = config.detect
    runners = _load(config)
    with open_slide(path) as slide:
        tiles = lay_tiles(slide, slides.MPP, 10**9)
        for turn in range(-1, repeat):
            for one in runners.values():
                part = tiles if turn >= 0 else tiles[:4]  # the first is not timed
                one.network = min(one.network, time_network(one.alone, ROUND_TILES if turn >= 0 else 8))
                shard = detect_shard(
                    slide, part, tiles, one.whole, settings=settings, background=(255.0, 255.0, 255.0)
                )
                if turn >= 0:
                    one.stage = min(one.stage, shard.stats["seconds"] / len(part))
                    one.nuclei = merge_shards(
                        [shard.table], scale=1.0, nms_iou=settings.nms_iou, seam_ios=settings.seam_ios
                    )
    for one in runners.values():
        one.whole.close()
        one.alone.close()
    planted = pl.read_parquet(slides.truth(path))
    return {
        "order": list(runners),
        "n_tiles": len(tiles),
        "n_planted": len(planted),
        "auto": choose_backend("openvino", model=read_model(config.model)).precision,
        **{name: _result(one, planted, runners["f32"].nuclei) for name, one in runners.items()},
    }


def _load(config: Any) -> dict[str, Runner]:
    """Load what this processor can run, in the order that is shown."""
    from detect import NetworkAlone

    from ercohort.backends.openvino import OpenVinoBackend, inspect_cpu
    from ercohort.errors import BackendError
    from ercohort.model import read_model
    from ercohort.training.parity import LEAST_F1, LEAST_F1_INT8

    model = read_model(config.model)
    options = {
        "tile_px": config.tiles.tile_px,
        "detect": config.detect,
        "threads": len(os.sched_getaffinity(0)),
    }
    runners = {}
    for precision, least in {"f32": LEAST_F1, "bf16": LEAST_F1, INT8: LEAST_F1_INT8}.items():
        with contextlib.suppress(BackendError):  # this processor lacks it
            inspect_cpu(precision)
            whole, alone = (
                kind(model, **options, precision=precision) for kind in (OpenVinoBackend, NetworkAlone)
            )
            runners[precision] = Runner(whole, alone, least)
    return runners


def _result(one: Runner, planted: pl.DataFrame, float32: pl.DataFrame) -> dict[str, Any]:
    truth, same = _confusion(one.nuclei, planted), _confusion(one.nuclei, float32)
    of_class = int(same.matched.trace())
    return {
        "stage": one.stage,
        "network": one.network,
        "f1": truth.detection.f1,
        "class_mean_f1": truth.class_mean["f1"],
        "agreement": 2 * of_class / (len(one.nuclei) + len(float32)),
        "least": one.least,
    }


def _confusion(found: pl.DataFrame, truth: pl.DataFrame) -> Any:
    from ercohort.pairing import evaluate_points

    boxes, planted = (part.select("x0", "y0", "x1", "y1").to_numpy() for part in (found, truth))
    centres, wanted = ((part[:, :2] + part[:, 2:]) / 2 for part in (boxes, planted))
    labels, names = (part["label"].cast(str).to_numpy() for part in (found, truth))
    confusion, _ = evaluate_points(
        centres, labels, found["score"], wanted, names, RADIUS_UM / slides.MPP, method="greedy"
    )
    return confusion


def on_fields(precision: str, data: Path, out: Path) -> dict[str, Any]:
    """Take annotated fields through `run_slide` and compare their nuclei with the annotation.

    Parameters
    ----------
    data
        Folders `KINDS`, each with `index.csv` and `<id>/image.png`, `<id>/points.csv`.
    """
    from ercohort.config import load_config
    from ercohort.evaluate import evaluate_results
    from ercohort.run import run_slide

    config = load_config(Path("config/config.yaml")).model_copy(update={"precision": precision})
    result = {}
    for kind in KINDS:
        with (data / kind / "index.csv").open() as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            folder = out / kind / "slides" / row["id"]
            folder.mkdir(parents=True)
            picture = folder / f"{row['id']}.png"  # the slide's id is the file's name
            picture.symlink_to(data / kind / row["id"] / "image.png")
            run_slide(str(picture), folder, config, mpp=float(row["mpp_estimate"]), gpu=0, report=_silent)
        result[kind] = _pooled(evaluate_results(out / kind, data / kind))
    return result


def _pooled(evaluation: Evaluation) -> dict[str, Any]:
    pooled = evaluation.pooled
    return {
        "n": len(evaluation.slides),
        "f1": pooled.detection.f1,
        "class_mean_f1": pooled.class_mean["f1"],
    }


def _silent(step: str, done: int, total: int) -> None:
    pass
