"""Pictures of windows: the right pixels at every scale, and a blank where the file is damaged."""

import subprocess
import sys

import numpy as np
import pytest

from ercohort.slide import SlideInfo, open_slide
from ercohort.slide_picture import BLANK, read_picture
from tests.slides import damage_tile, write_pyramid


@pytest.mark.parametrize(
    ("window", "size"),
    [
        ((0, 0, 1000, 700), (1000, 700)),
        ((130, 70, 400, 300), (400, 300)),
        ((131, 71, 401, 303), (200, 151)),
        ((0, 0, 1000, 700), (250, 175)),
        ((0, 0, 1000, 700), (137, 96)),
        ((200, 200, 100, 100), (300, 300)),
        ((-50, -40, 300, 300), (150, 150)),
        ((900, 600, 300, 300), (300, 300)),
    ],
)
def test_a_picture_shows_what_the_reader_gives(tmp_path, field, window, size):
    path = write_pyramid(tmp_path / "s.tiff", field[:700, :1000], compression="deflate")
    with open_slide(path) as slide:
        expected = slide.read(*window, size=size).astype(float)
        found = np.asarray(read_picture(slide, window, size)).astype(float)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 2.5


def test_a_slide_with_one_level_is_shrunk_block_by_block():
    asked = []

    class OneLevel:
        """A slide of 9000 x 4400 px without a pyramid, of which a column is as bright as its number."""

        info = SlideInfo(
            path="s", vendor="t", width=9000, height=4400, mpp=0.5, mpp_source="sheet",
            level_dimensions=((9000, 4400),), level_downsamples=(1.0,), bounds=(0, 0, 9000, 4400),
            has_bounds=False, background=(255, 255, 255), reader="t", file_bytes=1,
        )  # fmt: skip

        def level_for(self, downsample):
            return 0

        def read_level(self, level, start, step, out):
            asked.append(out.shape)
            out[:] = ((start[0] + np.arange(out.shape[1])) // 40)[None, :, None]

    found = np.asarray(read_picture(OneLevel(), (0, 0, 9000, 4400), (90, 44)))
    assert max(max(shape) for shape in asked) <= 2048
    np.testing.assert_allclose(found[20, :, 0], (np.arange(90) * 100 + 50) / 40 - 0.5, atol=1.5)


def test_a_damaged_tile_is_blank_and_what_is_around_it_is_not(tmp_path, field):
    path = write_pyramid(tmp_path / "s.tiff", field[:700, :1000], compression="deflate")
    damaged = damage_tile(path, tmp_path / "d.tiff", 1)
    with open_slide(damaged) as slide:
        picture = np.asarray(read_picture(slide, (0, 0, 1000, 700), (1000, 700)))
    blank = (picture == BLANK).all(axis=2)
    assert blank[20:240, 270:500].all()
    assert 0.05 < blank.mean() < 0.45
    np.testing.assert_array_equal(picture[600:, 600:], field[600:700, 600:1000])


def test_pictures_load_no_compiler(tmp_path, field):
    path = write_pyramid(tmp_path / "s.tiff", field[:700, :1000])
    code = (
        "import sys; from ercohort import pictures, field_strip, od_histogram\n"
        "from ercohort.slide import SlideInfo, open_slide; from ercohort.slide_picture import read_picture\n"
        f"read_picture(open_slide({str(path)!r}), (3, 5, 900, 601), (450, 300))\n"
        "print([name for name in ('numba', 'scipy', 'matplotlib', 'shapely') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
