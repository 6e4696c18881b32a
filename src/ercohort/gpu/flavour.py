"""Which TensorRT there is, and the few things in which TensorRT 10 and 11 and TensorRT-RTX differ.

TensorRT answers a mistake with None, False or -1 and a line in its log. All its lines go through one logger
per library, since it keeps to the first logger it was given, and errors are raised with them.
"""

from __future__ import annotations

import importlib
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ercohort.errors import BackendError

INSTALL = "install one: pip install tensorrt-cu13, or pip install tensorrt-rtx-cu13 (docs/gpu.md)"
_MAJORS = {"TensorRT": (10, 11), "TensorRT-RTX": (1,)}
_KEPT_LINES = 200
_LONGEST = 600  # characters of TensorRT's lines in an error


class Log:
    """The last warnings and errors of one library; made for `Flavour.logger`."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, bool, str]] = deque(maxlen=_KEPT_LINES)
        self._count = 0
        self._changed = threading.Lock()  # TensorRT logs from threads of its own

    def add(self, is_error: bool, line: str) -> None:
        """Keep a line."""
        with self._changed:
            self._count += 1
            self._lines.append((self._count, is_error, " ".join(line.split())))

    def mark(self) -> int:
        """Return where the log ends now."""
        return self._count

    def since(self, mark: int) -> list[tuple[bool, str]]:
        """Return the lines after a mark, each once: whether it is an error, and its text."""
        with self._changed:
            kept = [(is_error, line) for number, is_error, line in self._lines if number > mark]
        return list(dict.fromkeys(kept))


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT.

    Attributes
    ----------
    name
        TensorRT or TensorRT-RTX.
    version
        Full version, such as 11.4.0.106.
    module
        The imported Python package.
    log
        What it said.
    logger
        The `ILogger` that every builder, parser and runtime of this library is given.
    """

    name: str
    version: str
    module: Any = field(repr=False, compare=False)
    log: Log = field(repr=False, compare=False)
    logger: Any = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """Name and version, as the records say it."""
        return f"{self.name} {self.version}"

    @property
    def is_rtx(self) -> bool:
        """Whether it compiles kernels when an engine is loaded, and so keeps no timings of the build."""
        return self.name == "TensorRT-RTX"

    def aim(self, config: Any, capability: tuple[int, int]) -> str:
        """Set the GPU that is built for; return it as the record says it.

        TensorRT builds for the device that is current. TensorRT-RTX builds for a named generation, without a
        GPU too, or for all that it knows.

        Raises
        ------
        BackendError
            TensorRT-RTX refuses the device.
        """
        if not self.is_rtx:
            return "the current device"
        target = getattr(self.module.ComputeCapability, "SM{}{}".format(*capability), None)
        if target is None:
            return "every device"
        mark = self.log.mark()
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(target, 0):
            raise self.failure(f"does not build for compute capability {capability}", mark)
        return str(target.name)

    def failure(self, what: str, mark: int) -> BackendError:
        """Return an error with what the library said after a mark: its errors, or else its warnings."""
        lines = self.log.since(mark)
        said = [line for is_error, line in lines if is_error] or [line for _, line in lines]
        return BackendError(f"{self.label} {what}: {'; '.join(said)[:_LONGEST] or 'it does not say why'}")


@cache
def find_flavour() -> Flavour:
    """Import TensorRT, or else TensorRT-RTX.

    Call it only where `gpu_or_reason` has found a GPU, or for TensorRT-RTX's builder, which needs none.

    Raises
    ------
    BackendError
        Neither is installed, or what is installed cannot be used; with the cure.
    """
    reasons = []
    for package, name in (("tensorrt", "TensorRT"), ("tensorrt_rtx", "TensorRT-RTX")):
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name == package:
                continue
            reasons.append(f"{name} cannot be imported ({_one_line(error)})")
        except Exception as error:  # libraries that are missing, cut short or of another version
            reasons.append(f"{name} cannot be imported ({_one_line(error)})")
        else:
            version = str(getattr(module, "__version__", "0"))
            if version.split(".")[0] in map(str, _MAJORS[name]):
                log = Log()
                return Flavour(name, version, module, log, _logger(module, log))
            known = " or ".join(map(str, _MAJORS[name]))
            reasons.append(f"{name} {version} is installed, and {known} is needed")
    raise BackendError(f"{'; '.join(reasons) or 'TensorRT is not installed'}; {INSTALL}")


def _logger(module: Any, log: Log) -> Any:
    class Logger(module.ILogger):
        """Keeps warnings and errors; the thousands of lines below them are for NVIDIA."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING):
                log.add(severity != severity.WARNING, message)

    return Logger()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
