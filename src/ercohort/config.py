"""Settings of a run, with their defaults, limits and meaning.

These models are the single source: `config/config.yaml` is checked against them before any job starts,
and `workflow/schemas/config.schema.json` is generated from them for editors.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from ercohort.errors import InputError
from ercohort.files import read_text
from ercohort.inert import first_few, shown
from ercohort.settings import (
    DatasetSettings,
    DetectSettings,
    EvaluateSettings,
    ExportSettings,
    GeoJSONSettings,
    PrelabelSettings,
    QualitySettings,
    RegionSettings,
    ScoreSettings,
    Settings,
    StainSettings,
    TensorRtSettings,
    TileSettings,
    TissueSettings,
    TrainingSettings,
)

__all__ = [
    "Config",
    "DatasetSettings",
    "DetectSettings",
    "EvaluateSettings",
    "ExportSettings",
    "GeoJSONSettings",
    "PrelabelSettings",
    "QualitySettings",
    "RegionSettings",
    "ScoreSettings",
    "StainSettings",
    "TensorRtSettings",
    "TileSettings",
    "TissueSettings",
    "TrainingSettings",
    "check_config",
    "load_config",
]

MAX_BYTES = 1_000_000
"""Of a config file."""

MAX_ALIASES = 10
"""YAML aliases (`*name`) in a config file: a few lines of them can stand for more than any memory holds."""


class Config(Settings):
    """Everything in `config/config.yaml`."""

    samples: str = Field("config/samples.tsv", description="The sheet of slides.")
    model: str = Field("models/er-yolov8n.onnx", description="The detector, an ONNX file.")
    backend: Literal["auto", "openvino", "tensorrt"] = Field("auto", description="What runs the detector.")
    precision: Literal["auto", "f32", "bf16", "int8"] = Field(
        "auto",
        description="Arithmetic of the CPU backend; auto is bf16 where the CPU has it, else int8 where it "
        "has that and the detector a file for it, else f32.",
    )
    group_by: str | None = Field(
        "patient", description="Column of the sheet whose slides are pooled in cohort_er_by_group.csv."
    )
    strict: bool = Field(False, description="End the run with an error if any slide has a bad status.")
    tissue: TissueSettings = TissueSettings()
    quality: QualitySettings = QualitySettings()
    stain: StainSettings = StainSettings()
    tiles: TileSettings = TileSettings()
    detect: DetectSettings = DetectSettings()
    tensorrt: TensorRtSettings = TensorRtSettings()
    scores: ScoreSettings = ScoreSettings()
    regions: RegionSettings = RegionSettings()
    geojson: GeoJSONSettings = GeoJSONSettings()
    prelabel: PrelabelSettings = PrelabelSettings()
    dataset: DatasetSettings = DatasetSettings()
    train: TrainingSettings = TrainingSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()


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
        raise InputError(*first_few(lines)) from None


def load_config(path: str | Path) -> Config:
    """Read and check a YAML config file.

    Raises
    ------
    InputError
        It cannot be read; or see `check_config`.
    """
    try:
        values = yaml.load(read_text(path, MAX_BYTES), Loader=_Loader) or {}
    except RecursionError:
        raise InputError(f"{path}: cannot be read as YAML: it is nested too deep; correct it") from None
    # The reader of YAML words its own errors, but not those of a date or a number that cannot be.
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: cannot be read as YAML: {reason}; correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold `key: value` lines; see config/README.md")
    return check_config(values, str(path))


class _Loader(yaml.SafeLoader):
    """Reads YAML without Python objects, and without aliases of aliases that grow without end."""

    n_aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.n_aliases += 1
            if self.n_aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"it has more than {MAX_ALIASES} aliases (*name)")
        return super().compose_node(parent, index)


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(item["loc"][-1]), _keys_beside(item["loc"]), n=1)
        hint = f"; did you mean `{close[0]}`?" if close else "; config/README.md lists the keys"
        return f"`{key[:80]}` is not a known key{hint}"
    said, value = item["msg"].removeprefix("Value error, "), item["input"]
    # Lists and sections are not shown: they may hold one another many times over.
    is_what = "" if isinstance(value, dict | list) else f" is {shown(value)}"
    return f"`{key[:80]}`{is_what}: {said[0].lower() + said[1:]}; see config/README.md"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in location[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
