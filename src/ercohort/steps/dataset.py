"""From corrected QuPath files to a training set."""

from __future__ import annotations

import csv
import difflib
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ercohort.config import Config, DatasetSettings
from ercohort.errors import InputError, SlideError, Status
from ercohort.files import read_json
from ercohort.sheet import Sample

if TYPE_CHECKING:
    from ercohort.labels.contact_sheet import ShownTile
    from ercohort.labels.set_record import LabelledSlide
    from ercohort.labels.yolo_set import DatasetInfo

LOGGER = logging.getLogger("ercohort")
_Item = TypeVar("_Item")

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""

SUFFIXES = (".geojson", ".geojson.zip", ".geojson.gz")
SHOWN = {"train": 8, "val": 4, "test": 4}
"""Tiles of each split on the contact sheet."""


def build_labelled_dataset(
    *,
    config: Config,
    samples: Mapping[str, Sample],
    labels: Path,
    output: Path,
    readable: Mapping[str, str | Path] | None = None,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Make a YOLO detection set of the labelled regions of the cohort's slides.

    Parameters
    ----------
    config
        `dataset` says how; `geojson.frame` where the coordinates begin.
    samples
        The sheet. Slides without a file of labels take no part.
    labels
        Folder of `<slide_id>.geojson` (or `.geojson.zip`, `.geojson.gz`).
    output
        Folder of the set, replaced as a whole when the new one is complete: `data.yaml`, `images`, `labels`,
        `tiles.csv` (where each tile lies on its slide), `counts.csv`, `counts.json`, `contact_sheet.jpg` and
        `recipe.json`.
    readable
        File that is read by region, by slide id, where it is not the sheet's own: the pyramid made of a flat
        picture.
    progress
        Told how many tiles are cut; None: the job's log is.

    Raises
    ------
    InputError
        One line: the file, what is wrong with it, the cure. Nothing is written then.
    """
    from ercohort.labels import yolo_set
    from ercohort.labels.set_record import write_counts, write_recipe
    from ercohort.labels.splits import group_slides, split_groups

    settings = config.dataset
    names = tuple(dict.fromkeys(settings.classes.values()))
    yolo_set.check_class_names(names, "dataset.classes")
    files = find_label_files(labels, samples)
    groups = group_slides(samples, files, settings.split_by)
    slides = [
        _read_slide(samples[slide_id], groups[slide_id], file, (readable or {}).get(slide_id), config)
        for slide_id, file in files.items()
    ]
    counts: dict[str, Any] = {}
    for slide in slides:
        counts[slide.group] = np.add(counts.get(slide.group, 0), slide.counts(names))
    split = split_groups(counts, validation_share=settings.validation_share,
                         test_share=settings.test_share, seed=settings.seed)  # fmt: skip
    for slide in slides:
        slide.split = split[slide.group]
    _check_classes(slides, names)
    with yolo_set.new_folder(output) as folder:
        shown = _cut_tiles(folder, slides, names, settings, progress or _log_progress)
        yolo_set.write_data_yaml(folder, names)
        write_counts(folder, slides, names)
        write_recipe(folder, slides, config)
        _draw_sheet(folder, slides, names, shown, settings.mpp)
        made = replace(yolo_set.check_dataset(folder / "data.yaml"), folder=output)
    LOGGER.info("%s", made.summary())
    return made


def find_label_files(folder: Path, samples: Mapping[str, Sample]) -> dict[str, Path]:
    """Find the file of labels of each slide, in the order of the sheet.

    Raises
    ------
    InputError
        There is none, one is of no slide of the sheet, or a slide has two.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        if suffix is None or path.name.startswith("."):
            continue
        slide_id = path.name.removesuffix(suffix)
        if slide_id not in samples:
            close = difflib.get_close_matches(slide_id, samples, n=1)
            hint = f"did you mean {close[0]}{suffix}?" if close else "rename it after its slide_id"
            raise InputError(f"{path}: the sheet has no slide {slide_id!r}; {hint}")
        if slide_id in found:
            raise InputError(f"{path}: {found[slide_id].name} is of the same slide; keep one of them")
        found[slide_id] = path
    if not found:
        raise InputError(
            f"{folder}: holds no <slide_id>.geojson; run snakemake prelabel, correct its files in QuPath and "
            "export them there"
        )
    return {slide_id: found[slide_id] for slide_id in samples if slide_id in found}


def _read_slide(
    sample: Sample, group: str, file: Path, readable: str | Path | None, config: Config
) -> LabelledSlide:
    from ercohort.labels.annotations import read_labels
    from ercohort.labels.set_record import LabelledSlide
    from ercohort.labels.training_tiles import lay_out_windows
    from ercohort.slide.probe import probe

    settings = config.dataset
    try:
        info = probe(_converted(readable) if readable else sample.path, mpp=sample.mpp)
    except SlideError as error:
        raise InputError(f"slide {sample.slide_id} has labels, but {error.message}") from None
    if info.mpp > 1.2 * settings.mpp:
        LOGGER.warning("%s: %.3g µm per pixel is coarser than dataset.mpp %.3g: its tiles are enlarged",
                       sample.slide_id, info.mpp, settings.mpp)  # fmt: skip
    labels = read_labels(file, classes=settings.classes, ignore=settings.ignore, info=info,
                         frame=config.geojson.frame, point_um=settings.point_um)  # fmt: skip
    windows = lay_out_windows(labels.regions, slide_mpp=info.mpp, mpp=settings.mpp, tile_px=settings.tile_px)
    LOGGER.info("%s: %d regions, %d nuclei in them, %d outside, %d ignored", sample.slide_id,
                len(labels.regions), len(labels.boxes), labels.n_outside, len(labels.ignored))  # fmt: skip
    return LabelledSlide(sample.slide_id, group, file, info, labels, windows)


def _converted(readable: str | Path) -> str:
    """Pyramid of a flat picture; the record beside it says why where there is none."""
    record = Path(readable).with_suffix(".json")
    if Path(readable).name == "converted.tif" and record.is_file():
        result = read_json(record)
        if result["status"] != Status.OK:
            raise SlideError(Status(result["status"]), result["message"])
    return str(readable)


def _check_classes(slides: list[LabelledSlide], names: tuple[str, ...]) -> None:
    """Refuse a class without nuclei in training; warn where it lacks them in another split."""
    from ercohort.labels.set_record import counts_by_split

    for split, counts in counts_by_split(slides, names).items():
        for name in (name for name, count in counts.items() if not count):
            if split == "train":
                raise InputError(
                    f"class {name} has no nucleus in the training slides; label some, "
                    "or remove the class from dataset.classes"
                )
            LOGGER.warning("class %s has no nucleus in split %s: its scores there mean nothing", name, split)


def _cut_tiles(
    folder: Path,
    slides: list[LabelledSlide],
    names: tuple[str, ...],
    settings: DatasetSettings,
    progress: Progress,
) -> list[ShownTile]:
    """Write all tiles; return those of the contact sheet."""
    from ercohort.labels.contact_sheet import ShownTile
    from ercohort.labels.training_tiles import cut_tile
    from ercohort.labels.yolo_set import write_tile
    from ercohort.slide import open_slide

    chosen = _choose_shown(slides, settings.seed)
    shown: dict[str, ShownTile] = {}
    total, done = sum(len(slide.windows) for slide in slides), 0
    with open(folder / "tiles.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(("name", "split", "slide_id", "region", "x", "y", "side"))
        for slide in slides:
            n_boxes = np.zeros(len(names), np.int64)
            try:
                with open_slide(slide.info.path, info=slide.info) as pixels:
                    for window in slide.windows:
                        tile = cut_tile(pixels, window, slide.labels, names, tile_px=settings.tile_px)
                        name = window.name(slide.slide_id)
                        write_tile(folder, slide.split, name, tile)
                        table.writerow((name, slide.split, slide.slide_id, window.region, window.x, window.y,
                                        window.side))  # fmt: skip
                        n_boxes += np.bincount(tile.classes, minlength=len(names))
                        if name in chosen:
                            shown[name] = ShownTile(slide.split, slide.slide_id, window.region, tile)
                        done += 1
                        progress(done, total)
            except SlideError as error:
                raise InputError(f"slide {slide.slide_id} has labels, but {error.message}") from None
            slide.n_boxes = dict(zip(names, n_boxes.tolist(), strict=True))
    return [shown[name] for name in chosen]


def _choose_shown(slides: list[LabelledSlide], seed: int) -> list[str]:
    """Choose tiles for the contact sheet at random: slides in turn, and of a slide its regions in turn."""
    rng = np.random.default_rng([seed, 0xC5])
    names = []
    for split, n_shown in SHOWN.items():
        tiles = [
            (slide.slide_id, window.region, window.name(slide.slide_id))
            for slide in slides if slide.split == split for window in slide.windows
        ]  # fmt: skip
        tiles = [tiles[index] for index in rng.permutation(len(tiles)).tolist()]
        tiles = _take_turns(tiles, [(slide_id, region) for slide_id, region, _ in tiles])
        tiles = _take_turns(tiles, [slide_id for slide_id, _, _ in tiles])
        names += [name for _, _, name in tiles[:n_shown]]
    return names


def _take_turns(items: list[_Item], keys: Sequence[Hashable]) -> list[_Item]:
    """Order items so that the first of every key come before the second of any."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for key in keys:
        turns.append(seen[key])
        seen[key] += 1
    return [items[index] for index in np.argsort(turns, kind="stable").tolist()]


def _draw_sheet(
    folder: Path, slides: list[LabelledSlide], names: tuple[str, ...], shown: list[ShownTile], mpp: float
) -> None:
    from ercohort.labels.contact_sheet import write_contact_sheet
    from ercohort.labels.set_record import counts_by_split

    counts = counts_by_split(slides, names)
    n_tiles = {split: sum(len(slide.windows) for slide in slides if slide.split == split) for split in counts}
    write_contact_sheet(folder / "contact_sheet.jpg", tiles=shown, counts=counts, n_tiles=n_tiles, mpp=mpp)


def _log_progress(done: int, total: int) -> None:
    """Tell the job's log how far it is, every tenth of the tiles."""
    if done * 10 // total > (done - 1) * 10 // total:
        LOGGER.info("%d of %d tiles", done, total)
