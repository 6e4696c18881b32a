"""A stand-in for the outlined H&E tiles: pink ground, violet discs, and their polygons."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

SIZE = 512


def _write_tile(folder, name, rng):
    image = Image.new("RGB", (SIZE, SIZE), (230, 160, 200))
    draw = ImageDraw.Draw(image)
    phi = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    lines = []
    for y in range(40, SIZE, 60):
        for x in range(40, SIZE, 60):
            a, b = rng.uniform(12.0, 20.0, 2)
            outline = np.stack([x + a * np.cos(phi), y + b * np.sin(phi)], 1)
            draw.polygon([tuple(point) for point in outline], fill=(90, 50, 150))
            lines.append("0 " + " ".join(f"{value / SIZE:.6f}" for value in outline.ravel()))
    image.save(folder / f"{name}.jpg", quality=95)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def outlined(tmp_path_factory):
    """Return a folder with three outlined tiles."""
    folder = tmp_path_factory.mktemp("outlined")
    rng = np.random.default_rng(1)
    for k in range(3):
        _write_tile(folder, f"organ_{k}", rng)
    return folder
