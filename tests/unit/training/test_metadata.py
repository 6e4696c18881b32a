"""What a detector says about itself can be changed; the network cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ercohort.errors import ModelError
from ercohort.model import fp16_file, read_model
from ercohort.training.metadata import restate
from tests.tiny_onnx import GOOD_METADATA, TWO_CLASSES, write_detector

onnx = pytest.importorskip("onnx", reason="needs the `train` extra: pip install 'ercohort[train]'")


def without_metadata(path: Path) -> bytes:
    model = onnx.load(path)
    del model.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A detector and its FP16 file."""
    path = write_detector(tmp_path / "er.onnx")
    write_detector(
        tmp_path / "er-fp16.onnx",
        metadata={**GOOD_METADATA, "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    )
    return path


def test_both_files_state_the_rate_and_their_networks_are_as_they_were(pair: Path) -> None:
    twin = pair.with_name("er-fp16.onnx")
    before = [without_metadata(path) for path in (pair, twin)]
    restate(pair, version="4", false_positive_percent="3.9")
    model = read_model(pair)
    assert (model.version, model.false_positive_percent, model.mpp) == ("4", 3.9, 0.5)
    assert fp16_file(model) == twin  # it still names the file that it was made from
    assert read_model(twin).false_positive_percent == 3.9
    assert [without_metadata(path) for path in (pair, twin)] == before


def test_a_detector_without_a_twin(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "er.onnx")
    restate(path, false_positive_percent="0.5")
    assert read_model(path).false_positive_percent == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["er.onnx"]


def test_a_rate_that_is_none_leaves_the_file_as_it_was(pair: Path) -> None:
    content = pair.read_bytes()
    with pytest.raises(ModelError, match=r"its `false_positive_percent` is 'many'; expected percent of"):
        restate(pair, false_positive_percent="many")
    assert pair.read_bytes() == content


def test_an_fp16_file_of_another_detector_is_refused(pair: Path) -> None:
    other = [(0.9, -2.0), TWO_CLASSES[1]]
    write_detector(pair, classes=other)
    content = pair.read_bytes()
    with pytest.raises(ModelError, match="was not made from"):
        restate(pair, version="4")
    assert pair.read_bytes() == content
