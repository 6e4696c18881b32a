"""The seam between TensorRT 10 and 11 and TensorRT-RTX, and that no answer of theirs is overlooked."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import ercohort.gpu
from ercohort.errors import BackendError
from ercohort.gpu.build import build_plan
from ercohort.gpu.flavour import find_flavour
from tests.unit.gpu.engines import PROFILE, FakeTensorRt, fake_flavour


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    find_flavour.cache_clear()


def test_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    find_flavour.cache_clear()
    with pytest.raises(
        BackendError, match=r"^TensorRT is not installed; install one: pip install tensorrt-cu13"
    ):
        find_flavour()


def test_one_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "tensorrt":
            raise ImportError("libnvonnxparser.so.11: cannot open shared object file")
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("ercohort.gpu.flavour.importlib.import_module", broken)
    find_flavour.cache_clear()
    with pytest.raises(
        BackendError, match=r"^TensorRT cannot be imported \(libnvonnxparser\.so\.11.*; install"
    ):
        find_flavour()


@pytest.mark.parametrize(("version", "right"), [("8.6.1", False), ("10.16.1.11", True), ("11.4.0.106", True)])
def test_versions_that_are_known(monkeypatch: pytest.MonkeyPatch, version: str, right: bool) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(__version__=version))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    find_flavour.cache_clear()
    if right:
        assert find_flavour().label == f"TensorRT {version}"
    else:
        with pytest.raises(BackendError, match=r"TensorRT 8\.6\.1 is installed, and 10 or 11 is needed"):
            find_flavour()


def test_an_old_tensorrt_gives_way_to_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = FakeTensorRt(__version__="1.7.1.116")
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(__version__="8.6.1"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    find_flavour.cache_clear()
    assert find_flavour().label == "TensorRT-RTX 1.7.1.116"


def test_a_build_by_tensorrt_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    flavour, module = fake_flavour(monkeypatch)
    built = build_plan(b"onnx", PROFILE, flavour, (9, 0), timings=b"earlier")
    assert built.plan == b"a plan"
    assert built.timings == b"earlier+"
    assert built.warnings == ["a warning of the build"]
    assert built.target == "the current device"
    assert module.given["shapes"] == PROFILE.shapes
    assert module.given["flags"] == 1 << 1  # strongly typed: FP16 is what the file says


def test_a_timing_cache_that_is_refused_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    flavour, module = fake_flavour(monkeypatch, "timings")
    assert build_plan(b"onnx", PROFILE, flavour, (9, 0), timings=b"of another GPU").timings == b"+"
    assert module.given["timings"] == [b"of another GPU", b""]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("builder", "does not start on this machine"),
        ("network", "does not start on this machine"),
        ("parse", "cannot read the ONNX file"),
        ("profile", "refuses the profile"),
        ("build", "cannot build the engine"),
    ],
)
def test_every_none_and_minus_one_is_an_error_in_tensorrts_words(
    monkeypatch: pytest.MonkeyPatch, broken: str, words: str
) -> None:
    flavour, _ = fake_flavour(monkeypatch, broken)
    with pytest.raises(BackendError) as caught:
        build_plan(b"onnx", PROFILE, flavour, (9, 0))
    said = str(caught.value)
    assert said.startswith(f"TensorRT 11.4.0.106 {words}")
    assert said.endswith(f": the reason of {broken}")
    assert "\n" not in said


def test_an_error_has_only_its_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    flavour, _ = fake_flavour(monkeypatch)
    flavour.log.add(True, "of an earlier call")
    mark = flavour.log.mark()
    assert "does not say why" in str(flavour.failure("failed", mark))
    for _ in range(3):
        flavour.log.add(True, "again\n and again")
    assert str(flavour.failure("failed", mark)).endswith("failed: again and again")


def test_a_severity_below_a_warning_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    flavour, _ = fake_flavour(monkeypatch)
    flavour.logger.say("INFO", "chatter")
    assert flavour.log.since(0) == []


def test_nothing_of_the_gpu_is_imported_before_it_is_used() -> None:
    """The package's modules are imported where neither CUDA nor TensorRT is installed."""
    names = [f"ercohort.gpu.{module.name}" for module in pkgutil.iter_modules(ercohort.gpu.__path__)]
    names.append("ercohort.backends.tensorrt")
    code = "import sys\nfor name in ('cuda', 'tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"
    code += "".join(f"import {name}\n" for name in names) + "print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("imported", "")
    assert len(names) > 12
