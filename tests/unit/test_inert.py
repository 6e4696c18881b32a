"""Text from outside that no screen, log or spreadsheet acts on."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ercohort.config import check_config
from ercohort.confusion import Confusion
from ercohort.errors import InputError, SlideError, Status
from ercohort.evaluation_output import write_slides
from ercohort.inert import each_line, is_inert, one_line, safe_text, shown
from ercohort.logs import LOGGER, job_log
from ercohort.preflight import check_run

ROOT = Path(__file__).parents[2]
TRIGGERS = tuple("=+-@\t\r\n\uff0b\uff0d\uff1d\uff20")


@pytest.mark.parametrize(
    "honest",
    [
        "-12.5", "+3", "-1,5", "-1,234.56", "-.5", "-5%", "-5 %", "+1.5e-3", "-", "+", "++", "+++",
        "+/-", "-/+", "--",
        "3+", "1-2", "a=b", "x@y.org", "ER-12", "µm²", "Müller", "日本", "a; b", "50 % - 60 %", "0", "",
        "'quoted'",
    ],
)  # fmt: skip
def test_honest_values_stay_as_they_are(honest):
    assert safe_text(honest) == honest


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "+SUM(1)", "-SUM(1)", "-2+3", "+A1", "-A1", "--1+A1",
        "=", "@", "\t=1",
        "\r=1", "\ufeff=1", "\u200b=1", "\u202e=1", '"=1', "\uff1d1", "+1 A1", "-1;=2", "%=1;@x",
    ],
)  # fmt: skip
def test_formulas_become_text(formula):
    for cell in safe_text(formula).split(";"):
        assert not cell.strip().strip('"').startswith(("=", "@", "\uff1d"))
        assert cell[:1] not in "+-" or re.fullmatch(r"[+-]?[\d.,]*", cell)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_whatever_the_text(text):
    flat, safe = one_line(text), safe_text(text)
    assert is_inert(flat)
    assert len(flat.splitlines()) <= 1
    flat.encode()
    assert safe_text(safe) == safe
    assert safe.replace("'", "") == flat.replace("'", "")
    if safe.startswith(TRIGGERS):
        assert not any(character.isalpha() and character not in "eE" for character in safe)


def test_long_texts_take_no_time():
    """Each of these took a time that grew with the square of the length in some pattern."""
    for text in (
        "1" * 200_000 + "x",
        ";" + " " * 200_000 + "x",
        "+" * 200_000 + "x",
        " \t" * 100_000 + "=",
        ";" * 200_000,
    ):
        assert safe_text(text).strip("'; ") in (text.strip("'; "), "=", text.strip(" \t"))


def test_each_line_keeps_its_indent():
    assert each_line("Traceback\n  File \x1b[31m\r\n    x = 1\u202e ") == "Traceback\n  File  [31m\n    x = 1"


def test_what_is_shown_of_a_text_is_short():
    assert shown("a\x1b") == r"'a\x1b'"
    assert len(shown("x" * 10**6)) < 100


def test_an_error_steers_no_screen_and_begins_no_line():
    assert str(InputError("a\x1b[2J\nb\u202e", "c")) == "a [2J b\nc"
    assert SlideError(Status.UNREADABLE, "x\r\ny").message == "x y"
    assert str(InputError("a\udcffb")) == "a\ufffdb"
    long = str(InputError("x" * 10**6 + "; cure"))
    assert len(long) <= 2000
    assert long.endswith("; cure")


def test_a_log_steers_no_screen(tmp_path):
    def fail():
        LOGGER.warning("slide %s", "a\x1b]0;title\x07\r.svs")
        raise RuntimeError("\x1b[31mred\udcff")

    with pytest.raises(RuntimeError), job_log(tmp_path / "job.log"):
        fail()
    log = (tmp_path / "job.log").read_text()
    assert "]0;title" in log
    assert "RuntimeError:  [31mred" in log
    assert all(line.isprintable() for line in log.split("\n"))
    assert logging.getLogger("ercohort").handlers == []


@pytest.mark.parametrize("key", ["model", "samples", "dataset.labels", "train.base"])
def test_a_path_in_the_config_that_snakemake_would_fill_in(key):
    values = {}
    part, _, name = key.rpartition(".")
    (values.setdefault(part, {}) if part else values)[name] = "a/{x}.onnx"
    with pytest.raises(InputError, match=f"^c.yaml: `{key}` is 'a/{{x}}.onnx': Snakemake acts on"):
        check_run(values, sources=["c.yaml"], root=ROOT)


@pytest.mark.parametrize("text", ["a\0b", "a\x1b[31m", "a\nb", "\u202ea", " a"])
def test_a_text_in_the_config_that_no_screen_shows(text):
    with pytest.raises(InputError, match=r"`model` is .*: a control or hidden character"):
        check_config({"model": text})


def test_an_evaluation_names_slides_after_folders(tmp_path):
    evaluation = SimpleNamespace(
        slides=[],
        pooled=Confusion(np.eye(2, dtype=int), np.zeros(2, int), np.zeros(2, int)),
        not_evaluated={"=cmd|' /C calc'!A0": "no\r\ntruth"},
    )
    write_slides(tmp_path / "slides.csv", evaluation)
    cells = (tmp_path / "slides.csv").read_text().splitlines()[1].split(",")
    assert (cells[0], cells[-1]) == ("'=cmd|' /C calc'!A0", "no truth")


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}, node


SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_that_is_read_can_run(path):
    """No pickle, no code from a file, no shell. `training/checkpoint.py` says where it has to."""
    tree = ast.parse(path.read_text())
    runtime = "training" not in path.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and runtime:
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"} & set(names)
    for name, words, node in calls(tree):
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "marshal.loads")
        assert "True" not in (words.get("shell"), words.get("allow_pickle"))
        if name.endswith("yaml.load"):
            assert words["Loader"] == "_Loader", ast.unparse(node)
        if name.endswith("torch.load"):
            assert words.get("weights_only") == "True" or path.name == "checkpoint.py"
        if runtime:
            assert "pickle" not in name
