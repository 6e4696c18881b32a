"""The nuclei of picked regions by both finders, and the step that writes them."""

import json
import logging

import numpy as np
import polars as pl
import pytest

from ercohort.config import Config, DetectSettings, TileSettings
from ercohort.errors import InputError, ModelError, SlideError, Status
from ercohort.geojson_validate import validate_geojson
from ercohort.labels.annotations import read_labels
from ercohort.labels.prelabel import ModelFinder, find_by_stain
from ercohort.labels.region_file import region_of
from ercohort.oracle import OracleBackend
from ercohort.record import SlideRecord, TissueRecord
from ercohort.simulate.slide import simulate_slide
from ercohort.steps.engine import prepare_engine
from ercohort.steps.prelabel import prelabel_slide
from ercohort.steps.tissue import mask_tissue
from tests.slides import write_scn
from tests.tiny_onnx import THREE_CLASSES, THREE_METADATA, write_detector, write_marked_slide
from tests.unit.labels.test_finder import paint
from tests.unit.labels.test_region_file import BOX, CLASSES, nuclei
from tests.unit.labels.test_regions import slide as slide_info
from tests.unit.test_detect import ArraySlide, plant

WHITE = (255.0, 255.0, 255.0)
TILES = TileSettings(tile_px=128, halo_px=32)


class Choice:
    """Opens an oracle in place of a network."""

    def __init__(self, planted, mpp):
        self.planted, self.mpp = planted, mpp

    def open(self, model, *, tile_px, detect, threads):
        return OracleBackend(self.planted, tile_px=tile_px, mpp=self.mpp, detect=detect, threads=threads)


def model_finder(planted):
    choice = Choice(planted, 0.5)
    oracle = choice.open(None, tile_px=TILES.tile_px, detect=DetectSettings(), threads=1)
    return ModelFinder(oracle.model, choice, TILES, DetectSettings(), 2)


def whole_tissue(slide, step=16):
    rows, cols = -(-slide.info.height // step), -(-slide.info.width // step)
    return np.ones((rows, cols), bool), TissueRecord(
        slide.info.width / cols, slide.info.height / rows, WHITE, 1.0
    )


@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.46])
def test_the_model_finds_in_a_region_what_it_finds_on_the_whole_slide(mpp):
    slide = ArraySlide(1400, 900, mpp)
    planted = plant(1400, 900, 0.5 / mpp)
    finder = model_finder(planted)
    mask, tissue = whole_tissue(slide, step=100)  # a mask coarser than tiles
    regions = np.array([[110, 70, 410, 370], [640, 480, 940, 780], [1100, 600, 1400, 900]])
    found = finder.find(slide, regions, tissue, mask.shape)
    everywhere = np.array([[0, 0, 1400, 900]])
    whole = finder.find(slide, everywhere, tissue, mask.shape).nuclei
    assert len(whole) == len(planted)
    expected = whole.filter(pl.Series(region_of(whole, regions) >= 0))
    assert len(expected) > 50
    assert found.nuclei.sort(BOX).equals(expected.sort(BOX))
    assert np.array_equal(found.regions, regions)
    assert found.model == "oracle@"


def test_the_model_looks_at_tiles_of_the_regions_only():
    slide = ArraySlide(1400, 900)
    seen = []
    read = slide.read
    slide.read = lambda x, y, *args, **kwargs: seen.append((x, y)) or read(x, y, *args, **kwargs)
    mask, tissue = whole_tissue(slide)
    model_finder(plant(1400, 900, 1.0)).find(slide, np.array([[80, 80, 120, 120]]), tissue, mask.shape)
    assert seen == [(32, 32)]


def test_a_region_that_cannot_be_read_is_left_out_by_the_model(caplog):
    slide = ArraySlide(1400, 900)
    slide.errors[(32, 32)] = SlideError(Status.UNREADABLE, "cannot be decoded")
    mask, tissue = whole_tissue(slide)
    regions = np.array([[70, 70, 120, 120], [640, 480, 940, 780]])
    finder = model_finder(plant(1400, 900, 1.0))
    found = finder.find(slide, regions, tissue, mask.shape)
    assert np.array_equal(found.regions, regions[1:])
    assert set(region_of(found.nuclei, regions).tolist()) == {1}
    assert "cannot be decoded" in caplog.text
    with pytest.raises(SlideError, match="cannot be decoded") as error:
        finder.find(slide, regions[:1], tissue, mask.shape)
    assert error.value.status is Status.UNREADABLE


class Painted:
    """A picture in level-0 pixels that is read at any scale, and breaks where it is told to."""

    def __init__(self, picture, mpp, broken=None):
        self.info = slide_info(picture.shape[1], picture.shape[0], mpp=mpp)
        self.picture, self.broken = picture, broken

    def read(self, x, y, w, h, *, size):
        if self.broken and x < self.broken:
            raise SlideError(Status.UNREADABLE, "cannot be decoded")
        canvas = np.full((h, w, 3), 240, np.uint8)
        part = self.picture[max(y, 0) : y + h, max(x, 0) : x + w]
        canvas[max(-y, 0) : max(-y, 0) + part.shape[0], max(-x, 0) : max(-x, 0) + part.shape[1]] = part
        step = w // size[0]
        assert (w, h) == (size[0] * step, size[1] * step)
        return canvas.reshape(size[1], step, size[0], step, 3).mean(axis=(1, 3)).astype(np.uint8)


DISCS = [
    (60.0, 40.0, 5.0, 5.0, 0.5, 0.0),
    (99.0, 60.0, 5.0, 5.0, 0.3, 0.6),
    (102.0, 90.0, 5.0, 5.0, 0.5, 0.0),
]


def test_by_stain_boxes_are_in_slide_pixels_and_whole_at_the_border():
    slide = Painted(paint((600, 600), DISCS, mpp=0.25), 0.25)
    tissue = TissueRecord(32.0, 32.0, (240.0, 238.0, 242.0), 1.0)
    region = np.array(
        [[0, 0, 400, 400]]
    )  # to 100 µm: the second disc hangs out, the third's centre is outside
    found = find_by_stain(slide, region, tissue)
    assert found.nuclei["label"].to_list() == ["Negative", "Positive"]
    expected = [[(x - r) * 4, (y - r) * 4, (x + r) * 4, (y + r) * 4] for x, y, r, *_ in DISCS[:2]]
    assert np.allclose(found.nuclei.select(BOX), expected, atol=3.0)
    assert found.model is None


def test_by_stain_a_region_that_cannot_be_read_is_left_out(caplog):
    slide = Painted(paint((600, 900), DISCS, mpp=0.25), 0.25, broken=100)
    tissue = TissueRecord(32.0, 32.0, (240.0, 238.0, 242.0), 1.0)
    regions = np.array([[0, 0, 200, 200], [200, 0, 400, 200]])
    found = find_by_stain(slide, regions, tissue)
    assert np.array_equal(found.regions, regions[1:])
    assert len(found.nuclei) == 1
    assert "cannot be decoded" in caplog.text
    with pytest.raises(SlideError, match="no region could be read: cannot be decoded"):
        find_by_stain(slide, regions[:1], tissue)


def configured(tmp_path, **sections):
    return Config.model_validate({"model": str(tmp_path / "m.onnx"), **sections})


def prepared(folder, path, config, slide_id="S1"):
    """Take a slide as far as the prelabel step expects it."""
    folder.mkdir()
    mask_tissue(
        slide_id=slide_id, path=str(path), readable=str(path), mpp=None, settings=config.tissue, folder=folder
    )
    return folder


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_slide(
        tmp_path_factory.mktemp("sim") / "S1.tiff", width=2400, height=1800, percent_positive=40.0, seed=3
    )


def test_the_step_without_a_model_on_a_simulated_slide(tmp_path, simulated):
    config = configured(tmp_path, prelabel={"finder": "classical", "regions": 3, "region_um": 150.0})
    folder = prepared(tmp_path / "S1", simulated.path, config)
    output = tmp_path / "S1.geojson"
    run = dict(config=config, engine=None, gpu=0, threads=1, folder=folder)
    prelabel_slide(**run, output=output)
    info = SlideRecord.read(folder / "slide.json").info
    labels = read_labels(output, classes=CLASSES, ignore=[], info=info)
    assert len(labels.regions) == 3
    truth = simulated.read()
    truth = truth.filter(pl.Series(region_of(truth, labels.regions) >= 0))
    centres, planted = (
        (boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (labels.boxes, truth.select(BOX).to_numpy())
    )
    distance = np.linalg.norm(planted[:, None] - centres[None], axis=2).min(axis=1)
    assert len(planted) > 30
    assert (distance < 10).mean() > 0.7  # 5 µm
    prelabel_slide(**run, output=tmp_path / "again.geojson")
    assert (tmp_path / "again.geojson").read_bytes() == output.read_bytes()
    assert json.loads(output.read_text())["prelabel"]["finder"] == "classical"


@pytest.fixture
def marked(tmp_path):
    """A slide on which a tiny detector of three classes sees planted nuclei, with its engine."""
    config = configured(tmp_path, prelabel={"regions": 2, "region_um": 150.0})
    write_detector(tmp_path / "m.onnx", metadata=THREE_METADATA, classes=THREE_CLASSES)
    planted = write_marked_slide(
        tmp_path / "S1.tiff", [(30, 20, 10), (20, 20, 20), (10, 20, 30), (20, 20, 20)]
    )
    folder = prepared(tmp_path / "S1", tmp_path / "S1.tiff", config)
    engine = tmp_path / "engine.json"
    prepare_engine(model=config.model, backend="openvino", precision="f32", output=engine)
    return config, folder, engine, planted


def test_the_step_with_a_model_of_three_classes(tmp_path, marked):
    config, folder, engine, planted = marked
    output = tmp_path / "S1.geojson"
    prelabel_slide(config=config, engine=engine, gpu=0, threads=2, folder=folder, output=output)
    names = ("Positive", "Weak", "Negative")
    info = SlideRecord.read(folder / "slide.json").info
    labels = read_labels(output, classes={name: name for name in names}, ignore=[], info=info)
    assert len(labels.regions) == 2
    expected = [
        (x, y, names[label])
        for x, y, label in planted
        if any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in labels.regions)
    ]
    centres = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    found = sorted(zip(centres[:, 0].round(), centres[:, 1].round(), labels.labels.tolist(), strict=True))
    assert len(expected) > 10
    assert found == sorted((round(x), round(y), name) for x, y, name in expected)
    colours = {
        tuple(feature["properties"]["classification"]["color"])
        for feature in json.loads(output.read_text())["features"]
    }
    assert len(colours) == 4


def test_the_uncertain_regions_need_the_nuclei_of_a_run(tmp_path, marked):
    config, folder, engine, _ = marked
    uncertain = config.model_copy(
        update={"prelabel": config.prelabel.model_copy(update={"choose": "uncertain", "regions": 1})}
    )
    run = dict(config=uncertain, engine=engine, gpu=0, threads=1, folder=folder)
    with pytest.raises(InputError, match=r"nuclei\.parquet: no such file.*random"):
        prelabel_slide(**run, output=tmp_path / "S1.geojson")
    assert not (tmp_path / "S1.geojson").exists()
    rng = np.random.default_rng(0)
    corners = rng.uniform(100, 1040, (400, 2))
    doubtful = (corners > 700).all(axis=1)
    table = nuclei(
        np.concatenate([corners, corners + 10], axis=1), scores=np.where(doubtful, 0.3, 1).tolist()
    )
    table.write_parquet(folder / "nuclei.parquet")
    prelabel_slide(**run, output=tmp_path / "S1.geojson")
    info = SlideRecord.read(folder / "slide.json").info
    (region,) = read_labels(
        tmp_path / "S1.geojson", classes={"Positive": "P", "Weak": "W", "Negative": "N"}, ignore=[], info=info
    ).regions
    assert (region[:2] > 650).all()


@pytest.mark.parametrize("status", [Status.MISSING, Status.UNREADABLE, Status.NO_TISSUE, Status.NO_MPP])
@pytest.mark.parametrize("info", [True, False])
def test_a_bad_slide_gives_a_valid_empty_file_and_a_line(tmp_path, caplog, status, info):
    described = slide_info(4000, 3000) if info else None
    SlideRecord("S9", "S9.svs", status, "copy it again", described).write(tmp_path / "slide.json")
    config = configured(tmp_path, prelabel={"finder": "classical", "choose": "random"})
    output = tmp_path / "S9.geojson"
    prelabel_slide(config=config, engine=None, gpu=0, threads=1, folder=tmp_path, output=output)
    content = json.loads(output.read_text())
    assert content["features"] == []
    assert content["prelabel"]["status"] == status
    assert validate_geojson(output).n_features == 0
    assert f"S9: no regions, the slide is {status}: copy it again" in caplog.text


def test_a_slide_that_vanished_since_gives_an_empty_file(tmp_path, simulated, caplog):
    config = configured(tmp_path, prelabel={"finder": "classical"})
    folder = prepared(tmp_path / "S1", simulated.path, config)
    record = json.loads((folder / "slide.json").read_text())
    record["info"]["path"] = str(tmp_path / "gone.tiff")
    (folder / "slide.json").write_text(json.dumps(record))
    output = tmp_path / "S1.geojson"
    prelabel_slide(config=config, engine=None, gpu=0, threads=1, folder=folder, output=output)
    assert validate_geojson(output).n_features == 0
    assert json.loads(output.read_text())["prelabel"]["status"] == "missing"
    assert "gone.tiff" in caplog.text


def test_the_model_must_be_there_and_the_one_that_the_engine_was_made_for(tmp_path, marked):
    config, folder, engine, _ = marked
    run = dict(config=config, gpu=0, threads=1, folder=folder, output=tmp_path / "S1.geojson")
    with pytest.raises(ModelError, match=r"no engine\.json; set it to `classical`"):
        prelabel_slide(**run, engine=None)
    write_detector(tmp_path / "m.onnx", metadata={**THREE_METADATA, "version": "4"}, classes=THREE_CLASSES)
    with pytest.raises(ModelError, match="changed since"):
        prelabel_slide(**run, engine=engine)
    assert not (tmp_path / "S1.geojson").exists()


def test_fewer_regions_than_asked_for_are_told(tmp_path, simulated, caplog):
    config = configured(tmp_path, prelabel={"finder": "classical", "regions": 500, "region_um": 400.0})
    folder = prepared(tmp_path / "S1", simulated.path, config)
    with caplog.at_level(logging.INFO):
        prelabel_slide(
            config=config, engine=None, gpu=0, threads=1, folder=folder, output=tmp_path / "S1.geojson"
        )
    assert "of 500 regions fit; a smaller prelabel.region_um gives more" in caplog.text


def test_objects_lie_on_the_nuclei_where_qupath_crops_the_slide(tmp_path):
    """A scan at (300, 200): QuPath's (0, 0) is the scan's corner."""
    discs = [(40.0 + 50 * i, 30.0 + 45 * j, 5.0, 5.0, 0.5, 0.0) for i in range(9) for j in range(7)]
    tissue = (256.0, 192.0, 230.0, 170.0, 0.15, 0.03)
    picture = paint((768, 1024), [tissue, *discs], haze=(0, 0))
    path = write_scn(tmp_path / "S1.scn", picture, offset=(300, 200), canvas=(2000, 1500))
    config = configured(tmp_path, prelabel={"finder": "classical", "regions": 1, "region_um": 300.0})
    folder = prepared(tmp_path / "S1", path, config)
    output = tmp_path / "S1.geojson"
    prelabel_slide(config=config, engine=None, gpu=0, threads=1, folder=folder, output=output)
    _, *found = json.loads(output.read_text())["features"]
    centres = np.array([np.mean(np.array(f["geometry"]["coordinates"][0])[[0, 2]], axis=0) for f in found])
    planted = np.array(discs)[:, :2] * 2
    distance = np.linalg.norm(centres[:, None] - planted[None], axis=2).min(axis=1)
    assert len(found) > 10
    assert distance.max() < 2.0
