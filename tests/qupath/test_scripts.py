"""The scripts for QuPath, run by Groovy on stubs of QuPath's classes: never in QuPath itself."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ercohort.config import GeoJSONSettings, RegionSettings
from ercohort.geojson import write_geojson
from ercohort.labels.annotations import read_labels
from ercohort.roi_file import read_roi
from tests.unit.test_geojson import INFO, nuclei

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs" / "qupath"
STUBS = Path(__file__).parent / "stubs"
SLIDE = replace(INFO, width=2000, height=1500, bounds=(300, 200, 1000, 800), level_dimensions=((2000, 1500),))
BOXES = [[400, 300, 410, 310], [500, 400, 512, 410], [900, 700, 909, 711]]


GROOVY = os.environ.get("ERCOHORT_GROOVY", "/usr/share/groovy/embeddable")
"""Folder of Groovy's jars (QuPath 0.4 to 0.6 has Groovy 4; Debian's is 2.4)."""


@pytest.fixture(scope="session")
def groovy(tmp_path_factory):
    """Run a script with the stubs on its class path; gives what it prints."""
    jars = sorted(Path(GROOVY).glob("groovy*.jar"))
    if not jars or not shutil.which("java"):
        missing = f"no Groovy in {GROOVY} to run QuPath's scripts with; as root on Debian: make setup-groovy"
        (pytest.fail if "groovy" in os.environ.get("ERCOHORT_REQUIRE", "").split() else pytest.skip)(missing)
    classes = tmp_path_factory.mktemp("stubs")
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, [classes, *jars]))]
    sources = [str(path) for path in STUBS.rglob("*.groovy")]
    compiler = "org.codehaus.groovy.tools.FileSystemCompiler"
    subprocess.run([*java, compiler, "-d", classes, *sources], check=True, timeout=120)

    def run(script: str, project: Path, *args: Path | str, fails: bool = False) -> str:
        result = subprocess.run(
            [*java, f"-Dstub.project={project}", "groovy.ui.GroovyMain", SCRIPTS / script, *map(str, args)],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (result.returncode != 0) == fails, result.stdout + result.stderr
        return result.stdout + result.stderr

    return run


IMAGE = {"width": 1000, "height": 800}
"""As QuPath shows the slide: its bounds."""


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def drawn(number: int, ring: list[list[float]], name: str | None, kind: str = "annotation") -> dict[str, Any]:
    """Give an object as QuPath would write it, in its own frame."""
    properties: dict[str, Any] = {"objectType": kind, "measurements": {"Area": 1.0}}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


def write_project(path: Path, **objects: list[dict[str, Any]]) -> Path:
    images = [
        {**IMAGE, "name": f"{name}.svs", "uri": f"file:/slides/{name}.svs", "objects": found}
        for name, found in objects.items()
    ]
    path.write_text(json.dumps({"images": images}))
    return path


def images(project: Path) -> list[dict[str, Any]]:
    return list(json.loads(project.read_text())["images"])


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "samples.tsv"
    path.write_text("# slides\nslide_id\tpath\tblock\nS1\t/slides/a.svs\tA1\nS2\t/slides/b.svs\tA2\n")
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Give a run's results of slide S1, whose nuclei begin at the bounds' origin in QuPath."""
    folder = tmp_path / "results"
    (folder / "slides" / "S1").mkdir(parents=True)
    write_geojson(
        nuclei(BOXES, ["Positive", "Negative", "Negative"]), folder / "slides/S1/nuclei.geojson.zip",
        slide_id="S1", info=SLIDE, settings=GeoJSONSettings(),
    )  # fmt: skip
    with (folder / "cohort_er.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["slide_id", "status", "message", "percent_positive", "er_category", "qc_flags"])
        table.writerow(["S1", "ok", 'said "fine",\nand more', "33.33", "Positive", ""])
        table.writerow(["S2", "missing", "no such file", "", "", ""])
    record = {"info": {"bounds": [300, 200, 1000, 800]}}
    (folder / "slides/S1/slide.json").write_text(json.dumps(record))
    (folder / "run.json").write_text('{"config": {"geojson": {"frame": "qupath"}}}')
    return folder


def test_a_cohort_is_imported_once(groovy, tmp_path, sheet, results):
    project = write_project(tmp_path / "project.json", a=[], b=[], other=[])
    said = groovy("import_cohort.groovy", project, results, sheet)
    a, b, other = images(project)
    assert [feature["properties"]["classification"]["name"] for feature in a["objects"]] == [
        "Positive", "Negative", "Negative",
    ]  # fmt: skip
    assert a["objects"][0]["geometry"]["coordinates"][0][0] == [100, 100]  # in QuPath's frame
    assert {feature["properties"]["objectType"] for feature in a["objects"]} == {"detection"}
    assert a["type"] == "BRIGHTFIELD_H_DAB"
    assert a["metadata"] == {
        "ercohort status": "ok", "ercohort percent_positive": "33.33", "ercohort er_category": "Positive",
    }  # fmt: skip
    assert b["objects"] == other["objects"] == []
    assert "b.svs: the run has no results of S2; left as it is" in said
    assert "other.svs: no row of the sheet names this file" in said
    assert "1 of 3 images got their results" in said

    # Corrected since: a second import leaves it, unless it is told to.
    a["objects"][0]["properties"]["classification"]["name"] = "Negative"
    project.write_text(json.dumps({"images": [a, b, other]}))
    assert "3 of these nuclei are there already" in groovy("import_cohort.groovy", project, results, sheet)
    assert images(project)[0] == a
    groovy("import_cohort.groovy", project, results, sheet, "--replace")
    again = images(project)[0]["objects"]
    assert len(again) == 3
    assert again[0]["properties"]["classification"]["name"] == "Positive"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffslide_id\tpath\nS1\t/slides/a.svs\n",  # as spreadsheets save it
        'slide_id\tpath\n"S1"\t"/slides/a.svs"\n',
        "path\tblock\tslide_id\r\n/slides/a.svs\t\tS1\r\n",
        "slide_id\tpath\nS1\t/elsewhere/a.svs\n",  # the slides were moved since
        "slide_id\tpath\na.svs\t/slides/a.tiff\nS1\t/slides/a.svs\n",  # the whole path decides
    ],
)
def test_a_row_of_the_sheet_is_found_however_it_was_written(groovy, tmp_path, results, text):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(text, newline="")
    project = write_project(tmp_path / "project.json", a=[])
    assert "3 nuclei of S1" in groovy("import_cohort.groovy", project, results, sheet)


def test_a_folder_of_dicom_files_is_found_by_its_name(groovy, tmp_path, results):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("slide_id\tpath\nS1\t/slides/case\n")
    project = tmp_path / "project.json"
    image = {**IMAGE, "name": "00001", "uri": "file:/slides/case/00001.dcm", "objects": []}
    project.write_text(json.dumps({"images": [image]}))
    assert "3 nuclei of S1" in groovy("import_cohort.groovy", project, results, sheet)


def test_an_image_that_several_rows_name_is_left_as_it_is(groovy, tmp_path, results):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("slide_id\tpath\nS1\t/one/a.svs\nS2\t/two/a.svs\n")
    project = write_project(tmp_path / "project.json", a=[])
    said = groovy("import_cohort.groovy", project, results, sheet)
    assert "a.svs: several rows of the sheet name this file; left as it is" in said
    assert images(project)[0]["objects"] == []


def test_other_stains_in_the_folder_of_a_patient_get_no_nuclei(groovy, tmp_path, results):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("slide_id\tpath\nS1\t/slides/S1/ER.svs\n")
    project = tmp_path / "project.json"
    stains = [
        {**IMAGE, "name": f"{stain}.svs", "uri": f"file:/slides/S1/{stain}.svs", "objects": []}
        for stain in ("ER", "HE", "HER2")
    ]
    project.write_text(json.dumps({"images": stains}))
    assert "1 of 3 images got their results" in groovy("import_cohort.groovy", project, results, sheet)
    assert [len(image["objects"]) for image in images(project)] == [3, 0, 0]


def test_two_images_of_one_row_are_left_alone(groovy, tmp_path, sheet, results):
    project = write_project(tmp_path / "project.json", a=[], b=[])
    twice = images(project)
    project.write_text(json.dumps({"images": [twice[0], twice[0], twice[1]]}))
    said = groovy("import_cohort.groovy", project, results, sheet)
    assert said.count("a.svs: several images of the project are S1 by their names") == 2


def test_an_image_in_another_frame_gets_no_nuclei(groovy, tmp_path, sheet, results):
    project = write_project(tmp_path / "project.json", a=[])
    whole = images(project)[0] | {"width": 2000, "height": 1500}  # an MRXS that was not cropped
    project.write_text(json.dumps({"images": [whole]}))
    said = groovy("import_cohort.groovy", project, results, sheet)
    assert "a.svs: is 2000 x 1500 px in QuPath, and 1000 x 800 px of S1 were counted" in said
    assert images(project)[0]["objects"] == []


def test_an_image_that_cannot_be_read_costs_no_other_its_results(groovy, tmp_path, results):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("slide_id\tpath\nS0\t/slides/a.svs\nS1\t/slides/b.svs\n")
    (results / "cohort_er.csv").write_text("slide_id,status,n_nuclei\nS0,ok,3\nS1,ok,5\n")
    shutil.copytree(results / "slides/S1", results / "slides/S0")
    project = write_project(tmp_path / "project.json", a=[], b=[])
    first, second = images(project)
    project.write_text(json.dumps({"images": [first | {"broken": True}, second]}))
    said = groovy("import_cohort.groovy", project, results, sheet)
    assert "a.svs: cannot be read or written" in said
    assert "b.svs: QuPath read 2 nuclei fewer than the table counts" in said
    assert images(project)[1]["metadata"]["ercohort n_nuclei"] == "5"


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.groovy")))
def test_a_file_that_is_no_sheet_is_refused(groovy, tmp_path, results, script):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("slide;file\nS1;/slides/a.svs\n")
    project = write_project(tmp_path / "project.json", a=[])
    given = (results, sheet) if script == "import_cohort.groovy" else (sheet, tmp_path / "out")
    said = groovy(script, project, *given, fails=True)
    assert "has no columns slide_id and path" in said


def test_the_scripts_agree_on_what_they_share():
    """QuPath runs one file at a time, so each has its own copy."""
    texts = [path.read_text() for path in sorted(SCRIPTS.glob("*.groovy"))]
    for name in ("readSheet", "findRows"):
        copies = {text[text.index(f"def {name} = ") :].split("\n}\n")[0] for text in texts}
        assert len(texts) == 3
        assert len(copies) == 1


def open_in_the_viewer(project: Path, number: int) -> None:
    found = images(project)
    found[number]["open"] = True
    project.write_text(json.dumps({"images": found}))


def test_the_image_in_the_viewer_gets_its_results_too(groovy, tmp_path, sheet, results):
    project = write_project(tmp_path / "project.json", a=[drawn(9, square(0, 0, 50), "Tumor")], b=[])
    open_in_the_viewer(project, 0)
    assert "3 nuclei of S1" in groovy("import_cohort.groovy", project, results, sheet)
    objects = images(project)[0]["objects"]
    assert [feature["properties"]["objectType"] for feature in objects] == ["annotation", *["detection"] * 3]


def test_regions_of_the_image_in_the_viewer_are_those_that_it_shows(groovy, tmp_path, sheet):
    project = write_project(tmp_path / "project.json", a=[], b=[])
    found = images(project)
    found[0] |= {"open": True, "unsaved": [drawn(1, square(10, 20, 300), "Tumor")]}
    project.write_text(json.dumps({"images": found}))
    groovy("export_regions.groovy", project, sheet, tmp_path / "regions")
    roi = read_roi(tmp_path / "regions" / "S1.geojson", info=SLIDE, settings=RegionSettings())
    assert roi.names == ("tumour",)


def test_results_in_another_frame_are_refused(groovy, tmp_path, sheet, results):
    (results / "run.json").write_text('{"config": {"geojson": {"frame": "slide"}}}')
    project = write_project(tmp_path / "project.json", a=[])
    said = groovy("import_cohort.groovy", project, results, sheet, fails=True)
    assert "geojson.frame: slide" in said
    assert images(project)[0]["objects"] == []


def test_exported_regions_are_read_as_regions(groovy, tmp_path, sheet):
    line = drawn(4, [], None)
    line["geometry"] = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
    project = write_project(
        tmp_path / "project.json",
        a=[
            drawn(1, square(10, 20, 300), "Tumor"), drawn(2, square(50, 60, 100), "Necrosis"),
            drawn(3, square(400, 400, 100), None), line, drawn(5, square(12, 22, 9), "Positive"),
            drawn(6, square(14, 24, 9), "Negative", "detection"),
        ],
        b=[],
    )  # fmt: skip
    said = groovy("export_regions.groovy", project, sheet, tmp_path / "regions")
    assert f"S1\t{tmp_path / 'regions' / 'S1.geojson'}" in said
    assert "b.svs: no annotation with an area; all its tissue counts" in said
    roi = read_roi(tmp_path / "regions" / "S1.geojson", info=SLIDE, settings=RegionSettings())
    assert set(roi.names) == {"tumour", "roi"}
    assert roi.notes == ()
    # QuPath's origin is the bounds' corner, (300, 200).
    found = roi.assign(np.array([320.0, 360, 710, 305]), np.array([230.0, 280, 610, 205]))
    assert [None if index < 0 else roi.names[index] for index in found.tolist()] == [
        "tumour", None, "roi", None,
    ]  # fmt: skip


def test_exported_corrections_are_read_as_labels(groovy, tmp_path, sheet):
    point = drawn(6, [], "Negative")
    point["geometry"] = {"type": "MultiPoint", "coordinates": [[150, 150], [160, 170], [700, 700]]}
    objects = [
        drawn(1, square(100, 100, 200), "Region*"),
        drawn(2, square(110, 110, 10), "Positive", "detection"),
        drawn(3, square(295, 120, 9), "Negative", "detection"),  # its centre is in the region
        drawn(4, square(500, 120, 9), "Negative", "detection"),  # of the rest of the cohort's nuclei
        drawn(5, square(130, 130, 9), "Ignore*", "annotation"),
        point,
        drawn(7, square(0, 0, 900), "Tumor"),  # an outline of tissue
    ]
    project = write_project(tmp_path / "project.json", a=objects, b=[objects[6]])
    said = groovy("export_corrections.groovy", project, sheet, tmp_path / "labels")
    assert "b.svs: no rectangle of class Region*; left out" in said
    labels = read_labels(
        tmp_path / "labels" / "S1.geojson",
        classes={"Positive": "Positive", "Negative": "Negative"}, ignore=["Ignore*"], info=SLIDE,
    )  # fmt: skip
    assert labels.regions.tolist() == [[400, 300, 600, 500]]
    assert sorted(labels.labels.tolist()) == ["Negative"] * 3 + ["Positive"]
    assert labels.boxes[labels.labels == "Positive"].tolist() == [[410, 310, 420, 320]]
    assert len(labels.ignored) == 1
    assert labels.n_outside == 1  # of the points, the one far off

    kept = (tmp_path / "labels" / "S1.geojson").read_text()
    project = write_project(tmp_path / "project.json", a=objects[:1])
    assert "is there already" in groovy("export_corrections.groovy", project, sheet, tmp_path / "labels")
    assert (tmp_path / "labels" / "S1.geojson").read_text() == kept
