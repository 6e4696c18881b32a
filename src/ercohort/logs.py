"""The log file of one job."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ercohort.errors import ErcohortError
from ercohort.inert import each_line

LOGGER = logging.getLogger("ercohort")


class _InertFormatter(logging.Formatter):
    """Keeps names of files and what libraries say of them from steering the screen that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return each_line(super().format(record))


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send log lines and the traceback of a failing job to `path`.

    An error that ercohort raises on purpose ends the job with its one line on the screen; the traceback is
    in the log. Any other error is raised as it is.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(_InertFormatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    except ErcohortError as error:
        LOGGER.error("%s\n%s", error, traceback.format_exc())
        print(f"ercohort: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BaseException:
        LOGGER.error("%s", traceback.format_exc())
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
