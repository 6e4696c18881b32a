"""The config: defaults, and what each mistake is answered with."""

import json
from pathlib import Path

import pytest
import yaml

from ercohort.config import Config, check_config, load_config
from ercohort.errors import InputError

ROOT = Path(__file__).parents[2]


def test_the_config_file_of_the_repository_states_every_default():
    assert yaml.safe_load((ROOT / "config/config.yaml").read_text()) == Config().model_dump()


def test_the_schema_for_editors_is_the_one_of_the_models():
    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == Config.model_json_schema(), "run: ercohort config-schema"


def test_every_key_is_in_the_manual():
    manual = (ROOT / "config/README.md").read_text()
    for name, field in Config.model_fields.items():
        keys = [f"{name}.{key}" for key in getattr(field.annotation, "model_fields", {})] or [name]
        for key in keys:
            assert f"`{key}`" in manual


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tissues": {}}, "`tissues` is not a known key; did you mean `tissue`?"),
        ({"detect": {"scor": 0.3}}, "`detect.scor` is not a known key; did you mean `score`?"),
        ({"qqq": 1}, "config/README.md lists the keys"),
        ({"detect": {"score": 1.5}}, "`detect.score` is 1.5"),
        ({"detect": {"score": "high"}}, "`detect.score` is 'high'"),
        ({"tiles": {"tile_px": 100}}, "`tiles.tile_px` is 100"),
        ({"tiles": {"tile_px": 256, "halo_px": 128}}, "halo_px"),
        ({"backend": "cuda"}, "`backend` is 'cuda'"),
    ],
)
def test_each_mistake_names_file_key_and_cure(values, words):
    with pytest.raises(InputError) as caught:
        check_config(values, "my.yaml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_an_empty_section_means_its_defaults():
    assert check_config({"tissue": None, "samples": None}) == Config()


def test_a_broken_yaml_file_is_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: [1\nb: }")
    with pytest.raises(InputError, match="cannot be read as YAML") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    path.write_text("- a\n- b\n")
    with pytest.raises(InputError, match="key: value"):
        load_config(path)
