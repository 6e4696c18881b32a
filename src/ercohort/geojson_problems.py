"""What is wrong with a file: many problems at once, those alike listed a few times and counted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ercohort.errors import GeoJSONError

MOST_ALIKE = 3
"""Problems of one kind that are listed."""

MOST_LINES = 40

_INDEX = re.compile(r"\[\d+\]")


class BrokenRuleError(GeoJSONError):
    """One rule that a file breaks.

    Parameters
    ----------
    where
        The file, the zip's entry and the feature (counted from 0).
    rule, cure
        What is wrong, and what to do about it.
    """

    def __init__(self, where: str, rule: str, cure: str) -> None:
        super().__init__(f"{where}: {rule}; {cure}")
        self.kind = (_INDEX.sub("[]", where.rpartition(": ")[2]), cure)


@dataclass
class Problems:
    """Problems found so far, by kind: the same member and the same cure."""

    lines: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    counts: dict[tuple[str, ...], int] = field(default_factory=dict)

    def add(self, error: GeoJSONError, count: int = 1) -> None:
        """Note a problem that so many features have; the first few of a kind are listed."""
        kind = error.kind if isinstance(error, BrokenRuleError) else (str(error),)
        self.counts[kind] = self.counts.get(kind, 0) + count
        listed = self.lines.setdefault(kind, [])
        if len(listed) < MOST_ALIKE:
            listed.append(str(error))

    def __bool__(self) -> bool:
        return bool(self.counts)

    def error(self) -> GeoJSONError:
        """All of them as one error, a line for each."""
        lines = []
        for kind, listed in self.lines.items():
            lines += listed
            if more := self.counts[kind] - len(listed):
                lines.append(f"{listed[0].partition(': ')[0]}: and {more:,} more like the last")
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES:,} more lines; correct these first"]
        return GeoJSONError(*lines)
