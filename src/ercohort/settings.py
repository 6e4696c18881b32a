"""The sections of the settings: what each key means, its default and its limits.

`config.Config` holds them all, and is what a config file is checked against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ercohort.inert import is_inert


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot change after they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _is_plain_text(cls, value: Any) -> Any:
        for text in _texts(value):
            if not is_inert(text):
                raise ValueError("a control or hidden character, or a space at an end, is in it; remove it")
        return value


class TissueSettings(Settings):
    """How tissue is told from glass."""

    mpp: float = Field(8.0, ge=1.0, le=64.0, description="Scale of the tissue mask, µm per pixel.")
    min_od: float = Field(
        0.03, ge=0.005, le=0.5,
        description="Least optical density above the glass, smoothed, that counts as tissue. "
        "Lower it if pale tissue is missed.",
    )  # fmt: skip
    min_area_mm2: float = Field(0.02, ge=0.0, le=10.0, description="Smaller pieces are dropped, mm².")
    margin_um: float = Field(40.0, ge=0.0, le=500.0, description="The mask is widened by this much, µm.")


class QualitySettings(Settings):
    """When a slide gets a quality flag; null: never. Flags are hints to look, and change no score."""

    least_sharpness: float = Field(
        0.10, ge=0.0, description="A patch less sharp is out of focus: blurred by about 2 µm or more."
    )
    out_of_focus: float | None = Field(
        0.25, ge=0.0, le=1.0, description="Most patches out of focus, a share."
    )
    pen: float | None = Field(
        0.005, ge=0.0, le=1.0, description="Most tissue with the colours of ink, a share."
    )
    folds: float | None = Field(
        0.02, ge=0.0, le=1.0, description="Most tissue that is dark throughout, a share."
    )
    bubbles: float | None = Field(0.01, ge=0.0, le=1.0, description="Most tissue under air bubbles, a share.")
    faint_counterstain: float | None = Field(
        0.06, ge=0.0, description="Least optical density of haematoxylin in the bluest nuclei."
    )
    no_dab: float | None = Field(0.20, ge=0.0, description="Least DAB density of the brownest nuclei.")
    other_stain: float | None = Field(
        0.30,
        ge=0.0,
        le=1.0,
        description="Most nuclei that their optical density would class otherwise, a share.",
    )
    saturated: float | None = Field(0.12, ge=0.0, le=1.0, description="Most stained pixels clipped, a share.")
    density_low: float | None = Field(500.0, ge=0.0, description="Least nuclei per mm² of tissue.")
    density_high: float | None = Field(20_000.0, ge=0.0, description="Most nuclei per mm² of tissue.")
    mpp_mismatch: float | None = Field(
        0.05, ge=0.0, description="Greatest difference of the sheet's mpp from the file's, a share."
    )
    low_resolution: float | None = Field(
        1.5, ge=0.0, description="Most of the slide's mpp by the detector's."
    )
    tiles_failed: float | None = Field(
        0.01, ge=0.0, le=1.0, description="Most tiles that are unreadable, a share."
    )

    @model_validator(mode="after")
    def _densities_in_order(self) -> Self:
        low, high = self.density_low, self.density_high
        if low is not None and high is not None and low >= high:
            raise ValueError(f"density_low {low:g} is not below density_high {high:g}; change one")
        return self


class StainSettings(Settings):
    """The colours that optical densities are unmixed with."""

    vectors: Literal["default", "estimate"] = Field(
        "default",
        description="Stain vectors: QuPath's, or estimated from each slide. An estimate that is implausible "
        "is not used, and the table says so.",
    )


class TileSettings(Settings):
    """How the slide is cut for the detector, in pixels at the detector's scale."""

    tile_px: int = Field(640, ge=128, le=4096, multiple_of=32, description="Side of a tile, pixels.")
    halo_px: int = Field(
        32, ge=16, le=512,
        description="Margin around the core, pixels. Nuclei up to twice this size are never cut.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _core_is_left(self) -> Self:
        if self.tile_px - 2 * self.halo_px < self.tile_px // 4:
            raise ValueError(f"halo_px {self.halo_px} leaves too little of tile_px {self.tile_px}; lower it")
        return self


class DetectSettings(Settings):
    """The detector's operating point."""

    score: float = Field(0.25, gt=0.0, lt=1.0, description="Least score of a detection.")
    nms_iou: float = Field(
        0.30, gt=0.0, lt=1.0, description="Two boxes that overlap more than this (IoU) are one nucleus."
    )
    seam_ios: float = Field(
        0.70, gt=0.0, lt=1.0,
        description="At a seam, a cut box that lies this much (IoS) inside another is the same nucleus.",
    )  # fmt: skip
    min_dab_od: float | None = Field(
        None, ge=0.0, le=3.0,
        description="A nucleus whose mean DAB optical density is below this is negative; null leaves the "
        "class to the detector.",
    )  # fmt: skip
    max_failed_share: float = Field(
        0.50, ge=0.0, le=1.0,
        description="A slide of which more than this share of tiles cannot be read is `unreadable`.",
    )  # fmt: skip


class TensorRtSettings(Settings):
    """The GPU backend: what its engine is built for, and where engines are kept."""

    batch: int = Field(8, ge=1, le=64, description="Tiles that go through the network together.")
    streams: int = Field(3, ge=2, le=4, description="Batches in the network at the same time.")
    min_px: int = Field(
        320, ge=32, le=4096, multiple_of=32, description="Least side of a tile that an engine takes, pixels."
    )
    max_px: int = Field(
        1280, ge=32, le=4096, multiple_of=32,
        description="Greatest side of a tile that an engine takes, pixels. tiles.tile_px must lie between.",
    )  # fmt: skip
    store: str | None = Field(
        None, description="Folder of the engines; null: $ERCOHORT_ENGINES, or else ~/.cache/ercohort/engines."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_px > self.max_px:
            raise ValueError(f"min_px {self.min_px} is above max_px {self.max_px}; lower it")
        return self


class ScoreSettings(Settings):
    """Intensity scores, and what makes a score doubtful."""

    dab_od: list[float] = Field(
        [0.2, 0.4, 0.6], min_length=3, max_length=3,
        description="Least mean DAB optical density of a 1+, 2+ and 3+ nucleus; QuPath's thresholds.",
    )  # fmt: skip
    grade_by: Literal["detector", "dab_od"] = Field(
        "detector",
        description="detector: a nucleus is 0 where the detector calls it negative and 1+ at least where it "
        "calls it positive. dab_od: the optical density alone, as in QuPath.",
    )
    allred: Literal["cap", "qupath"] = Field(
        "cap", description="Table of Allred's score: the CAP's or QuPath's."
    )
    min_nuclei: int = Field(
        100,
        ge=0,
        description="A slide with fewer nuclei is flagged `few_nuclei`; below 100, one is over 1 %.",
    )

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        if not 0.0 < self.dab_od[0] < self.dab_od[1] < self.dab_od[2] <= 3.0:
            raise ValueError(f"dab_od {list(self.dab_od)} must rise, from above 0 to at most 3")
        return self


class RegionSettings(Settings):
    """Regions drawn in QuPath (column `roi` of the sheet): what their classes mean."""

    classes: dict[str, str] = Field(
        {"Ignore*": "exclude", "Exclude": "exclude", "Necrosis": "exclude", "Artifact": "exclude",
         "Tumor": "tumour", "Region*": "roi"},
        description="Class in QuPath: exclude, or the name of the region. Other classes name their region "
        "themselves; annotations without a class are roi.",
    )  # fmt: skip
    apart: list[str] = Field(
        ["Control", "Stroma", "Immune cells", "Other"],
        description="Regions with a row of their own that do not count in the slide's row.",
    )


class GeoJSONSettings(Settings):
    """The QuPath file."""

    frame: Literal["qupath", "slide"] = Field(
        "qupath", description="Origin of the coordinates: QuPath's (bounds cropped) or OpenSlide's."
    )
    features_per_file: int = Field(
        250_000, ge=1_000, le=1_000_000,
        description="Nuclei per file inside the zip; QuPath needs about 1.1 GB of heap for 250,000.",
    )  # fmt: skip


class PrelabelSettings(Settings):
    """`snakemake prelabel`: regions to correct in QuPath."""

    regions: int = Field(4, ge=1, le=1000, description="Regions picked on each slide.")
    region_um: float = Field(160.0, ge=20.0, le=5000.0, description="Side of a region, µm.")
    seed: int = Field(1, ge=0, description="Decides which regions are picked.")
    choose: Literal["random", "uncertain"] = Field(
        "random", description="Regions at random, or those whose nuclei the model is least sure of."
    )
    finder: Literal["model", "classical"] = Field(
        "model", description="What finds the nuclei; classical needs no trained detector."
    )


class DatasetSettings(Settings):
    """`snakemake dataset`: corrected QuPath files to a training set."""

    labels: str = Field("labels", description="Folder of corrected files, <slide_id>.geojson each.")
    classes: dict[str, str] = Field(
        {"Positive": "Positive", "Negative": "Negative"},
        min_length=1, description="Class in QuPath: class of the detector. The order of the detector's "
        "classes is the order in which they first appear.",
    )  # fmt: skip
    ignore: list[str] = Field(
        ["Ignore*", "Other"], description="QuPath classes of nuclei that are neither taught nor counted."
    )
    mpp: float = Field(0.5, ge=0.1, le=2.0, description="Scale of the training tiles, µm per pixel.")
    tile_px: int = Field(320, ge=128, le=1280, multiple_of=32, description="Side of a training tile, pixels.")
    point_um: float = Field(9.0, ge=2.0, le=40.0, description="Side of the box that a point becomes, µm.")
    split_by: str = Field(
        "slide_id",
        description="Column of the sheet whose values never fall in two splits: slide_id, patient.",
    )
    validation_share: float = Field(0.2, ge=0.0, lt=1.0, description="Share of slides for early stopping.")
    test_share: float = Field(0.0, ge=0.0, lt=1.0, description="Share of slides kept out of training.")
    seed: int = Field(1, ge=0, description="Decides the split.")


class TrainingSettings(Settings):
    """`snakemake train`: the network and how it is optimised."""

    network: Literal["yolov8n", "yolov8n-p2", "yolov8s", "yolov8s-p2", "yolov8m"] = Field(
        "yolov8n", description="Size of the network; p2 adds a finer head for small nuclei."
    )
    base: str | None = Field(
        "models/er-yolov8n.onnx", description="Weights to start from, an ONNX detector; null: from scratch."
    )
    use_labels: bool = Field(True, description="Train on the set that `dataset` makes.")
    nuinsseg: str | None = Field(
        None, description="Folder of outlined H&E tiles (NuInsSeg) that are repainted as virtual IHC."
    )
    n_virtual: int = Field(0, ge=0, description="Virtual IHC tiles, made from `nuinsseg`.")
    n_simulated: int = Field(0, ge=0, description="Tiles of simulated slides.")
    hours: float = Field(1.0, gt=0.0, description="Training ends after this time.")
    epochs: int = Field(100, ge=1, description="Training ends after this many passes over the tiles.")
    patience: int = Field(20, ge=0, description="Epochs without gain before it stops; 0: never stops early.")
    batch: int = Field(8, ge=1, description="Tiles per step.")
    learning_rate: float = Field(
        0.0003, gt=0.0, le=0.1, description="Of AdamW, at its highest; 0.0012 suits a start from scratch."
    )
    balanced: bool = Field(True, description="Tiles that hold rare classes are drawn more often.")
    seed: int = Field(1, ge=0, description="Of weights, tiles and their order.")

    @model_validator(mode="after")
    def _has_tiles(self) -> Self:
        if self.n_virtual and not self.nuinsseg:
            raise ValueError("n_virtual needs nuinsseg, the folder of outlined H&E tiles")
        if not (self.use_labels or self.n_virtual or self.n_simulated):
            raise ValueError("nothing to train on; set use_labels, n_virtual or n_simulated")
        return self


class EvaluateSettings(Settings):
    """`snakemake evaluate`: the model against annotated nuclei."""

    truth: str = Field("labels", description="Annotated nuclei: a folder as `ercohort evaluate` reads it.")
    radius_um: float = Field(5.0, gt=0.0, le=50.0, description="Greatest distance of a pair, µm.")
    lowest_score: float = Field(0.05, gt=0.0, lt=1.0, description="Where the curves over the score begin.")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of the slides, for intervals.")
    seed: int = Field(1, ge=0, description="Of the resamples.")


class ExportSettings(Settings):
    """`snakemake export`: the trained detector as files that the workflow runs."""

    name: str = Field(
        "detector", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the files and of the model."
    )
    version: str = Field("1", min_length=1, description="Version, shown in the table.")
    int8: bool = Field(True, description="Try an int8 file; it is kept only if it agrees with float32.")
    calibration_tiles: int = Field(128, ge=8, le=5000, description="Tiles that set the int8 ranges.")
    false_positive_percent: float | None = Field(
        None, ge=0.0, le=100.0,
        description="Negative nuclei that it calls positive, percent, as `evaluate` measured it; the files "
        "state it, and `borderline` rests on it. null: they state nothing.",
    )  # fmt: skip


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a checked value: itself, or those in its list or mapping."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for text in pair if isinstance(text, str))
    elif isinstance(value, list):
        yield from (text for text in value if isinstance(text, str))
