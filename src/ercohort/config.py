"""Settings of a run, with their defaults, limits and meaning.

These models are the single source: `config/config.yaml` is checked against them before any job starts,
and `workflow/schemas/config.schema.json` is generated from them for editors.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ercohort.errors import InputError


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot change after they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        0.50, gt=0.0, lt=1.0, description="Two boxes that overlap more than this (IoU) are one nucleus."
    )
    seam_ios: float = Field(
        0.70, gt=0.0, lt=1.0,
        description="At a seam, a cut box that lies this much (IoS) inside another is the same nucleus.",
    )  # fmt: skip
    max_failed_share: float = Field(
        0.50, ge=0.0, le=1.0,
        description="A slide of which more than this share of tiles cannot be read is `unreadable`.",
    )  # fmt: skip


class GeoJSONSettings(Settings):
    """The QuPath file."""

    frame: Literal["qupath", "slide"] = Field(
        "qupath", description="Origin of the coordinates: QuPath's (bounds cropped) or OpenSlide's."
    )
    features_per_file: int = Field(
        250_000, ge=1_000, le=1_000_000,
        description="Nuclei per file inside the zip; QuPath needs about 1.1 GB of heap for 250,000.",
    )  # fmt: skip


class Config(Settings):
    """Everything in `config/config.yaml`."""

    samples: str = Field("config/samples.tsv", description="The sheet of slides.")
    model: str = Field("models/er-yolov8n.onnx", description="The detector, an ONNX file.")
    backend: Literal["auto", "openvino", "tensorrt"] = Field("auto", description="What runs the detector.")
    precision: Literal["auto", "f32", "bf16"] = Field(
        "auto", description="Arithmetic of the CPU backend; auto is bf16 where the CPU has it, else f32."
    )
    strict: bool = Field(False, description="End the run with an error if any slide has a bad status.")
    tissue: TissueSettings = TissueSettings()
    tiles: TileSettings = TileSettings()
    detect: DetectSettings = DetectSettings()
    geojson: GeoJSONSettings = GeoJSONSettings()


def check_config(values: dict[str, Any], source: str = "config/config.yaml") -> Config:
    """Turn the values of a config file into a `Config`.

    Raises
    ------
    InputError
        Names the file, the key, what is wrong and the cure; one line per wrong key.
    """
    # A section with nothing under it is null in YAML; it means the defaults.
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        lines = [f"{source}: {_explain(item)}" for item in error.errors()]
        raise InputError("\n".join(lines)) from None


def load_config(path: str | Path) -> Config:
    """Read and check a YAML config file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold `key: value` lines; see config/README.md")
    return check_config(values, str(path))


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(item["loc"][-1]), _keys_beside(item["loc"]), n=1)
        hint = f"; did you mean `{close[0]}`?" if close else "; config/README.md lists the keys"
        return f"`{key}` is not a known key{hint}"
    return f"`{key}` is {item['input']!r}: {item['msg'][0].lower() + item['msg'][1:]}; see config/README.md"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in location[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
