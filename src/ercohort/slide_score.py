"""The score of a slide and of each of its regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ercohort.config import QualitySettings, RegionSettings, ScoreSettings
from ercohort.errors import SlideError, Status
from ercohort.gone import gone_error
from ercohort.grading import grade
from ercohort.record import TissueRecord
from ercohort.roi import TISSUE, Roi
from ercohort.scoring import summarise
from ercohort.slide import SlideInfo
from ercohort.slide.fingerprint import content_hash


@dataclass(frozen=True)
class RegionChoice:
    """Which regions of a slide count.

    Attributes
    ----------
    file
        QuPath file of the regions; None: all tissue counts.
    settings
        What its classes mean.
    frame
        Frame of its coordinates, unless it states its own.
    content
        Hash of the file as the run, or the slide's results, know it; None: nobody expects it to be there.
    """

    file: str | None = None
    settings: RegionSettings = field(default_factory=RegionSettings)
    frame: Literal["qupath", "slide"] = "qupath"
    content: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> RegionChoice:
        """Make one from a rule's parameter, which is None where all tissue counts."""
        if values is None:
            return cls()
        return cls(values["file"], RegionSettings(**values["settings"]), values["frame"], values["content"])

    def read(self, info: SlideInfo) -> Roi | None:
        """Read the regions; None where all tissue counts.

        Raises
        ------
        SlideError
            The file is no use.
        MachineError
            A file that was expected is gone: that is no fault of the slide, and replaces no results.
        """
        if self.file is None:
            return None
        from ercohort.roi_file import read_roi

        if self.content is not None and content_hash(self.file) is None:
            raise gone_error(self.file, "change `roi` in the sheet")
        return read_roi(self.file, info=info, settings=self.settings, frame=self.frame)


@dataclass(frozen=True)
class SlideScore:
    """What is known of a slide's nuclei.

    Attributes
    ----------
    nuclei
        Those that lie in a region, graded.
    row
        What `scoring.summarise` returns, of the regions that count, with `region`.
    regions
        The same of each region, with `region` and `counted`: whether it counts in `row`.
    """

    nuclei: pl.DataFrame
    row: dict[str, Any]
    regions: list[dict[str, Any]]


def score_slide(
    nuclei: pl.DataFrame,
    *,
    info: SlideInfo,
    tissue: TissueRecord,
    mask: Path,
    scores: ScoreSettings,
    quality: QualitySettings,
    choice: RegionChoice,
    detector_mpp: float,
    false_positive_percent: float | None,
    n_tiles: int,
    n_tiles_failed: int,
) -> SlideScore:
    """Grade the nuclei, give each its region, and score the slide and its regions.

    Parameters
    ----------
    nuclei
        Rows of `schema.NUCLEI`.
    mask
        The tissue mask, for the area of the regions.

    Raises
    ------
    SlideError
        The file of the regions is no use, or no tissue lies in them.
    """
    nuclei = nuclei.with_columns(grade(nuclei, scores))
    score = partial(
        summarise,
        settings=scores,
        quality=quality,
        false_positive_percent=false_positive_percent,
        mpp=info.mpp,
        detector_mpp=detector_mpp,
    )
    score_all = partial(score, n_tiles=n_tiles, n_tiles_failed=n_tiles_failed)
    roi = choice.read(info)
    if roi is None:
        nuclei = nuclei.with_columns(region=pl.lit(TISSUE))
        row = {**score_all(nuclei, tissue_mm2=tissue.area_mm2), "region": TISSUE}
        return SlideScore(nuclei, row, [{**row, "counted": True}])
    nuclei = roi.place(nuclei)
    area = _areas(roi, mask, tissue, info)
    regions = [
        {
            **score(nuclei.filter(pl.col("region") == name), tissue_mm2=area[name]),
            "region": name,
            "counted": name not in roi.apart,
        }
        for name in roi.names
    ]
    row = score_all(
        nuclei.filter(pl.col("region").is_in(roi.counted)),
        tissue_mm2=sum(area[name] for name in roi.counted),
    )
    said = "; ".join(f"{choice.file}: {note}" for note in roi.notes)
    row["message"] = "; ".join(filter(None, [row["message"], said]))
    row["region"] = ";".join(roi.counted) or None
    return SlideScore(nuclei, row, regions)


def _areas(roi: Roi, mask: Path, tissue: TissueRecord, info: SlideInfo) -> dict[str, float]:
    from ercohort.tissue import load_tissue_mask

    downsample = (tissue.downsample_x, tissue.downsample_y)
    area = roi.tissue_mm2(load_tissue_mask(mask, margin=False), downsample, info.mpp)
    if not area.any():
        raise SlideError(
            Status.NO_TISSUE,
            "no tissue lies in the slide's regions; look at tissue.png and the file of `roi`",
        )
    return dict(zip(roi.names, area.tolist(), strict=True))
