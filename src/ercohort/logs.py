"""The log file of one job."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ercohort.errors import ErcohortError, MachineError
from ercohort.inert import each_line
from ercohort.run_lock import stay_with_run

LOGGER = logging.getLogger("ercohort")


class _InertFormatter(logging.Formatter):
    """Keeps names of files and what libraries say of them from steering the screen that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return each_line(super().format(record))


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send log lines and the traceback of a failing job to `path`, and end the job with its run.

    An error that ercohort raises on purpose, and one of the system (a disk, a share), ends the job with its
    one line on the screen; the traceback is in the log. Any other error is raised as it is.
    """
    logging.raiseExceptions = False  # a full disk must not fill the screen: what cannot be logged is not
    handler: logging.Handler | None = None
    try:
        handler = _open_log(Path(path))
        stay_with_run()
        yield
    except (ErcohortError, OSError) as error:
        # Where the disk is to blame, it does not matter which line met it.
        LOGGER.error("%s%s", error, "" if isinstance(error, OSError) else f"\n{traceback.format_exc()}")
        print(f"ercohort: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BaseException:
        LOGGER.error("%s", traceback.format_exc())
        raise
    finally:
        if handler is not None:
            LOGGER.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _open_log(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    except OSError as error:
        raise MachineError(
            f"{path}: the log cannot be written: {error.strerror}; cure that and run the same command again"
        ) from None
    handler.setFormatter(_InertFormatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    return handler
