"""The command line: help, one-line errors, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

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
