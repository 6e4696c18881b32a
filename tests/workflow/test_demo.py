"""The sheet of the repository is the demo cohort, so that the plain command runs it."""

from pathlib import Path

from ercohort.sheet import read_sheet
from ercohort.simulate import simulate_cohort

ROOT = Path(__file__).parents[2]


def test_the_default_sheet_names_the_slides_that_make_demo_writes(tmp_path):
    simulate_cohort(tmp_path / "demo", width=64, height=64)
    written = read_sheet(tmp_path / "demo/samples.tsv").values()
    committed = read_sheet(ROOT / "config/samples.tsv").values()
    assert [(s.slide_id, f"demo/{Path(s.path).name}", s.mpp, s.extra) for s in written] == [
        (s.slide_id, s.path, s.mpp, s.extra) for s in committed
    ]
