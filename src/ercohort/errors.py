"""Every error that ercohort raises on purpose.

The message of each is one line that says what is wrong, where, and how to cure it; the command line and
the workflow print it without a traceback.
"""

from __future__ import annotations

import os
from enum import StrEnum

from ercohort.inert import cut, one_line


class Status(StrEnum):
    """What became of a slide; the `status` column of the cohort table."""

    OK = "ok"
    PARTIAL = "partial"
    NO_TISSUE = "no_tissue"
    NO_NUCLEI = "no_nuclei"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NO_MPP = "no_mpp"
    FAILED = "failed"

    @property
    def is_bad(self) -> bool:
        """Whether a person has to do something about the slide."""
        return self in (Status.PARTIAL, Status.MISSING, Status.UNREADABLE, Status.NO_MPP, Status.FAILED)


class ErcohortError(Exception):
    """Base of all errors that ercohort raises on purpose.

    Parameters
    ----------
    lines
        The message: one line for each mistake. Names in it come from outside; whatever would steer a screen
        or begin another line is taken out, and a line is cut where nobody would read on.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(cut(one_line(line)) for line in lines))


class InputError(ErcohortError):
    """A config file, sample sheet, argument or input file that a person has to correct."""


class ModelError(ErcohortError):
    """A detector file that cannot be used: no YOLO head, other classes, no scale."""


class BackendError(ErcohortError):
    """An inference backend that is not installed or fails on this machine."""


class MachineError(ErcohortError):
    """Trouble of the machine, not of the slide: the workflow may try again."""


class DiskError(MachineError, OSError):
    """A file that the disk or the file system does not take.

    Parameters
    ----------
    number
        As of `errno`.
    message
        One line: the file, what is wrong, the cure.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno, self.strerror = number, os.strerror(number)

    def __str__(self) -> str:
        return str(self.args[0])


class GeoJSONError(ErcohortError):
    """A GeoJSON file that QuPath would refuse or read as something else."""


class SlideError(ErcohortError):
    """Something wrong with one slide: it becomes a row of the table, and the run goes on.

    Parameters
    ----------
    status
        The slide's status in the table.
    message
        One line: what was seen, and the cure.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = str(self)
