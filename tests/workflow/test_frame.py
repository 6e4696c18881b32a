"""Where QuPath shows a nucleus of a slide whose scan does not begin at the origin, from file to GeoJSON."""

from __future__ import annotations

import json
import zipfile

import numpy as np
from scipy.spatial import cKDTree

from ercohort.config import Config
from ercohort.run import run_slide
from ercohort.simulate import simulate_slide
from ercohort.slide import open_slide
from tests import slides
from tests.workflow.conftest import ROOT

OFFSET = (300, 200)


def test_geojson_lies_on_the_nuclei_that_qupath_shows_cropped_to_the_bounds(tmp_path):
    truth = simulate_slide(
        tmp_path / "plain.tif", width=1024, height=768, mpp=0.5, percent_positive=50, seed=21
    )
    with open_slide(truth.path) as slide:
        pixels = slide.read(0, 0, 1024, 768)
    scn = slides.write_scn(tmp_path / "leica.scn", pixels, offset=OFFSET, canvas=(2000, 1500))
    config = Config(model=str(ROOT / "models/er-yolov8n.onnx"), precision="f32")
    made = run_slide(str(scn), tmp_path / "out", config, mpp=0.5, gpu=0, report=lambda *_: None)

    archive = zipfile.ZipFile(made.folder / "nuclei.geojson.zip")
    collection = json.loads(archive.read(archive.namelist()[0]))
    rings = np.array([feature["geometry"]["coordinates"][0] for feature in collection["features"]])
    shown = (rings.min(axis=1) + rings.max(axis=1)) / 2
    planted = truth.read().select("x0", "y0", "x1", "y1").to_numpy()
    centres = (planted[:, :2] + planted[:, 2:]) / 2

    # The scan alone is what QuPath shows: its pixels, and so the planted nuclei, begin at 0, 0 there.
    distance, nearest = cKDTree(shown).query(centres)
    assert len(planted) > 50
    assert (distance < 5).mean() > 0.9
    assert np.abs(np.median(shown[nearest] - centres, axis=0)).max() < 0.5
    assert collection["coordinate_frame"]["bounds_x"] == OFFSET[0]
