"""Whole-slide ER immunohistochemistry, from a sheet of slides to one table."""

__version__ = "0.1.0"
