"""The command line: help, one-line errors, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ercohort.cli import app
from tests.tiny_onnx import CORE, THREE_CLASSES, THREE_METADATA, write_detector, write_marked_slide

ROOT = Path(__file__).parents[2]
VERBS = ("run", "simulate", "evaluate", "score", "table", "verify", "validate-geojson", "doctor")


def ercohort(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ercohort.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_verb():
    shown = ercohort("--help").stdout
    for verb in VERBS:
        assert verb in shown
    assert "Research use only" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("validate-geojson", "nowhere.geojson"), "nowhere.geojson"),
        (("table", "nowhere.csv"), "nowhere.csv: no cohort table"),
        (("run", "x.svs", "--out", "y", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("evaluate", "nowhere", "nothing"), "nowhere"),
        (("verify", "nowhere"), "nowhere: holds no results"),
    ],
)
def test_mistakes_are_one_line_on_stderr(arguments, words, tmp_path):
    result = ercohort(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.startswith("ercohort: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_doctor_sees_the_machine_and_the_config(tmp_path):
    shown = ercohort("doctor").stdout
    assert "using the CPU" in shown
    assert "0.5 µm per pixel" in shown
    result = ercohort("doctor", cwd=tmp_path)
    assert result.returncode == 1
    assert "BAD config" in result.stdout


def test_the_runtime_imports_neither_torch_nor_ultralytics():
    code = (
        "import sys, pkgutil, importlib, ercohort\n"
        "for module in pkgutil.walk_packages(ercohort.__path__, 'ercohort.'):\n"
        "    if not module.name.startswith('ercohort.training'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in ('torch', 'ultralytics', 'onnx', 'cv2') if name in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_slide_by_hand_with_regions_shows_each(tmp_path, monkeypatch):
    """Four tiles of known nuclei; the regions are the two upper ones, of which one stands apart."""
    planted = write_marked_slide(tmp_path / "one.tiff", [(3, 0, 5), (0, 0, 7), (9, 0, 0), (9, 0, 0)])
    model = write_detector(tmp_path / "er.onnx", metadata=THREE_METADATA, classes=THREE_CLASSES)
    (tmp_path / "config.yaml").write_text(f"model: {model}\nprecision: f32\ntissue: {{margin_um: 0}}\n")
    regions = [("Tumor", 0, 0, CORE), ("Control", CORE, 0, CORE)]
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]],
            },
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}},
        }
        for name, x, y, side in regions
    ]
    (tmp_path / "roi.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    arguments = ("run", "one.tiff", "--mpp", "0.5", "--gpu", "0", "--config", "config.yaml", "--out", "out")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*arguments, "--roi", "roi.geojson"])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    slide = next(line for line in lines if line.startswith("one "))
    assert slide.startswith("one ok 8 37.50 ")  # 3 of 8: the regions that count
    tumour = next(line for line in lines if line.startswith("tumour "))
    control = next(line for line in lines if line.startswith("Control "))
    assert re.match(r"tumour yes 0\.\d\d 8 37\.50 .* Positive density low, few nuclei", tumour)
    assert re.match(r"Control no 0\.\d\d 7 0\.00 .* Negative", control)
    assert len(planted) == 33
    wrong = CliRunner().invoke(app, [*arguments, "--roi", "none.geojson"])
    assert "none.geojson: no such file; give the GeoJSON that QuPath exported" in str(wrong.exception)
