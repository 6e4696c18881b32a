"""What may be wrong with a slide, judged: each number beside its threshold, and the sentence for a person.

A flag is a hint to look, and changes no score. `FLAGS` is the one table of them: the settings, `qc_flags`,
`summary.json`, the report and the manual follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from ercohort.config import QualitySettings, ScoreSettings
from ercohort.quality import QualityRecord
from ercohort.record import SlideRecord

NUCLEI_DAB_QUANTILE = 0.999
"""A slide has brown nuclei if one in a thousand is brown: an internal control may be that small."""


@dataclass(frozen=True)
class Flag:
    """One thing that may be wrong.

    Attributes
    ----------
    name
        As in `qc_flags`.
    number
        What is measured.
    unit
        `%` for shares, which are stored as 0 to 1.
    side
        Whether numbers above or below the threshold raise the flag.
    meaning
        What a pathologist reads: what it may be, and what to do.
    """

    name: str
    number: str
    unit: str
    side: Literal["above", "below"]
    meaning: str

    def is_raised(self, value: float | None, threshold: float | None) -> bool:
        """Judge a number; without one, or without a threshold, there is nothing to raise."""
        if value is None or threshold is None:
            return False
        return value > threshold if self.side == "above" else value < threshold

    def shown(self, value: float, threshold: float) -> str:
        """Return the number and its threshold as a person reads them."""
        limit = "most" if self.side == "above" else "least"
        values = [self._text(number) for number in (value, threshold)]
        return f"{self.number} {values[0]} (at {limit} {values[1]})"

    def _text(self, number: float) -> str:
        if self.unit == "%":
            return f"{100 * number:.3g} %"
        text = f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
        return f"{text} {self.unit}".strip()


FLAGS = (
    Flag(
        "out_of_focus", "patches out of focus", "%", "above",
        "much of the tissue is blurred, and nuclei are missed or misjudged there: scan the slide again",
    ),
    Flag(
        "pen", "tissue with the colours of ink", "%", "above",
        "pen or ink is taken for tissue: look at thumbnail.jpg; clean the glass and scan again, or leave the "
        "marks out with a region",
    ),
    Flag(
        "folds", "dark, thick tissue", "%", "above",
        "folded or very thick tissue, or stain caught under it: nuclei lie upon each other and seem darker; "
        "leave such places out with a region",
    ),
    Flag(
        "bubbles", "tissue under air bubbles", "%", "above",
        "air under the coverslip: nuclei are blurred under it and hidden by its dark rim; mount and scan the "
        "slide again, or leave such places out with a region",
    ),
    Flag(
        "faint_counterstain", "haematoxylin optical density of the nuclei", "", "below",
        "hardly any blue: negative nuclei are missed, and the percentage of positive ones is too high",
    ),
    Flag(
        "no_dab", "DAB optical density of the brownest nuclei", "", "below",
        "no brown anywhere: failed stain or true negative; check the control",
    ),
    Flag(
        "other_stain", "nuclei that their optical density would class otherwise", "%", "above",
        "brown and the detector disagree on many nuclei: this may be another stain than DAB with "
        "haematoxylin (H&E, for one), or stained unlike any slide that the detector was made for; look at "
        "fields.jpg",
    ),
    Flag(
        "saturated", "stained pixels at an end of the range", "%", "above",
        "the scan is over- or underexposed, or its contrast was raised: colours are lost, and optical "
        "densities, grades and H-score are unsure",
    ),
    Flag(
        "density_low", "density", "nuclei/mm²", "below",
        "few nuclei for this much tissue: right where it is mostly fat, stroma or necrosis; else nuclei are "
        "missed (look at overlay.jpg), or the scale (mpp) is wrong",
    ),
    Flag(
        "density_high", "density", "nuclei/mm²", "above",
        "more nuclei than tissue can hold: look whether one nucleus was counted several times, or the scale "
        "(mpp) is wrong",
    ),
    Flag(
        "mpp_mismatch", "scale of the sheet differs from the file's by", "%", "above",
        "the sheet and the slide file state different scales (mpp), and the sheet's was used: check which is "
        "right",
    ),
    Flag(
        "low_resolution", "times coarser than the detector's scale", "", "above",
        "the slide is much coarser than the detector's scale: nuclei are recognised less well",
    ),
    Flag("few_nuclei", "nuclei", "", "below", "few nuclei: the percentage is uncertain"),
    Flag(
        "tiles_failed", "tiles that could not be read", "%", "above",
        "a part of the slide could not be read and is not counted: copy or scan it again",
    ),
    Flag(
        "boxes_dropped", "detections that are no numbers", "", "above",
        "the network gave numbers that are no nuclei, and these were left out: check the model and the GPU",
    ),
)  # fmt: skip

Judgements = dict[str, dict[str, Any]]
"""By the name of the flag: `value`, `threshold` (either may be None) and `raised`."""


def judge(numbers: Mapping[str, float | None], settings: QualitySettings, *, min_nuclei: int) -> Judgements:
    """Judge the numbers of a slide or a region, in the order of `FLAGS`; flags without a number are left out.

    Parameters
    ----------
    numbers
        By the name of the flag; None where there was nothing to measure on.
    min_nuclei
        `scores.min_nuclei`, the threshold of `few_nuclei`.
    """
    thresholds = {**settings.model_dump(), "few_nuclei": min_nuclei, "boxes_dropped": 0}
    return {
        flag.name: {
            "value": numbers[flag.name],
            "threshold": thresholds[flag.name],
            "raised": flag.is_raised(numbers[flag.name], thresholds[flag.name]),
        }
        for flag in FLAGS
        if flag.name in numbers
    }


def qc_flags(judgements: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what goes into `qc_flags`: the names of the flags that are raised, joined by `;`."""
    return ";".join(name for name, judged in judgements.items() if judged["raised"]) or None


def explain(judgements: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return of each flag that is raised its `name`, its `meaning` and its `number` with the threshold."""
    return [
        {
            "name": flag.name,
            "meaning": flag.meaning,
            "number": flag.shown(judged["value"], judged["threshold"]),
        }
        for flag in FLAGS
        if (judged := judgements.get(flag.name)) and judged["raised"]
    ]


def count_numbers(
    *,
    n_nuclei: int,
    tissue_mm2: float | None,
    mpp: float | None,
    detector_mpp: float | None,
    n_tiles: int | None,
    n_tiles_failed: int | None,
) -> dict[str, float | None]:
    """Return the numbers that rest on the count; no nuclei at all is a status, and no flag."""
    density = n_nuclei / tissue_mm2 if tissue_mm2 and n_nuclei else None
    return {
        "density_low": density,
        "density_high": density,
        "low_resolution": mpp / detector_mpp if mpp and detector_mpp else None,
        "few_nuclei": n_nuclei or None,
        "tiles_failed": (n_tiles_failed or 0) / n_tiles if n_tiles else None,
    }


def judge_slide(
    slide: SlideRecord,
    row: Mapping[str, Any],
    nuclei: pl.DataFrame | None,
    settings: QualitySettings,
    scores: ScoreSettings,
    *,
    detector_mpp: float,
    n_dropped: int,
) -> Judgements:
    """Judge all numbers of a slide, also where it could not be counted.

    Parameters
    ----------
    row
        What `scoring.summarise` returns, or as much of it as is known.
    nuclei
        With the column `dab_od`; None where the slide was not counted.
    n_dropped
        Boxes of the network that were no numbers.
    """
    counted = count_numbers(
        n_nuclei=row.get("n_nuclei") or 0,
        tissue_mm2=row.get("tissue_mm2"),
        mpp=slide.info.mpp if slide.info else None,
        detector_mpp=detector_mpp,
        n_tiles=row.get("n_tiles"),
        n_tiles_failed=row.get("n_tiles_failed"),
    )
    disagree = row.get("percent_od_disagrees")
    numbers = {
        **counted,
        **_slide_numbers(slide, nuclei, settings),
        "other_stain": None if disagree is None else disagree / 100,
        "boxes_dropped": n_dropped,
    }
    return judge(numbers, settings, min_nuclei=scores.min_nuclei)


def _slide_numbers(
    slide: SlideRecord, nuclei: pl.DataFrame | None, settings: QualitySettings
) -> dict[str, float | None]:
    """Return the numbers that rest on the slide itself and on the optical density of its nuclei."""
    measured = slide.quality or QualityRecord((), None, None, None, None, None)
    sharp = [patch.sharpness >= settings.least_sharpness for patch in measured.patches]
    brownest = nuclei["dab_od"].quantile(NUCLEI_DAB_QUANTILE) if nuclei is not None else None
    return {
        "out_of_focus": 1 - sum(sharp) / len(sharp) if sharp else None,
        "pen": measured.pen_share,
        "folds": measured.thick_share,
        "bubbles": measured.bubble_share,
        "faint_counterstain": measured.hematoxylin_od,
        "no_dab": measured.dab_od if brownest is None else brownest,
        "saturated": measured.clipped_share,
        "mpp_mismatch": _mismatch(slide),
    }


def _mismatch(slide: SlideRecord) -> float | None:
    """Return by what part the sheet's scale differs from the file's; None unless both state one."""
    info = slide.info
    if info is None or info.mpp_source != "sheet" or info.file_mpp is None:
        return None
    return max(info.mpp, info.file_mpp) / min(info.mpp, info.file_mpp) - 1
