"""Where QuPath shows a nucleus of a slide whose scan does not begin at the origin, from file to GeoJSON."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import polars as pl
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


def test_a_region_drawn_in_qupath_counts_what_it_shows(tmp_path):
    truth = simulate_slide(
        tmp_path / "plain.tif", width=2048, height=768, mpp=0.5, percent_positive=50, seed=22
    )
    with open_slide(truth.path) as slide:
        pixels = slide.read(0, 0, 2048, 768)
    scn = slides.write_scn(tmp_path / "leica.scn", pixels, offset=OFFSET, canvas=(3000, 1500))
    config = Config(model=str(ROOT / "models/er-yolov8n.onnx"), precision="f32")
    drawn = {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[0, 0], [500, 0], [500, 768], [0, 768], [0, 0]]],
        },
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}},
    }
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps({"type": "FeatureCollection", "features": [drawn]}))

    def nuclei(name, **options):
        made = run_slide(str(scn), tmp_path / name, config, mpp=0.5, gpu=0, report=lambda *_: None, **options)
        return made.row, pl.read_parquet(made.folder / "nuclei.parquet")

    _, everywhere = nuclei("all")
    row, inside = nuclei("roi", roi=str(roi))
    centre = (everywhere["x0"] + everywhere["x1"]) / 2
    assert inside.drop("region").equals(everywhere.filter(centre <= 500 + OFFSET[0]).drop("region"))
    assert 50 < len(inside) < len(everywhere)
    assert set(everywhere["region"]) == {"tissue"}
    assert set(inside["region"]) == {"tumour"}
    assert (row["region"], row["n_nuclei"]) == ("tumour", len(inside))
    tiles = [pl.read_parquet(tmp_path / name / "tiles.parquet") for name in ("all", "roi")]
    assert len(tiles[1]) < len(tiles[0])
    assert tiles[1]["core_x0"].max() <= 500 + OFFSET[0]

    (tmp_path / "torn.geojson").write_text('{"type": "FeatureCollection", "features": [')
    torn, none = nuclei("torn", roi=str(tmp_path / "torn.geojson"))
    assert torn["status"] == "failed"
    assert "torn.geojson" in torn["message"]
    assert torn.get("n_nuclei") is None
    assert len(none) == 0
