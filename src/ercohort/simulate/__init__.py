"""Simulated whole slides of ER immunohistochemistry, with known truth.

Made for demonstrations, exact tests, benchmarks and training; they are called simulated wherever a person
sees them.
"""

from ercohort.simulate.cohort import simulate_cohort
from ercohort.simulate.slide import Truth, simulate_slide
from ercohort.simulate.tile import Tile, simulate_tile

__all__ = ["Tile", "Truth", "simulate_cohort", "simulate_slide", "simulate_tile"]
