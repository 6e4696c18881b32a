"""What runs the detector: one module per inference library, one protocol for all of them."""

from __future__ import annotations

import sys
from typing import Any

from ercohort.backends.protocol import Backend, Candidates, Slot, Tile
from ercohort.backends.select import BackendChoice, choose_backend, choose_prepared

__all__ = ["Backend", "BackendChoice", "Candidates", "Slot", "Tile", "choose_backend", "choose_prepared"]

# The mere import of openvino reports to Google Analytics and leaves files in the home folder. Without the
# module that does it, openvino takes its own stub. Patients' slides are read here: nothing is to be sent.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
