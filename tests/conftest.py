"""What all tests share."""

import pytest
from PIL import Image

_OPEN = Image.open


@pytest.fixture(autouse=True, scope="module")
def pillow_as_it_is():
    """Give each module Pillow's own `Image.open`: ultralytics, once imported, replaces it in the process."""
    Image.open = _OPEN
