"""What a training has done so far, on disk, so that a killed one goes on and a finished one does nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ercohort.errors import InputError
from ercohort.files import read_json, write_json


@dataclass
class RunRecord:
    """The diary of one training; changed in place, written after every epoch.

    Attributes
    ----------
    plan
        Everything that decides the weights: settings, classes, digests of tiles and of the start weights.
    limits
        When to stop: hours, epochs, patience. They may change between the parts of an unfinished training.
    epochs
        One row per finished epoch: `epoch` (from 1), `seconds` since the start, losses, rate, validation.
    finished
        Why it ended; empty while it has not.
    start
        Figures of the weights it started from on the validation tiles; empty for random ones.
    """

    plan: dict[str, Any]
    limits: dict[str, Any]
    epochs: list[dict[str, float]] = field(default_factory=list)
    finished: str = ""
    start: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time that the epochs took, over all parts of the training."""
        return self.epochs[-1]["seconds"] if self.epochs else 0.0

    def best(self) -> dict[str, float] | None:
        """Return the row with the highest `class_f1`, the first of equals; None without validation."""
        judged = [row for row in self.epochs if "class_f1" in row]
        return max(judged, key=lambda row: row["class_f1"]) if judged else None

    def over(self) -> str:
        """Say which limit is reached; empty if none."""
        done, best = len(self.epochs), self.best()
        if done >= self.limits["epochs"]:
            return f"{done} epochs"
        if done and self.seconds >= self.limits["hours"] * 3600:
            return f"{self.limits['hours']:g} hours"
        if best and 0 < self.limits["patience"] <= done - best["epoch"]:
            return f"{self.limits['patience']} epochs without gain"
        return ""

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read it back.

        Raises
        ------
        InputError
            The file is damaged.
        """
        try:
            return cls(**read_json(path))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: is damaged ({error}); delete {path.parent} to train anew") from None
