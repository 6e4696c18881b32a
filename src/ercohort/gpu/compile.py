"""The kernels' machine code: compiled from the package's source by NVRTC, which needs no GPU, and cached.

A cubin is made for one architecture and loads on any driver of CUDA 13: PTX would be newer than many a
driver reads.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from ercohort.errors import BackendError
from ercohort.files import atomic_path
from ercohort.gpu.launches import BLOCK, SUPPRESS_BLOCK

LOGGER = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "kernels"

# Every operation on floats is rounded once, so that a GPU agrees with NumPy to the bit. Only the first is
# not the compiler's default.
_ARITHMETIC = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
_DIGEST = hashlib.sha256().digest_size
_MISSING = "NVRTC, which compiles the GPU kernels, is not to be had here ({}); pip install 'ercohort[gpu]'"


def compile_cubin(arch: str, *, fp16_input: bool, cache: Path | None = None) -> bytes:
    """Compile all kernels for one GPU architecture.

    Parameters
    ----------
    arch
        Such as `sm_90`, of a GPU of compute capability 9.0.
    fp16_input
        Whether the engine's input is FP16; else float32.
    cache
        Folder of cubins compiled before; none is kept if None. A damaged one is compiled again.

    Raises
    ------
    BackendError
        NVRTC is not installed, does not know the architecture, or refuses the source; with its log.
    """
    nvrtc = _nvrtc()
    arguments = options(arch, fp16_input=fp16_input)
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.cu*"))}
    if cache is None:
        return _compile(nvrtc, sources, arguments)
    version = ".".join(map(str, _checked(nvrtc, nvrtc.nvrtcVersion())))
    key = hashlib.sha256(repr((version, arguments, sources)).encode()).hexdigest()
    path = cache / f"kernels-{arch}-{key[:32]}.cubin"
    cubin = _read(path)
    if cubin is None:
        cubin = _compile(nvrtc, sources, arguments)
        _write(path, cubin)
    return cubin


def options(arch: str, *, fp16_input: bool) -> list[str]:
    """Return NVRTC's command line."""
    defines = [f"--define-macro={name}={value}" for name, value in macros(fp16_input=fp16_input).items()]
    return [f"--gpu-architecture={arch}", "--std=c++17", *_ARITHMETIC, *defines]


def macros(*, fp16_input: bool) -> dict[str, int]:
    """Return what the source leaves to the compiler's command line."""
    return {"BLOCK": BLOCK, "SUPPRESS_BLOCK": SUPPRESS_BLOCK, "FP16_INPUT": int(fp16_input)}


def _nvrtc() -> Any:
    """NVRTC's bindings, once they are known to find the library."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(_MISSING.format(" ".join(str(error).split())[:200])) from None
    return nvrtc


def _compile(nvrtc: Any, sources: dict[str, str], arguments: list[str]) -> bytes:
    """Compile the `.cu` files as one program; the files are handed over in memory."""
    main = "".join(f'#include "{name}"\n' for name in sources if name.endswith(".cu"))
    contents = [content.encode() for content in sources.values()]
    names = [name.encode() for name in sources]
    created = nvrtc.nvrtcCreateProgram(main.encode(), b"kernels.cu", len(names), contents, names)
    (program,) = _checked(nvrtc, created)
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(arguments), [text.encode() for text in arguments])
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = " ".join(_log(nvrtc, program).split())[:1000]
            raise BackendError(f"NVRTC cannot compile the GPU kernels ({arguments[0]}): {log}")
        (size,) = _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        cubin = bytearray(size)
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
        return bytes(cubin)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _log(nvrtc: Any, program: Any) -> str:
    (size,) = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
    log = bytearray(size)
    _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
    return log.rstrip(b"\0\n").decode(errors="replace")


def _checked(nvrtc: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a call returned after its status."""
    status, *values = answer
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"NVRTC failed with {status.name}; reinstall nvidia-cuda-nvrtc")
    return tuple(values)


def _read(path: Path) -> bytes | None:
    """Return a cubin of the cache; None if there is none, or what there is was not written to its end."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, cubin = content[:_DIGEST], content[_DIGEST:]
    return cubin if hashlib.sha256(cubin).digest() == digest else None


def _write(path: Path, cubin: bytes) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(hashlib.sha256(cubin).digest() + cubin)
    except OSError as error:
        LOGGER.warning(
            "%s cannot be written (%s): the GPU kernels are compiled anew in every job", path, error
        )
