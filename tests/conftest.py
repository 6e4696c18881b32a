"""Fixtures that test files share: small slides, the real data beside the project, Pillow as it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tests import slides

_OPEN = Image.open

# A machine that other work keeps busy, or that compiles a kernel first, is no fault of what is tested.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Let hostile names that a test logged pass from one of the parallel test processes to the main one."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def field() -> slides.Array:
    """A stained field of odd size, 1501 x 1103 px."""
    return slides.stained_field(1501, 1103)


@pytest.fixture(scope="session")
def slide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for slides that tests write once and only read."""
    return tmp_path_factory.mktemp("slides")


@pytest.fixture(scope="session")
def jpeg_pyramid(field: slides.Array, slide_folder: Path) -> Path:
    """A generic pyramidal TIFF, JPEG, 0.5 µm per pixel."""
    return slides.write_pyramid(slide_folder / "jpeg.tiff", field)


@pytest.fixture(scope="session")
def deflate_pyramid(field: slides.Array, slide_folder: Path) -> Path:
    """The same, lossless."""
    return slides.write_pyramid(slide_folder / "deflate.tiff", field, compression="deflate")


@pytest.fixture(scope="session")
def svs(field: slides.Array, slide_folder: Path) -> Path:
    """A look-alike of an Aperio SVS with levels 1, 2 and 4, 0.5 µm per pixel."""
    return slides.write_svs(slide_folder / "aperio.svs", field, factors=(2, 4))


@pytest.fixture(scope="session")
def scn(field: slides.Array, slide_folder: Path) -> Path:
    """A look-alike of a Leica SCN: 1024 x 768 px at (300, 200) of 2000 x 1500 px, else transparent."""
    picture = np.ascontiguousarray(field[:768, :1024])
    return slides.write_scn(slide_folder / "leica.scn", picture, offset=(300, 200), canvas=(2000, 1500))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides and fields beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data are not here: {folder} is absent")
    return folder


@pytest.fixture(autouse=True, scope="module")
def pillow_as_it_is() -> None:
    """Give each module Pillow's own `Image.open`: ultralytics, once imported, replaces it in the process."""
    Image.open = _OPEN


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Fail if a thread of the test outlives it by five seconds."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left
