"""Choosing a backend, and OpenVINO against ONNX Runtime as the reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ercohort.backends import choose_backend, openvino
from ercohort.backends.openvino import inspect_cpu
from ercohort.backends.protocol import Backend, Candidates, Slot, Tile
from ercohort.backends.slots import Found, SlotBackend
from ercohort.config import DetectSettings
from ercohort.decode import decode_tile
from ercohort.errors import BackendError, ModelError
from ercohort.model import ModelInfo, read_model
from ercohort.schema import LABELS
from tests.tiny_onnx import GOOD_METADATA, paint, write_detector

pytestmark = pytest.mark.timeout(120)
DETECT = DetectSettings()
DEFAULT_MODEL = Path(__file__).parents[2] / "models" / "er-yolov8n.onnx"


def run_tiles(backend: Backend, images: list[np.ndarray]) -> list[Candidates]:
    """Push images through a backend from one thread; results in order of submission."""
    results: dict[int, Candidates] = {}

    def take() -> None:
        found = backend.take()
        assert found is not None
        assert found.slot.tile is not None
        results[found.slot.tile.tile_id] = found
        backend.release(found.slot)

    backend.begin(images[0].shape[1::-1])
    for index, image in enumerate(images):
        if index >= backend.n_slots:
            take()
        slot = backend.acquire()
        assert slot is not None
        slot.image[:] = image
        slot.tile = Tile(index, 0, 0, *image.shape[:2], 0, 0, *image.shape[:2])
        backend.submit(slot)
    backend.finish()
    while len(results) < len(images):
        take()
    assert backend.take() is None
    return [results[index] for index in range(len(images))]


def by_onnxruntime(path: Path, image: np.ndarray, detect: DetectSettings) -> Found:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    blob = (image.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    (head,) = session.run(None, {session.get_inputs()[0].name: blob})
    return decode_tile(head[0], tile_px=image.shape[0], score=detect.score, nms_iou=detect.nms_iou)


def assert_same(found: Candidates, expected: Found, atol: float = 1e-3) -> None:
    boxes, score, label = expected
    np.testing.assert_allclose(found.boxes, boxes, atol=atol)
    np.testing.assert_allclose(found.score, score, atol=1e-5)
    np.testing.assert_array_equal(found.label, label)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "tiny.onnx")


def open_tiny(path: Path, tile_px: int = 128, threads: int = 2, precision: str = "f32") -> Backend:
    choice = choose_backend("openvino", precision=precision)
    return choice.open(read_model(path), tile_px=tile_px, detect=DETECT, threads=threads)


def painted(seed: int, tile_px: int = 128) -> np.ndarray:
    """Anchors that see nuclei of both classes here and there; a coloured and odd rest."""
    rng = np.random.default_rng(seed)
    image = np.full((tile_px, tile_px, 3), 255, np.uint8)
    for _ in range(10):
        anchor = tuple(rng.integers(0, tile_px // 8, 2))
        paint(image, anchor, tuple(rng.integers(4, tile_px * 255 // 640, 2)), int(rng.choice([20, 77])))
    return image


@pytest.mark.parametrize("tile_px", [128, 160, 640])
def test_openvino_equals_onnxruntime(tiny: Path, tile_px: int) -> None:
    images = [painted(seed, tile_px) for seed in range(9)]
    with open_tiny(tiny, tile_px) as backend:
        for image, found in zip(images, run_tiles(backend, images), strict=True):
            assert len(found.score) > 2
            assert_same(found, by_onnxruntime(tiny, image, DETECT))


def test_rgb_order_and_scale_are_the_networks(tiny: Path) -> None:
    """Red is x, green is y: swapped channels, a lost /255 or swapped axes would all show."""
    image = np.full((128, 128, 3), 255, np.uint8)
    paint(image, (3, 7), (16, 40), 20)
    with open_tiny(tiny) as backend:
        (found,) = run_tiles(backend, [image])
    x, y = 16 / 255 * 640, 40 / 255 * 640
    np.testing.assert_allclose(found.boxes, [[x - 8, y - 8, x + 8, y + 8]], atol=1e-3)
    np.testing.assert_allclose(found.score, [1 - 2 * 20 / 255], atol=1e-6)
    assert found.label.tolist() == [0]


@pytest.mark.skipif(not DEFAULT_MODEL.exists(), reason="the default detector is not in this checkout")
class TestDefaultModel:
    """The committed detector, on a picture with some structure."""

    detect = DetectSettings(score=0.05)

    def image(self) -> np.ndarray:
        rng = np.random.default_rng(5)
        image = np.full((320, 320, 3), 235.0)
        y, x = np.mgrid[:320, :320]
        for cx, cy in rng.uniform(10, 310, (120, 2)):
            blob = np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / 40) ** 2))[..., None]
            image -= blob * (np.array([90, 130, 170]) if rng.random() < 0.5 else np.array([120, 100, 50]))
        return image.clip(0, 255).astype(np.uint8)

    def run(self, precision: str, threads: int) -> Candidates:
        choice = choose_backend("openvino", precision=precision)
        model = read_model(DEFAULT_MODEL)
        with choice.open(model, tile_px=320, detect=self.detect, threads=threads) as backend:
            results = run_tiles(backend, [self.image()] * 5)
        for other in results[1:]:
            np.testing.assert_array_equal(other.boxes, results[0].boxes)
            np.testing.assert_array_equal(other.score, results[0].score)
        return results[0]

    def test_f32_is_the_reference(self) -> None:
        found = self.run("f32", 2)
        boxes, score, label = by_onnxruntime(DEFAULT_MODEL, self.image(), self.detect)
        assert len(score) > 20
        np.testing.assert_allclose(found.boxes, boxes, atol=0.02)
        np.testing.assert_allclose(found.score, score, atol=1e-3)
        np.testing.assert_array_equal(found.label, label)

    def test_f32_is_the_same_to_the_bit_for_any_threads(self) -> None:
        one, four = self.run("f32", 1), self.run("f32", 4)
        np.testing.assert_array_equal(one.boxes, four.boxes)
        np.testing.assert_array_equal(one.score, four.score)

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    def test_a_faster_precision_sees_the_same_nuclei(self, precision: str) -> None:
        try:
            inspect_cpu(precision)
        except BackendError as error:
            pytest.skip(str(error))
        exact, fast = self.run("f32", 2), self.run(precision, 2)
        sure = exact.boxes[exact.score > 0.4]
        centres = (fast.boxes[:, :2] + fast.boxes[:, 2:]) / 2
        distance = np.linalg.norm((sure[:, None, :2] + sure[:, None, 2:]) / 2 - centres[None], axis=2).min(1)
        assert (distance < 1.0).mean() > 0.97

    def test_int8_is_the_same_to_the_bit_for_any_threads(self) -> None:
        try:
            inspect_cpu("int8")
        except BackendError as error:
            pytest.skip(str(error))
        one, four = self.run("int8", 1), self.run("int8", 4)
        np.testing.assert_array_equal(one.boxes, four.boxes)
        np.testing.assert_array_equal(one.score, four.score)


def test_precision_is_what_was_asked_for(tiny: Path) -> None:
    auto = choose_backend("auto")
    assert auto.precision in ("f32", "bf16")
    with open_tiny(tiny, precision="f32") as backend:
        assert backend.precision == "f32"
    if auto.precision == "f32":
        with pytest.raises(BackendError, match="no bf16 instructions"):
            choose_backend("auto", precision="bf16")
    else:
        assert choose_backend("auto", precision="bf16").precision == "bf16"


def pretend(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, vnni: bool) -> None:
    """Let the processor have these instructions, whatever it is."""
    monkeypatch.setattr(openvino, "_has_bf16", lambda core: bf16)
    monkeypatch.setattr(openvino, "_has_vnni", lambda: vnni)


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, bf16=False, vnni=True)


@pytest.mark.usefixtures("vnni")
class TestInt8:
    """The detector's int8 file is run in its place where the processor is good at that."""

    def test_auto_takes_it_where_there_is_one(self, tiny: Path) -> None:
        model = read_model(tiny)
        assert choose_backend("auto", model=model).precision == "f32"
        write_detector(tiny.with_name("tiny-int8.onnx"))
        choice = choose_backend("auto", model=model)
        assert choice.precision == "int8"
        assert ", int8, " in choice.reason
        assert choose_backend("auto", model=model, precision="f32").precision == "f32"

    def test_it_is_that_file_which_runs(self, tiny: Path) -> None:
        """A file of other scores stands in for it: they are what is found."""
        write_detector(tiny.with_name("tiny-int8.onnx"), classes=[(0.9, -2.0), (0.7, -0.7)])
        image = np.full((128, 128, 3), 255, np.uint8)
        paint(image, (3, 7), (16, 40), 20)
        model = read_model(tiny)
        with choose_backend("auto", model=model, precision="int8").open(
            model, tile_px=128, detect=DETECT, threads=1
        ) as backend:
            (found,) = run_tiles(backend, [image])
            assert backend.precision == "int8"
            assert backend.model == model
        np.testing.assert_allclose(found.score, [0.9 - 2 * 20 / 255], atol=1e-6)

    def test_a_file_of_another_detector_is_not_run(self, tiny: Path) -> None:
        foreign = write_detector(tiny.with_name("tiny-int8.onnx"), metadata={**GOOD_METADATA, "version": "2"})
        model = read_model(tiny)
        choice = choose_backend("auto", model=model)
        assert choice.precision == "f32"
        assert f"{foreign}: was not made from {tiny}" in choice.reason
        with pytest.raises(ModelError, match="was not made from"):
            choose_backend("auto", model=model, precision="int8")

    def test_asked_for_and_not_there(self, tiny: Path) -> None:
        with pytest.raises(ModelError, match=r"tiny-int8\.onnx: no such file.*set `precision: auto`"):
            choose_backend("openvino", model=read_model(tiny), precision="int8")


def test_int8_needs_a_processor_for_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, bf16=False, vnni=False)
    write_detector(tiny.with_name("tiny-int8.onnx"))
    assert choose_backend("auto", model=read_model(tiny)).precision == "f32"
    with pytest.raises(BackendError, match="no VNNI instructions for int8; set `precision: auto` or `f32`"):
        choose_backend("auto", model=read_model(tiny), precision="int8")


def test_bf16_comes_before_int8(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, bf16=True, vnni=True)
    write_detector(tiny.with_name("tiny-int8.onnx"))
    assert choose_backend("auto", model=read_model(tiny)).precision == "bf16"


@pytest.mark.parametrize(
    ("name", "gpu", "why"),
    [("auto", 0, "no GPU was asked for"), ("auto", 1, "no NVIDIA driver"), ("openvino", 1, "`openvino`")],
)
def test_choice_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, gpu: int, why: str) -> None:
    monkeypatch.setattr("ercohort.gpu.probe.gpu_or_reason", lambda: "there is no NVIDIA driver here")
    choice = choose_backend(name, gpu)
    assert why in choice.reason
    assert "CPU" in choice.reason
    assert "\n" not in choice.reason
    assert choice.device in choice.reason
    record = choice.to_dict()
    assert set(record) == {"backend", "precision", "device", "runtime", "reason"}
    assert record["runtime"].startswith("OpenVINO 20")


def test_a_backend_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ercohort.gpu.probe.gpu_or_reason", lambda: "there is no NVIDIA driver here")
    with pytest.raises(BackendError, match="set `backend: auto`"):
        choose_backend("tensorrt", 1)
    with pytest.raises(BackendError, match="not known"):
        choose_backend("torch")


def test_model_of_one_size_only(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "fixed.onnx", shape=(1, 3, 128, 128))
    with pytest.raises(ModelError, match=r"128 px only, and `tiles\.tile_px` is 640"):
        open_tiny(path, 640)
    with open_tiny(path, 128) as backend:
        assert backend.tile_px == 128


def test_a_file_that_openvino_cannot_load(tiny: Path) -> None:
    content = bytearray(tiny.read_bytes())
    content[content.index(b"Conv") : content.index(b"Conv") + 4] = b"Xonv"
    tiny.write_bytes(content)
    with pytest.raises(BackendError, match="OpenVINO cannot load it") as caught:
        open_tiny(tiny)
    assert "\n" not in str(caught.value)


def test_nothing_is_reported_to_anyone() -> None:
    """OpenVINO's import starts a thread that reports it, unless it is kept from doing so."""
    script = (
        "import sys, threading; from ercohort.backends import openvino; openvino.inspect_cpu();"
        "assert sys.modules['openvino_telemetry'] is None; assert threading.active_count() == 1"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


class BatchBackend(SlotBackend):
    """Starts its tiles in batches of three, as a GPU backend does."""

    def __init__(self, n_slots: int = 4) -> None:
        model = ModelInfo("", "", "batches", "", 0.5, 8, None, LABELS)
        images = [np.zeros((8, 8, 3), np.uint8) for _ in range(n_slots)]
        super().__init__(images, name="batches", precision="f32", device="none", model=model)
        self.batch: list[Slot] = []
        self.sizes: list[int] = []
        self.freed = False

    def _start(self, slot: Slot) -> None:
        self.batch.append(slot)
        if len(self.batch) == 3:
            self._flush()

    def _flush(self) -> None:
        if self.batch:
            self.sizes.append(len(self.batch))
        for slot in self.batch:
            self._started(slot)
        self.batch = []

    def _collect(self, slot: Slot) -> Found:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8)

    def _free(self) -> None:
        self.freed = True


def test_an_unfilled_batch_is_run_at_the_end() -> None:
    with BatchBackend() as backend:
        for _ in range(2):
            found = run_tiles_in_batches(backend, 4)
            assert sorted(found) == [0, 1, 2, 3]
        assert backend.sizes == [3, 1, 3, 1]
    assert backend.freed


def run_tiles_in_batches(backend: BatchBackend, n: int) -> list[int]:
    backend.begin((8, 8))
    for index in range(n):
        slot = backend.acquire()
        assert slot is not None
        slot.tile = Tile(index, 0, 0, 8, 8, 0, 0, 8, 8)
        backend.submit(slot)
    backend.finish()
    seen = []
    while (found := backend.take()) is not None:
        assert found.slot.tile is not None
        seen.append(found.slot.tile.tile_id)
        backend.release(found.slot)
    return seen


def test_close_with_tiles_in_flight_and_twice() -> None:
    backend = BatchBackend()
    backend.begin((8, 8))
    for _ in range(2):
        slot = backend.acquire()
        assert slot is not None
        backend.submit(slot)
    backend.close()
    backend.close()
    assert backend.freed
    assert backend.acquire() is None
    assert backend.take() is None


def test_openvino_close_with_tiles_in_flight(tiny: Path) -> None:
    backend = open_tiny(tiny)
    backend.begin((128, 128))
    for _ in range(backend.n_slots):
        slot = backend.acquire()
        assert slot is not None
        backend.submit(slot)
    backend.close()
    assert backend.take() is None
