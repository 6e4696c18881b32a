"""Time on the device, of flights that overlap."""

import pytest

from ercohort.gpu.timeline import Timeline


def test_time_in_which_flights_overlap_counts_once() -> None:
    timeline = Timeline()
    assert timeline.busy_seconds() == timeline.engine_seconds() == 0.0
    # When it began, was copied, prepared, through the network and decoded, ms; the second lies in the first.
    for flight in (
        [0, 10, 20, 90, 100],
        [20, 30, 35, 60, 70],
        [95, 100, 110, 120, 200],
        [500, 501, 502, 503, 504],
    ):
        timeline.add(flight)
    assert timeline.busy_seconds() == pytest.approx(0.204)
    assert timeline.engine_seconds() == pytest.approx(0.081)
    assert timeline.stage_seconds() == pytest.approx(
        {"copy": 0.026, "preprocess": 0.026, "engine": 0.106, "decode_nms": 0.101}
    )
    timeline.clear()
    assert timeline.busy_seconds() == 0.0
