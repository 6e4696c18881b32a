"""The store of engines: what is given out, what is built again, and what is said where it cannot write."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ercohort.config import TensorRtSettings
from ercohort.errors import BackendError
from ercohort.gpu import engine_store
from ercohort.gpu.build import BuiltPlan
from ercohort.gpu.engine_store import StoredEngine, find_or_build, store_folder
from ercohort.gpu.flavour import Flavour, Log
from ercohort.gpu.smoke import run_child
from tests.unit.gpu.engines import ADA, PROFILE

RTX = Flavour("TensorRT-RTX", "1.7.1.116", None, Log(), None)
FULL = Flavour("TensorRT", "11.4.0.106", None, Log(), None)


@dataclass
class Bench:
    """A store, a detector, and a builder that counts its calls and never makes the same plan twice."""

    store: Path
    onnx: Path
    n_built: int = 0
    timings: bytes = b""
    trial: Any = None

    def build(self, onnx: bytes, *_: Any, timings: bytes = b"") -> BuiltPlan:
        self.n_built += 1
        self.timings = timings
        plan = b"plan %d of " % self.n_built + onnx
        return BuiltPlan(plan, [], [], "here", ["beware"], b"timed %d" % self.n_built)

    def find(self, **other: Any) -> StoredEngine:
        given = {"onnx": self.onnx, "profile": PROFILE, "flavour": RTX, "gpu": ADA, "store": self.store}
        return find_or_build(**{**given, "try_out": self.trial or (lambda *_: {}), **other})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    onnx = tmp_path / "a model-fp16.onnx"
    onnx.write_bytes(b"onnx")
    bench = Bench(tmp_path / "store", onnx)
    monkeypatch.setattr(engine_store, "build_plan", bench.build)
    monkeypatch.setattr(engine_store, "_make_current", lambda *_: None)
    return bench


def test_built_once_and_found_by_everyone_after(bench: Bench) -> None:
    first = bench.find()
    assert bench.find() == first
    assert bench.n_built == 1
    assert first.read_plan() == b"plan 1 of onnx"
    assert first.plan_path.name.startswith("a-model-fp16-tensorrt-rtx-sm8.9-")
    assert first.record["warnings"] == ["beware"]


@pytest.mark.parametrize(
    "other",
    [
        {"flavour": FULL},
        {"flavour": replace(RTX, version="1.7.1.117")},
        {"gpu": replace(ADA, compute_capability=(9, 0))},
        {"gpu": replace(ADA, driver=14000)},
        {"profile": replace(PROFILE, batch=4)},
        {"profile": replace(PROFILE, max_px=1312)},
        {"onnx": "other"},
    ],
    ids=str,
)
def test_whatever_an_engine_depends_on_makes_another_one(bench: Bench, other: dict[str, Any]) -> None:
    if "onnx" in other:
        other = {"onnx": bench.onnx.with_name("a model-fp16.onnx2")}
        other["onnx"].write_bytes(b"other weights")
    mine = bench.find()
    assert bench.find(**other).plan_path != mine.plan_path
    assert bench.n_built == 2
    assert bench.find() == mine
    assert bench.n_built == 2


def test_a_renamed_gpu_and_a_patched_driver_use_the_same_engine(bench: Bench) -> None:
    mine = bench.find()
    assert bench.find(gpu=replace(ADA, index=3, name="B", driver=13010, uuid="GPU-b")) == mine


def _flip(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[3] ^= 1
    plan.write_bytes(content)


def _foreign(plan: Path) -> None:
    record = json.loads(plan.with_suffix(".json").read_text())
    record["key"]["version"] = "10.0.0.1"
    plan.with_suffix(".json").write_text(json.dumps(record))


DAMAGE = {
    "one bit": _flip,
    "cut short": lambda plan: os.truncate(plan, 5),
    "empty": lambda plan: os.truncate(plan, 0),
    "gone": lambda plan: plan.unlink(),
    "no record": lambda plan: plan.with_suffix(".json").unlink(),
    "record cut short": lambda plan: os.truncate(plan.with_suffix(".json"), 40),
    "record of nothing": lambda plan: plan.with_suffix(".json").write_text("[]"),
    "record of another engine": _foreign,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_or_foreign_is_built_again_and_never_given_out(bench: Bench, damage: str) -> None:
    first = bench.find()
    DAMAGE[damage](first.plan_path)
    again = bench.find()
    assert bench.n_built == 2
    assert again.plan_path == first.plan_path
    assert again.read_plan() == b"plan 2 of onnx"
    assert bench.find() == again
    assert bench.n_built == 2


def test_a_plan_that_changes_after_it_was_found_is_not_read(bench: Bench) -> None:
    found = bench.find()
    _flip(found.plan_path)
    with pytest.raises(BackendError, match="changed or removed"):
        found.read_plan()


def test_an_engine_that_does_not_run_is_not_kept(bench: Bench) -> None:
    def trial(plan: Path, *_: Any) -> dict[str, Any]:
        assert plan.read_bytes() == b"plan %d of onnx" % bench.n_built
        raise BackendError("it crashed")

    bench.trial = trial
    for _ in range(2):
        with pytest.raises(BackendError, match="it crashed"):
            bench.find()
    assert bench.n_built == 2
    assert [path.suffix for path in bench.store.iterdir()] == [".lock"]


def test_the_timing_cache_serves_the_next_build_unless_it_is_damaged(bench: Bench) -> None:
    bench.find()
    bench.find(profile=replace(PROFILE, batch=4))
    assert bench.timings == b"timed 1"
    (kept,) = bench.store.glob("*.timings")
    _flip(kept)
    bench.find(profile=replace(PROFILE, batch=2))
    assert bench.timings == b""


def test_a_store_that_cannot_be_written(bench: Bench) -> None:
    bench.store.write_text("a file where the folder should be")
    with pytest.raises(
        BackendError, match=r"cannot be kept there: .*`tensorrt\.store` or \$ERCOHORT_ENGINES"
    ):
        bench.find()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store(bench: Bench) -> None:
    found = bench.find()
    bench.store.chmod(0o500)
    assert bench.find() == found
    with pytest.raises(BackendError, match="cannot be kept there: Permission denied"):
        bench.find(profile=replace(PROFILE, batch=4))


@pytest.mark.parametrize("full_at", [1, 2])
def test_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch, full_at: int) -> None:
    """While the plan is written, or its record; half an engine counts for nothing later."""
    n_synced = 0
    write = engine_store._write_through

    def full(path: Path, content: bytes) -> None:
        nonlocal n_synced
        n_synced += 1
        write(path, content[: len(content) // 2] if full_at == 1 else content)
        if full_at == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_json(path: Path, value: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(engine_store, "_write_through", full)
        if full_at == 2:
            patch.setattr(engine_store, "write_json", full_json)
        with pytest.raises(BackendError, match="No space left on device; make room there") as caught:
            bench.find()
    assert str(caught.value).startswith(str(bench.store))
    assert n_synced == 1
    assert not [path for path in bench.store.iterdir() if ".tmp" in path.name]
    assert bench.find().read_plan() == b"plan 2 of onnx"


def test_the_kernels_that_rtx_compiled_are_kept_beside_the_plan(bench: Bench) -> None:
    found = bench.find()
    assert found.read_runtime_cache() == b""
    found.keep_runtime_cache(b"kernels")
    assert bench.find().read_runtime_cache() == b"kernels"


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("ERCOHORT_ENGINES", raising=False)
    assert store_folder(TensorRtSettings()) == Path("/home/somebody/.cache/ercohort/engines")
    monkeypatch.setenv("ERCOHORT_ENGINES", "/scratch/engines")
    assert store_folder(TensorRtSettings()) == Path("/scratch/engines")
    assert store_folder(TensorRtSettings(store="~/mine")) == Path("/home/somebody/mine")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed on G \(SIGSEGV\)"),
        ("raise SystemExit('the reason')", "does not run on G; .*: the reason"),
        ("print('no json')", "does not run on G"),
        ("", "does not run on G"),
        ("import time; time.sleep(60)", "did not run within 1 s on G"),
    ],
)
def test_whatever_becomes_of_the_child_that_tries_an_engine(code: str, words: str) -> None:
    with pytest.raises(BackendError, match=words) as caught:
        run_child([sys.executable, "-c", code], "G", timeout=1.0 if "sleep" in code else 30.0)
    assert "\n" not in str(caught.value)
    assert "`backend: openvino`" in str(caught.value)


def test_the_childs_last_line_is_what_it_saw() -> None:
    code = "print('a word'); print('{\"milliseconds\": 2.5}')"
    assert run_child([sys.executable, "-c", code], "G") == {"milliseconds": 2.5}
