"""`ercohort view`: only this machine, only with the word in the address, and no way out of the results."""

from __future__ import annotations

import http.client
import io
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from ercohort.errors import InputError, Status
from ercohort.record import SlideRecord
from ercohort.report.serve import make_server, start_page
from tests.report_cohort import bad_summary, slide_with_nuclei, write_slide


@pytest.fixture(scope="module")
def results(tmp_path_factory, scn):
    folder = tmp_path_factory.mktemp("served") / "results"
    slide_with_nuclei(folder, scn)
    write_slide(folder, bad_summary("gone", "missing", "in/gone.svs: no such file"))
    SlideRecord("gone", "x", Status.MISSING, "no such file").write(folder / "slides/gone/slide.json")
    (folder / "cohort_er.csv").write_text("slide_id\n")
    (folder / ".hidden.csv").write_text("secret")
    (folder.parent / "secret.csv").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def server(results):
    made = make_server(results)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(server, path: str, *, word: str | None = None, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest("GET", f"/{server.word if word is None else word}/{path}", skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert urlsplit(server.address).hostname == "127.0.0.1"


def test_files_of_the_run_are_served_to_who_knows_the_address(server):
    assert ask(server, "cohort_er.csv") == (200, b"slide_id\n")
    assert ask(server, "slides/gone/overlay.jpg")[0] == 200


@pytest.mark.parametrize("word", ["", "x", "%C3%A9"])
def test_without_the_word_there_is_nothing(server, word):
    assert ask(server, "cohort_er.csv", word=word)[0] == 404


def test_another_host_name_finds_nothing(server):
    assert ask(server, "cohort_er.csv", host="evil.example")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv", "%2e%2e/secret.csv", "..%2fsecret.csv", "slides/seen/..%2f..%2f..%2fsecret.csv",
        "slides/../secret.csv", "slides%2f..%2f..%2fsecret.csv", "report/..%2f..%2fsecret.csv",
        ".hidden.csv", "slides/seen/nothing.jpg",
        "slides/seen", "tiles/seen/0/0_0_0.jpg", "tiles/seen/99/0_0.jpg", "tiles/seen/0/999_0.jpg",
        "tiles/seen/-1/0_0.jpg", "nuclei/seen/x/0_0", "view/nobody", "static/../page.py", "",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_results(server, path):
    status, body = ask(server, path)
    assert status == 404
    assert b"secret" not in body


def test_a_tile_is_the_slide_s_own_pixels_from_the_corner_of_its_scanned_part(server, field):
    status, body = ask(server, "tiles/seen/0/1_1.jpg")
    assert status == 200
    tile = np.asarray(Image.open(io.BytesIO(body))).astype(int)
    assert tile.shape == (256, 512, 3)
    assert np.abs(tile - field[512:768, 512:1024].astype(int)).mean() < 12
    whole = np.asarray(Image.open(io.BytesIO(ask(server, "tiles/seen/1/0_0.jpg")[1])))
    assert whole.shape == (384, 512, 3)


def test_a_slide_that_could_not_be_opened_says_why(server):
    status, body = ask(server, "view/gone")
    assert (status, body) == (404, b"gone: cannot be shown: no such file\n")


def test_the_start_page_is_checked_before_the_browser_opens(server, tmp_path):
    assert start_page(server.viewer, "seen") == "view/seen"
    with pytest.raises(InputError, match="no slide named nobody"):
        start_page(server.viewer, "nobody")
    with pytest.raises(InputError, match="holds no report"):
        start_page(server.viewer, None)
    with pytest.raises(InputError, match="holds no slides of a run"):
        make_server(tmp_path)


def test_a_slide_that_was_moved_is_shown_from_its_thumbnail(results, scn, tmp_path, field):
    from ercohort.report.serve import Viewer

    slide_with_nuclei(tmp_path / "results", scn, "moved")
    record = tmp_path / "results/slides/moved/slide.json"
    record.write_text(record.read_text().replace(str(scn), str(tmp_path / "elsewhere.scn")))
    slide = Viewer(tmp_path / "results").open("moved")
    assert "elsewhere.scn: no such file" in slide.pixels.trouble
    tile = np.asarray(Image.open(io.BytesIO(slide.pixels.tile(1, 0, 0) or b""))).astype(int)
    blurred = field[:768, :1024].astype(int).mean(axis=(0, 1))
    assert np.abs(tile.mean(axis=(0, 1)) - blurred).max() < 6


def test_a_slide_named_from_the_run_s_folder_is_found_from_anywhere(scn, tmp_path):
    from ercohort.report.serve import Viewer

    slide_with_nuclei(tmp_path / "results", scn)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/leica.scn").symlink_to(scn)
    record = tmp_path / "results/slides/seen/slide.json"
    record.write_text(record.read_text().replace(str(scn), "in/leica.scn"))
    assert Viewer(tmp_path / "results").open("seen").pixels.trouble == ""
