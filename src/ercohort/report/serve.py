"""`ercohort view`: the report and the slides with their nuclei, served to a browser on this machine alone.

Slides are patients' data and other people may use the machine: the server listens on the loopback device, and
every address starts with a word that only the person who started it was shown. Nothing in an address becomes
a path: it names a slide or a file among those that were listed.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ercohort.errors import InputError
from ercohort.record import SlideRecord
from ercohort.report.nuclei_tiles import NucleiTiles
from ercohort.report.page import HERE, render_viewer
from ercohort.report.slide_tiles import SlideTiles

LOGGER = logging.getLogger("ercohort")

TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".jpg": "image/jpeg", ".png": "image/png",
    ".svg": "image/svg+xml", ".json": "application/json", ".csv": "text/plain; charset=utf-8",
    ".sha256": "text/plain; charset=utf-8", ".zip": "application/zip", ".parquet": "application/octet-stream",
}  # fmt: skip
"""Files that are served, by suffix."""

VIEWER_FILES = {
    "openseadragon.js": HERE / "vendor/openseadragon.min.js",
    "viewer.js": HERE / "static/viewer.js",
    "nuclei.js": HERE / "static/nuclei.js",
    "viewer.css": HERE / "static/viewer.css",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OPEN_SLIDES = 4


@dataclass(frozen=True)
class Answer:
    """What goes back to the browser."""

    body: bytes
    type: str
    status: HTTPStatus = HTTPStatus.OK
    lasting: bool = False
    policy: str = POLICY


@dataclass(frozen=True)
class OpenSlide:
    """A slide and its nuclei."""

    record: SlideRecord
    pixels: SlideTiles
    nuclei: NucleiTiles


class Viewer:
    """What can be asked of a results folder; opens slides when they are first looked at.

    Parameters
    ----------
    results
        The folder that a run wrote.

    Raises
    ------
    InputError
        There are no slides in it.
    """

    def __init__(self, results: Path) -> None:
        self.results = results.resolve()
        self.slides = {path.parent.name: path for path in sorted(self.results.glob("slides/*/slide.json"))}
        if not self.slides:
            raise InputError(f"{results}: holds no slides of a run; name the folder that snakemake wrote")
        self._open: OrderedDict[str, OpenSlide] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, slide_id: str) -> OpenSlide:
        """Return a slide and its nuclei; the few that were used last stay open.

        Raises
        ------
        InputError
            There is no such slide, or it could not be opened when the workflow ran.
        """
        path = self.slides.get(slide_id)
        if path is None:
            raise InputError(f"{self.results}: no slide named {slide_id}")
        with self._lock:
            if slide_id not in self._open:
                self._open[slide_id] = _open(path)
                # Not closed: another thread may be reading; it goes when that one is done.
                while len(self._open) > OPEN_SLIDES:
                    self._open.popitem(last=False)
            self._open.move_to_end(slide_id)
            return self._open[slide_id]

    def answer(self, parts: list[str], query: dict[str, list[str]]) -> Answer | None:
        """Answer one address, given as its decoded parts; None if there is nothing there."""
        match parts:
            case ["view", slide_id] if slide_id in self.slides:
                return self._page(slide_id)
            case ["static", name] if name in VIEWER_FILES:
                return _file(VIEWER_FILES[name])
            case ["tiles", slide_id, zoom, place] if slide_id in self.slides:
                return self._tile(self.open(slide_id).pixels.tile, zoom, place, "image/jpeg")
            case ["nuclei", slide_id, zoom, place] if slide_id in self.slides:
                score = _number(query.get("score", ["0"])[0])
                tile = partial(self.open(slide_id).nuclei.tile, score=score)
                return self._tile(tile, zoom, place, "application/octet-stream")
            case ["slides", slide_id, name] if slide_id in self.slides:
                return _listed(self.slides[slide_id].parent, name)
            case ["report", name]:
                return _listed(self.results / "report", name, policy="")
            case [name]:
                return _listed(self.results, name)
        return None

    def _page(self, slide_id: str) -> Answer:
        slide = self.open(slide_id)
        from ercohort.geojson import class_colours
        from ercohort.report.collect import is_simulated

        data = {
            "id": slide_id,
            "width": slide.pixels.size[0],
            "height": slide.pixels.size[1],
            "mpp": slide.pixels.info.mpp,
            "greatestZoom": slide.pixels.greatest_zoom,
            "trouble": slide.pixels.trouble,
            "simulated": is_simulated(self.results, slide.record.path, stated=slide.pixels.info.simulated),
            "classes": [
                {"name": name, "colour": colour}
                for name, colour in class_colours(slide.nuclei.labels).items()
            ],
            "graded": bool(slide.nuclei.grades.any()),
            "nNuclei": len(slide.nuclei.cells),
            "outlineZoom": slide.nuclei.greatest_outline_zoom,
            "report": (self.results / "report/index.html").is_file(),
        }
        return Answer(render_viewer(data).encode(), TYPES[".html"])

    def _tile(self, make: Callable[..., bytes | None], zoom: str, place: str, kind: str) -> Answer | None:
        found = re.fullmatch(r"(\d{1,5})_(\d{1,5})(\.jpg)?", place)
        if found is None or not re.fullmatch(r"-?\d{1,2}", zoom) or not -4 <= int(zoom) <= 16:
            return None
        body = make(int(zoom), int(found[1]), int(found[2]))
        return None if body is None else Answer(body, kind, lasting=True)


def _open(path: Path) -> OpenSlide:
    record = SlideRecord.read(path)
    if record.info is None:
        raise InputError(f"{record.slide_id}: cannot be shown: {record.message}")
    nuclei = NucleiTiles.read(path.parent / "nuclei.parquet", record.info.bounds[:2])
    return OpenSlide(record, SlideTiles(path.parent, record), nuclei)


def _listed(folder: Path, name: str, policy: str = POLICY) -> Answer | None:
    """Return a file of a folder, if its listing holds that very name and the kind is served."""
    try:
        path = next((path for path in folder.iterdir() if path.name == name), None)
    except OSError:
        return None
    if path is None or name.startswith(".") or path.suffix not in TYPES or not path.is_file():
        return None
    return _file(path, policy)


def _file(path: Path, policy: str = POLICY) -> Answer:
    return Answer(path.read_bytes(), TYPES[path.suffix], policy=policy)


def _number(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, viewer: Viewer, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.viewer = viewer
        self.word = secrets.token_urlsafe(16)

    @property
    def address(self) -> str:
        """The address to open, with a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}/{self.word}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        word, *parts = [unquote(part) for part in url.path.removeprefix("/").split("/")]
        hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        known = secrets.compare_digest(word.encode(), self.server.word.encode())
        if self.headers.get("Host") not in hosts or not known:
            self._send(Answer(b"not found\n", "text/plain", HTTPStatus.NOT_FOUND))
            return
        self._send(self._answer(parts, parse_qs(url.query)))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, parts: list[str], query: dict[str, list[str]]) -> Answer:
        try:
            found = self.server.viewer.answer(parts, query)
        except InputError as error:
            return Answer(f"{error}\n".encode(), "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND)
        except Exception as error:
            LOGGER.exception("%s", self.path)
            text = f"{type(error).__name__}: {error}\n"
            return Answer(text.encode(), "text/plain; charset=utf-8", HTTPStatus.INTERNAL_SERVER_ERROR)
        return found or Answer(b"not found\n", "text/plain", HTTPStatus.NOT_FOUND)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "private, max-age=3600" if answer.lasting else "no-store")
        if answer.policy:
            self.send_header("Content-Security-Policy", answer.policy)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(answer.body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for the address."""


def make_server(results: Path, port: int = 0) -> _Server:
    """Make a server for a results folder; `serve_forever` starts it, `address` is where it is.

    Raises
    ------
    InputError
        There are no slides in the folder, or the port is taken.
    """
    try:
        return _Server(Viewer(results), port)
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; name another with --port") from None


def start_page(viewer: Viewer, slide_id: str | None) -> str:
    """Return what follows the server's address: a slide's page, or the report.

    Raises
    ------
    InputError
        There is no such slide, or no report.
    """
    if slide_id is not None:
        viewer.open(slide_id)
        return f"view/{quote(slide_id)}"
    if not (viewer.results / "report/index.html").is_file():
        raise InputError(f"{viewer.results}: holds no report; run snakemake, or name a slide")
    return "report/index.html"
