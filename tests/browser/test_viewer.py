"""A slide with its nuclei, served by `ercohort view`, in Chromium: they must lie where they were planted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.report_cohort import NUCLEUS_PX, PLANTED

SETTLED = """() => {
  const world = ercohortViewer.world;
  for (let i = 0; i < world.getItemCount(); i++) if (!world.getItemAt(i).getFullyLoaded()) return false;
  return world.getItemCount() === 2 && !ercohortViewer.isAnimating();
}"""


@pytest.fixture
def viewer(page, served):
    page.goto(f"{served}view/seen")
    page.wait_for_selector("html[data-ready=yes]", state="attached")
    settle(page)
    return page


def settle(page) -> None:
    page.wait_for_timeout(200)
    page.wait_for_function(SETTLED)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def show(page, x: float, y: float, side: float) -> None:
    """Bring a part of the slide to the middle of the window, without animation."""
    page.evaluate(
        """([x, y, side]) => {
          const image = ercohortViewer.world.getItemAt(0);
          const box = image.imageToViewportRectangle(x - side / 2, y - side / 2, side, side);
          ercohortViewer.viewport.fitBounds(box, true);
        }""",
        [x, y, side],
    )
    settle(page)


def rims(page, index: int) -> list[tuple[int, int, int]]:
    """Colour at the right and left end of a planted nucleus, each the strongest of a few pixels."""
    x, y, _, _ = PLANTED[index]
    points = page.evaluate(
        """(places) => places.map(([x, y]) => {
          const image = ercohortViewer.world.getItemAt(0);
          const at = image.imageToWindowCoordinates(new OpenSeadragon.Point(x, y));
          return [at.x, at.y];
        })""",
        [[x - NUCLEUS_PX / 2, y], [x + NUCLEUS_PX / 2, y]],
    )
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    found = []
    for left, top in points:
        row, col = round(top), round(left)
        patch = picture[row - 2 : row + 3, col - 2 : col + 3].reshape(-1, 3)
        found.append(tuple(patch[np.ptp(patch, axis=1).argmax()].tolist()))
    return found


def is_red(colour: tuple[int, int, int]) -> bool:
    return colour[0] > 220 and colour[1] < 110 and colour[2] < 110


def is_blue(colour: tuple[int, int, int]) -> bool:
    return colour[2] > 190 and colour[0] < 150


def test_nuclei_are_drawn_where_they_lie_on_the_slide_at_every_zoom(viewer, seen):
    for side in (220, 500):
        show(viewer, 300, 160, side)
        assert all(map(is_blue, rims(viewer, 1)))
        # This one lies across the border of two tiles.
        show(viewer, 511, 300, side)
        assert all(map(is_red, rims(viewer, 2)))
    assert seen.said == []


def test_classes_score_and_all_nuclei_can_be_switched_off(viewer):
    show(viewer, 511, 300, 220)
    assert all(map(is_red, rims(viewer, 2)))
    viewer.get_by_label("Positive").uncheck()
    settle(viewer)
    assert not any(map(is_red, rims(viewer, 2)))
    viewer.get_by_label("Positive").check()
    settle(viewer)
    assert all(map(is_red, rims(viewer, 2)))
    viewer.get_by_label("Least score").fill("0.5")
    viewer.wait_for_timeout(300)
    settle(viewer)
    assert not any(map(is_red, rims(viewer, 2)))
    show(viewer, 100, 100, 220)
    assert all(map(is_red, rims(viewer, 0)))
    viewer.get_by_label("nuclei (4)").uncheck()
    settle(viewer)
    assert not any(map(is_red, rims(viewer, 0)))


def test_it_zooms_and_pans_by_mouse_and_keyboard(viewer, seen, served):
    state = "() => { const v = ercohortViewer.viewport; return [v.getZoom(), v.getCenter().x]; }"
    before = viewer.evaluate(state)
    box = viewer.locator("#slide").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewer.mouse.move(*middle)
    viewer.mouse.wheel(0, -600)
    viewer.wait_for_timeout(300)
    settle(viewer)
    zoomed = viewer.evaluate(state)
    assert zoomed[0] > before[0] * 1.1
    viewer.mouse.down()
    viewer.mouse.move(middle[0] - 150, middle[1], steps=4)
    viewer.mouse.up()
    settle(viewer)
    moved = viewer.evaluate(state)
    assert moved[1] > zoomed[1]
    viewer.locator(".openseadragon-canvas").first.focus()
    viewer.keyboard.press("ArrowLeft")
    viewer.wait_for_timeout(300)
    settle(viewer)
    assert viewer.evaluate(state)[1] < moved[1]
    viewer.keyboard.press("0")
    viewer.wait_for_timeout(300)
    settle(viewer)
    assert viewer.evaluate(state)[0] == pytest.approx(before[0], rel=0.05)
    assert all(url.startswith((served, "data:", "blob:")) for url in seen.asked)
    assert seen.said == []
