"""Real engines by TensorRT-RTX, which builds without a GPU; running one needs a GPU, and is tested there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ercohort.errors import BackendError
from ercohort.gpu.build import build_plan
from ercohort.gpu.engine import load_engine
from ercohort.gpu.engine_store import StoredEngine, find_or_build
from ercohort.gpu.flavour import Flavour, find_flavour
from ercohort.gpu.profile import Profile
from ercohort.gpu.smoke import try_plan
from tests.tiny_onnx import write_detector
from tests.unit.gpu.engines import ADA, MODEL, PROFILE, half_model, needs_no_gpu, needs_rtx, packed, real_rtx

pytestmark = [needs_rtx, pytest.mark.skipif(not MODEL.exists(), reason="the default detector is not here")]


@pytest.fixture(scope="module")
def rtx() -> Iterator[Flavour]:
    with pytest.MonkeyPatch.context() as patch:
        yield real_rtx(patch)
    find_flavour.cache_clear()


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_model(tmp_path_factory.mktemp("half"))


@pytest.fixture(scope="module")
def stored(rtx: Flavour, half: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredEngine:
    store = tmp_path_factory.mktemp("engines")
    return find_or_build(half, PROFILE, rtx, ADA, store, try_out=lambda *_: {"milliseconds": 1.0})


def test_an_engine_of_the_default_detector_and_its_record(
    rtx: Flavour, half: Path, stored: StoredEngine
) -> None:
    record = json.loads(stored.plan_path.with_suffix(".json").read_text())
    assert record == stored.record
    assert record["key"] == {
        "onnx_sha256": hashlib.sha256(half.read_bytes()).hexdigest(),
        "flavour": "TensorRT-RTX",
        "version": rtx.version,
        "compute_capability": "8.9",
        "driver_major": 13,
        "precision": "f16",
        "profile": {"batch": 8, "min_px": 320, "tile_px": 640, "max_px": 1280},
    }
    assert record["inputs"] == [{"name": "images", "dtype": "float", "shape": [-1, 3, -1, -1]}]
    assert record["outputs"] == [{"name": "output0", "dtype": "float", "shape": [-1, 6, -1]}]
    assert record["target"] == "SM89"
    assert record["device"] == ADA.name
    assert record["build_seconds"] > 0
    assert record["tried_out"]["milliseconds"] == 1.0
    plan = stored.read_plan()
    assert record["plan_sha256"] == hashlib.sha256(plan).hexdigest()
    assert record["plan_bytes"] == len(plan) > half.stat().st_size  # the weights are in it, as FP16
    assert len(plan) < 2 * half.stat().st_size


def test_the_profile_is_in_the_plan(rtx: Flavour, half: Path, stored: StoredEngine) -> None:
    """Without a GPU no engine can be loaded and asked, but its three shapes stand in its bytes."""
    other = Profile(batch=4, min_px=352, tile_px=672, max_px=1024)
    plans = {PROFILE: stored.read_plan(), other: build_plan(half.read_bytes(), other, rtx, (8, 9)).plan}
    assert PROFILE.shapes == ((1, 3, 320, 320), (8, 3, 640, 640), (8, 3, 1280, 1280))
    for profile, plan in plans.items():
        for shape in PROFILE.shapes + other.shapes:
            assert (packed(shape) in plan) == (shape in profile.shapes)


def test_a_device_that_tensorrt_rtx_does_not_name(rtx: Flavour, half: Path) -> None:
    assert build_plan(half.read_bytes(), PROFILE, rtx, (9, 0)).target == "every device"


def test_it_is_found_again_without_a_build_or_a_lock(
    rtx: Flavour, half: Path, stored: StoredEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that others filled may be read-only."""
    monkeypatch.setattr("ercohort.gpu.engine_store.build_plan", None)
    monkeypatch.setattr("ercohort.gpu.engine_store.locked", None)
    store = stored.plan_path.parent
    before = sorted(store.iterdir())
    assert find_or_build(half, PROFILE, rtx, ADA, store) == stored
    assert sorted(store.iterdir()) == before


def test_a_profile_that_tensorrt_refuses_is_an_error_in_its_words(rtx: Flavour, half: Path) -> None:
    with pytest.raises(BackendError, match=r"refuses the profile .* MIN<=OPT<=MAX") as caught:
        build_plan(half.read_bytes(), Profile(8, 640, 320, 1280), rtx, (8, 9))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_onnx_is_an_error_in_its_words(rtx: Flavour) -> None:
    with pytest.raises(
        BackendError, match=r"TensorRT-RTX 1\.\S+ cannot read the ONNX file: .*Failed to parse"
    ):
        build_plan(b"no model", PROFILE, rtx, (8, 9))


def test_a_detector_of_one_size_is_refused(rtx: Flavour, tmp_path: Path) -> None:
    path = write_detector(tmp_path / "fixed.onnx", shape=(1, 3, 128, 128))
    with pytest.raises(BackendError, match="128 px only; export it with dynamic=True"):
        build_plan(path.read_bytes(), PROFILE, rtx, (8, 9))


@needs_no_gpu
def test_loading_without_a_gpu_is_an_error_in_its_words(rtx: Flavour, stored: StoredEngine) -> None:
    with pytest.raises(BackendError, match=r"cannot load the engine: .*CUDA driver"):
        load_engine(rtx, stored.read_plan())


@needs_no_gpu
def test_the_trial_in_a_child_fails_in_one_line_without_a_gpu(stored: StoredEngine) -> None:
    with pytest.raises(
        BackendError, match="does not run on A described GPU; the engine was not kept"
    ) as caught:
        try_plan(stored.plan_path, ADA, PROFILE)
    assert "cudaErrorInsufficientDriver" in str(caught.value)
    assert "Traceback" not in str(caught.value)


_BUILDER = """
import sys, time
sys.modules["tensorrt"] = None
from pathlib import Path
from ercohort.gpu.engine_store import find_or_build
from ercohort.gpu.flavour import find_flavour
from tests.unit.gpu.engines import ADA, PROFILE

def try_out(plan, gpu, profile):
    with open(sys.argv[3], "a") as file:
        file.write("built\\n")
    time.sleep(1)
    return {}

stored = find_or_build(Path(sys.argv[1]), PROFILE, find_flavour(), ADA, Path(sys.argv[2]), try_out=try_out)
print(stored.record["plan_sha256"])
"""


def test_of_two_processes_one_builds_and_the_other_waits_and_finds(half: Path, tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    command = [sys.executable, "-c", _BUILDER, str(half), str(tmp_path / "store"), str(builds)]
    begun = time.time()
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], time.time() - begun
    assert len(printed[0]) == 65
    assert printed[0] == printed[1]
    assert builds.read_text() == "built\n"
