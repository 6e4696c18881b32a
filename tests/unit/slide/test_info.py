"""Scale and layout of a slide."""

import json

import pytest

from ercohort.errors import SlideError, Status
from ercohort.slide.info import SlideInfo, check_size, resolve_mpp, snap_downsample, stated_mpp


def properties(x: str | None = None, y: str | None = None, **more: str) -> dict[str, str]:
    axes = {"openslide.mpp-x": x, "openslide.mpp-y": y}
    return {name: value for name, value in axes.items() if value is not None} | more


def test_sheet_beats_file() -> None:
    assert resolve_mpp("s.svs", properties("0.25", "0.25"), 0.5) == (0.5, "sheet")


def test_file_is_used_when_the_sheet_is_silent() -> None:
    assert resolve_mpp("s.svs", properties("0.2527", "0.2527"), None) == (0.2527, "file")


@pytest.mark.parametrize(
    ("width", "height", "mpp", "fits"),
    [
        (600_000, 400_000, 0.25, True),  # a whole-mount slide of 150 x 100 mm
        (120_000, 240_000, 0.25, True),
        (1_300_000, 1_000, 0.25, False),
        (1_000_000, 1_000_000, 0.25, False),
        (2**31, 2**31, 0.5, False),
        (100_000, 100_000, 2.0, True),
        (200_000, 120_000, 2.0, False),
    ],
)
def test_what_is_larger_than_any_glass_is_damaged(width: int, height: int, mpp: float, fits: bool) -> None:
    if fits:
        check_size("s.svs", width, height, mpp)
        return
    with pytest.raises(SlideError, match=r"s\.svs: states .* mm, larger than any slide") as caught:
        check_size("s.svs", width, height, mpp)
    assert caught.value.status is Status.UNREADABLE


def test_nearly_square_pixels_take_the_mean() -> None:
    mpp, source = resolve_mpp("s.svs", properties("0.25", "0.26"), None)
    assert mpp == pytest.approx(0.255)
    assert source == "file"


@pytest.mark.parametrize(
    ("found", "sheet", "seen"),
    [
        (properties(), None, "no µm per pixel"),
        (properties("0", "0"), None, "no µm per pixel"),
        (properties("nan", "text"), None, "no µm per pixel"),
        (properties("352.858", "352.858"), None, "352.858"),
        (properties("0.25", "0.5"), None, "0.25 x 0.5"),
        (properties("0.25", "0.25"), 0.04, "0.04"),
        (properties("0.25", "0.25"), 250.0, "250"),
        (properties("0.25", "0.25"), float("nan"), "nan"),
        (properties(**{"openslide.objective-power": "40"}), None, "40x"),
    ],
)
def test_impossible_scale_names_the_value_and_the_cure(
    found: dict[str, str], sheet: float | None, seen: str
) -> None:
    with pytest.raises(SlideError) as caught:
        resolve_mpp("dir/s.svs", found, sheet)
    assert caught.value.status is Status.NO_MPP
    assert seen in caught.value.message
    assert "`mpp` column" in caught.value.message
    assert "dir/s.svs" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("edge", [0.05, 2.0])
def test_limits_themselves_are_allowed(edge: float) -> None:
    assert resolve_mpp("s", {}, edge) == (edge, "sheet")


@pytest.mark.parametrize(
    ("level0", "level", "expected"),
    [
        ((46001, 32917), (11500, 8229), 4.0),  # the rest of a pixel was dropped
        ((300, 250), (37, 31), 8.0),
        ((1000, 1000), (1000, 1000), 1.0),
        ((1000, 1000), (300, 300), 1000 / 300),  # not a whole number at all
        ((1000, 1000), (490, 490), 1000 / 490),  # near 2, but too many pixels are missing
    ],
)
def test_downsamples_become_whole_where_rounding_explains_them(
    level0: tuple[int, int], level: tuple[int, int], expected: float
) -> None:
    measured = (level0[0] / level[0] + level0[1] / level[1]) / 2
    assert snap_downsample(measured, level0, level) == pytest.approx(expected)


def test_info_survives_json() -> None:
    info = SlideInfo(
        path="a/b.svs", vendor="aperio", width=10, height=20, mpp=0.25, mpp_source="file",
        level_dimensions=((10, 20), (5, 10)), level_downsamples=(1.0, 2.0), bounds=(0, 0, 10, 20),
        has_bounds=False, background=(255, 255, 255), reader="vips", file_bytes=123,
    )  # fmt: skip
    assert SlideInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


@pytest.mark.parametrize(
    ("values", "stated"),
    [
        (("0.25", "0.25"), 0.25),
        (("0.24", "0.26"), 0.25),
        ((None, "0.25"), 0.25),
        (("352.8", "352.8"), None),  # 72 dpi
        (("nan", ""), None),
        ((None, None), None),
    ],
)
def test_what_the_file_states_is_kept_beside_what_the_sheet_does(values, stated):
    names = ("openslide.mpp-x", "openslide.mpp-y")
    properties = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    assert stated_mpp(properties) == (None if stated is None else pytest.approx(stated))
