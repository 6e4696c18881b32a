"""What a detector's file says about itself, and what is refused."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from ercohort.errors import ModelError
from ercohort.model import read_model
from tests.tiny_onnx import GOOD_METADATA, write_detector


def test_reads_what_the_file_says(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "er.onnx")
    model = read_model(path)
    assert model.labels == ("Positive", "Negative")
    assert (model.mpp, model.tile_px, model.fixed_px) == (0.5, 128, None)
    assert (model.name, model.version) == ("er", "3")
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_agrees_with_the_onnx_package_on_every_property(tmp_path: Path) -> None:
    metadata = {**GOOD_METADATA, "name": "ER ü", "long": "x" * 100_000}
    path = write_detector(tmp_path / "er.onnx", metadata=metadata)
    assert {item.key: item.value for item in onnx.load(path).metadata_props} == metadata
    assert read_model(path).name == "ER ü"


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("{0: 'Negative', 1: 'Positive'}", ("Negative", "Positive")),
        ('["Positive", "Negative"]', ("Positive", "Negative")),
        ("{0: 'Tumor: Positive', 1: 'Tumor: negative'}", ("Tumor: Positive", "Tumor: negative")),
        ("['2+', 'NEGATIVE']", ("2+", "NEGATIVE")),
        ("['阳性', 'HER2 (low) 50 %', 'Negative']", ("阳性", "HER2 (low) 50 %", "Negative")),
    ],
)
def test_classes_and_their_order_are_the_files(tmp_path: Path, names: str, labels: tuple[str, ...]) -> None:
    metadata = {**GOOD_METADATA, "names": names}
    path = write_detector(tmp_path / "er.onnx", metadata=metadata, classes=[(0.5, 0.0)] * len(labels))
    model = read_model(path)
    assert model.labels == labels
    assert model.labels[model.negative].casefold().endswith("negative")


def test_up_to_sixteen_classes(tmp_path: Path) -> None:
    names = [f"Class {number}" for number in range(16)] + ["Negative"]
    for labels in (names[1:], names):
        metadata = {**GOOD_METADATA, "names": repr(labels)}
        write_detector(
            tmp_path / f"{len(labels)}.onnx", metadata=metadata, classes=[(0.5, 0.0)] * len(labels)
        )
    assert read_model(tmp_path / "16.onnx").labels == tuple(names[1:])
    with pytest.raises(ModelError, match=r"a detector has 2 to 16, one of them named Negative"):
        read_model(tmp_path / "17.onnx")


BAD_NAMES = [
    "=HYPERLINK(1)", "+1", "-Weak", "@x", "\uff1dx", "Weak;=1", "a,b",
    "Weak\n", "We\x1b[31mak", "Weak\u2028", "We\u202eak", 'a"b', "a'b", "a\\b", "<b>",
    "", " ", " Weak", "Weak ", ":", "Tumor:", "Tumor: : Weak", ": Weak", "Ignore*", "x" * 41,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_class_names_that_act_in_a_spreadsheet_terminal_or_qupath(tmp_path: Path, name: str) -> None:
    metadata = {**GOOD_METADATA, "names": repr({0: name, 1: "Negative"})}
    path = write_detector(tmp_path / "er.onnx", metadata=metadata)
    with pytest.raises(ModelError, match=r"class name .* cannot be used; rename it in `names`") as caught:
        read_model(path)
    assert str(caught.value).isprintable()


def test_tile_size_falls_back_to_ultralytics_key(tmp_path: Path) -> None:
    metadata = {key: value for key, value in GOOD_METADATA.items() if key != "tile_px"}
    path = write_detector(tmp_path / "er.onnx", metadata={**metadata, "imgsz": "[512, 512]"})
    assert read_model(path).tile_px == 512


def test_fixed_size_is_recorded(tmp_path: Path) -> None:
    assert read_model(write_detector(tmp_path / "er.onnx", shape=(1, 3, 256, 256))).fixed_px == 256


def named(names: str) -> dict[str, str]:
    return {**GOOD_METADATA, "names": names}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, ["no class names", "such as {0: 'Positive', 1: 'Negative'}"]),
        (named("{0: 'cat', 1: 'dog'}"), ["cat, dog; none of them is Negative", "name exactly one Negative"]),
        (named("['Positive', 'Weak']"), ["Positive, Weak; none of them is Negative"]),
        (named("['Non-negative', 'Positive']"), ["none of them is Negative"]),
        (named("['Negative', 'Tumor: NEGATIVE', 'Weak']"), ["2 of them is Negative", "name exactly one"]),
        (named("['Weak', 'Negative', 'weak']"), ["Weak, Negative, weak; two are alike", "rename one"]),
        (named("['A:B', 'A: B', 'Negative']"), ["two are alike"]),
        (named("{0: 'Negative'}"), ["classes are Negative; a detector has 2 to 16"]),
        (named("[]"), ["classes are none;"]),
        (named("['Negative', 3]"), ["expected names, such as {0: 'Positive'"]),
        (named("{0: 'Positive', 2: 'Negative'}"), ["expected names, such as {0: 'Positive'"]),
        (named("__import__('os')"), ["expected names, such as {0: 'Positive'"]),
        ({**GOOD_METADATA, "mpp": "0"}, ["`mpp` is '0'"]),
        ({**GOOD_METADATA, "mpp": "nan"}, ["`mpp` is 'nan'"]),
        ({**GOOD_METADATA, "mpp": "half"}, ["`mpp` is 'half'"]),
        ({"names": GOOD_METADATA["names"]}, ["lack `mpp`", "µm per pixel"]),
        ({"names": GOOD_METADATA["names"], "mpp": "0.5"}, ["lack `tile_px`"]),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, metadata: dict[str, str], words: list[str]) -> None:
    path = write_detector(tmp_path / "er.onnx", metadata=metadata)
    with pytest.raises(ModelError) as caught:
        read_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": ("batch", 1, "height", "width")}, "input is float32 (any, 1, any, any)"),
        ({"shape": ("batch", 3)}, "input is float32 (any, 3)"),
        ({"shape": (1, 3, 256, 512)}, "not square"),
        ({"shape": (4, 3, 256, 256)}, "4 tiles at a time"),
        ({"output": ("batch", 300, 6)}, "raw YOLO head, float32 (N, 6, anchors)"),
        ({"output": ("batch", 84, "anchors")}, "output is float32 (any, 84, any)"),
        ({"n_outputs": 2}, "2 outputs"),
        ({"dtype": TensorProto.FLOAT16}, "data type 10"),
    ],
)
def test_networks_that_are_no_yolo(tmp_path: Path, change: dict, words: str) -> None:
    path = write_detector(tmp_path / "er.onnx", **change)
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "er.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="er.data", size_threshold=0)
    with pytest.raises(ModelError, match="another file"):
        read_model(path)


def test_files_that_are_no_onnx(tmp_path: Path) -> None:
    good = write_detector(tmp_path / "er.onnx").read_bytes()
    for content in (b"", b"\x00" * 64, b"II*\x00 no model", b"<html>", b"\xff" * 64, good[: len(good) // 2]):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"bad\.onnx: is not an ONNX file .*export the detector"):
            read_model(path)


def test_every_truncation_is_a_model_error(tmp_path: Path) -> None:
    good = write_detector(tmp_path / "er.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(good) - 1, 7):
        path.write_bytes(good[:size])
        with pytest.raises(ModelError):
            read_model(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; set `model`"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)


def test_large_file_is_read_at_once(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "er.onnx", metadata={**GOOD_METADATA, "ballast": "x" * 15_000_000})
    begun = time.perf_counter()
    assert read_model(path).mpp == 0.5
    assert time.perf_counter() - begun < 5  # 0.05 s on an idle core; going through the bytes takes longer
