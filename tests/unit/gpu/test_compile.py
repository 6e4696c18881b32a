"""The kernels' machine code: every architecture, the cache, and what goes wrong."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from ercohort.errors import BackendError
from ercohort.gpu import compile as compiling
from ercohort.gpu.compile import compile_cubin, options
from ercohort.gpu.launches import TileShape, after_engine, before_engine, sizes

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
_ARCHITECTURE_OF_ELF = 48  # offset of e_flags, which hold the architecture


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_cubin_for_every_architecture(arch: str) -> None:
    shape = TileShape(64, 84, 2, fp16_input=True)
    addresses = dict.fromkeys((*sizes(1, shape), "result"), 0)
    launches = before_engine(addresses, shape, 1) + after_engine(addresses, shape, 1, score=0.4, nms_iou=0.5)
    cubin = compile_cubin(arch, fp16_input=True)
    assert cubin.startswith(b"\x7fELF")
    assert int(arch[3:]) in cubin[_ARCHITECTURE_OF_ELF : _ARCHITECTURE_OF_ELF + 4]
    for launch in launches:
        assert f".text.{launch.kernel}\0".encode() in cubin


def test_fp16_and_float32_input_differ() -> None:
    assert compile_cubin("sm_90", fp16_input=True) != compile_cubin("sm_90", fp16_input=False)


def test_no_multiplication_is_fused_with_an_addition() -> None:
    """The assembly language before machine code, in which a division is still one instruction."""
    main = "".join(f'#include "{path}"\n' for path in sorted(compiling.SOURCES.glob("*.cu"))).encode()
    _, program = nvrtc.nvrtcCreateProgram(main, b"kernels.cu", 0, [], [])
    arguments = [text.encode() for text in options("compute_90", fp16_input=True)]
    assert nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)[0] == 0
    text = bytearray(nvrtc.nvrtcGetPTXSize(program)[1])
    nvrtc.nvrtcGetPTX(program, text)
    assert b"div.rn.f32" in text
    assert b"mul.rn.f64" in text
    for imprecise in (b"fma.", b"mad.f", b"div.approx", b"div.full", b".ftz"):
        assert imprecise not in text


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cubin = compile_cubin("sm_90", fp16_input=True, cache=tmp_path / "kernels")
    monkeypatch.setattr(compiling, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compile_cubin("sm_90", fp16_input=True, cache=tmp_path / "kernels") == cubin


def test_another_source_architecture_or_input_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_cubin("sm_90", fp16_input=True, cache=tmp_path)
    compile_cubin("sm_90", fp16_input=False, cache=tmp_path)
    compile_cubin("sm_80", fp16_input=True, cache=tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    for path in compiling.SOURCES.glob("*.cu*"):
        (source / path.name).write_text(path.read_text().replace("x1 > x0", "x0 < x1"))
    monkeypatch.setattr(compiling, "SOURCES", source)
    compile_cubin("sm_90", fp16_input=True, cache=tmp_path)
    assert len(list(tmp_path.glob("*.cubin"))) == 4


@pytest.mark.parametrize("damage", [b"", b"short", b"\x7fELF" * 100])
def test_a_damaged_file_is_compiled_again(tmp_path: Path, damage: bytes) -> None:
    cubin = compile_cubin("sm_90", fp16_input=True, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert compile_cubin("sm_90", fp16_input=True, cache=tmp_path) == cubin
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert compile_cubin("sm_90", fp16_input=True, cache=tmp_path / "file").startswith(b"\x7fELF")
    assert "compiled anew in every job" in caplog.text


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(BackendError, match=r"sm_12.*invalid value"):
        compile_cubin("sm_12", fp16_input=True)


def test_an_error_in_the_source_comes_with_the_compilers_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void wrong() { nonsense; }')
    monkeypatch.setattr(compiling, "SOURCES", tmp_path)
    with pytest.raises(BackendError, match=r'wrong.cu.*"nonsense" is undefined'):
        compile_cubin("sm_90", fp16_input=True)


def test_without_the_bindings_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"NVRTC.*pip install 'ercohort\[gpu\]'"):
        compile_cubin("sm_90", fp16_input=True)


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise RuntimeError("Failure finding libnvrtc.so.13\nsearched everywhere")

    monkeypatch.setattr(nvrtc, "nvrtcVersion", missing)
    with pytest.raises(BackendError, match=r"libnvrtc.so.13 searched.*pip install 'ercohort\[gpu\]'"):
        compile_cubin("sm_90", fp16_input=True)
