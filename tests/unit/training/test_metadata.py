"""What a detector says about itself can be changed; the network cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ercohort.errors import ModelError
from ercohort.model import fp16_file, int8_file, read_model
from ercohort.training.metadata import restate
from tests.tiny_onnx import GOOD_METADATA, TWO_CLASSES, write_detector

onnx = pytest.importorskip("onnx", reason="needs the `train` extra: pip install 'ercohort[train]'")


def without_metadata(path: Path) -> bytes:
    model = onnx.load(path)
    del model.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    """A detector, its FP16 and its int8 file."""
    path = write_detector(tmp_path / "er.onnx")
    source = {"source_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for kind in ("fp16", "int8"):
        write_detector(tmp_path / f"er-{kind}.onnx", metadata=GOOD_METADATA | source)
    return path


def test_all_files_state_the_rate_and_their_networks_are_as_they_were(trio: Path) -> None:
    twins = [trio.with_name("er-fp16.onnx"), trio.with_name("er-int8.onnx")]
    before = [without_metadata(path) for path in (trio, *twins)]
    restate(trio, version="4", false_positive_percent="3.9")
    model = read_model(trio)
    assert (model.version, model.false_positive_percent, model.mpp) == ("4", 3.9, 0.5)
    assert [fp16_file(model), int8_file(model)] == twins  # they still name the file that they were made from
    assert [read_model(twin).false_positive_percent for twin in twins] == [3.9, 3.9]
    assert [without_metadata(path) for path in (trio, *twins)] == before


def test_a_detector_without_a_twin(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "er.onnx")
    restate(path, false_positive_percent="0.5")
    assert read_model(path).false_positive_percent == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["er.onnx"]


def test_a_rate_that_is_none_leaves_the_file_as_it_was(trio: Path) -> None:
    content = trio.read_bytes()
    with pytest.raises(ModelError, match=r"its `false_positive_percent` is 'many'; expected percent of"):
        restate(trio, false_positive_percent="many")
    assert trio.read_bytes() == content


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_twin_of_another_detector_is_refused(trio: Path, kind: str) -> None:
    other = [(0.9, -2.0), TWO_CLASSES[1]]
    write_detector(trio, classes=other)
    trio.with_name(f"er-{'int8' if kind == 'fp16' else 'fp16'}.onnx").unlink()
    content = trio.read_bytes()
    with pytest.raises(ModelError, match=f"er-{kind}.onnx: was not made from"):
        restate(trio, version="4")
    assert trio.read_bytes() == content
