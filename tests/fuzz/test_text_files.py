"""The sheet, the config and tables of points."""

from __future__ import annotations

import io
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from ercohort.config import Config, check_config, load_config
from ercohort.points import read_points, read_roi
from ercohort.sheet import SLIDE_ID, Sample, read_sheet
from tests.fuzz.hostile import TEXTS, changed_bytes, changed_tree, fuzz, readable_errors_only, scalars, texts

SHEET = '# my slides\nslide_id\tpath\tmpp\tblock\nA-1\ta.svs\t0.25\tx\nB_2\t"b c.tif"\t\t-5\n'
POINTS = "x,y,class\n10.5,20,positive\n30,40,negative\n"
CONFIG = Config().model_dump(mode="json")
YAML = (
    b"&a [", b"*a", b"<<: *a", b"!!python/object/apply:os.system [x]", b"!!int x", b"!!bool x", b"!!binary x",
    b"2001-99-99", b"? ", b"- ", b": ", b"{", b"[" * 3000, b"|", b">", b"%YAML 9", b"---", b"\t", b"1:2:3",
    b"!!set x",
)  # fmt: skip


def check_samples(samples: dict[str, Sample] | None) -> None:
    for name, sample in (samples or {}).items():
        assert SLIDE_ID.fullmatch(name)
        assert name == sample.slide_id
        assert sample.path
        assert sample.mpp is None or 0 < sample.mpp < float("inf")


@fuzz
@given(changed_bytes(SHEET.encode(), (b"\t", b'"', b"\n", b"#")))
@example(SHEET.encode("utf-16"))
@example(b"slide_id\tpath\n" + b"a b\tx\n" * 10_000)
@example(b"slide_id\tpath\t" + b"\t".join(b"%d" % n for n in range(100_000)))
@example(b"slide_id\tpath\tn_nuclei\x0b\n1\tx\ty\n")
@example(b"slide_id\tpath\t=a\t'=a\n1\tx\ty\tz\n")
def test_any_sheet(tmp_path: Path, content: bytes) -> None:
    sheet = tmp_path / "samples.tsv"
    sheet.write_bytes(content)
    check_samples(readable_errors_only(lambda: read_sheet(sheet)))


@fuzz
@given(st.lists(texts, max_size=3), st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=4))
def test_any_cells_of_a_sheet(tmp_path: Path, columns: list[str], rows: list[tuple[str, ...]]) -> None:
    lines = [("slide_id", "path", "mpp", *columns), *rows]
    sheet = tmp_path / "samples.tsv"
    sheet.write_bytes("\n".join("\t".join(line) for line in lines).encode("utf-8", "replace"))
    check_samples(readable_errors_only(lambda: read_sheet(sheet)))


@fuzz
@given(changed_bytes(yaml.safe_dump(CONFIG, sort_keys=False).encode(), YAML))
@example(
    b"a: &a [x,x]\n"
    + b"".join(b"%c: &%c [*%c,*%c]\n" % (n + 1, n + 1, n, n) for n in b"abcdefghijklmnopqrstuvwxy")
)
@example(b"[" * 100_000)
@example(b"samples: 2001-99-99")
@example(b"samples: !!bool x")
@example(b'model: "a\\0b"')
def test_any_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    config = readable_errors_only(lambda: load_config(path))
    assert config is None or isinstance(config, Config)


@fuzz
@given(changed_tree(CONFIG))
def test_any_values_of_a_config(values: Any) -> None:
    """Snakemake reads the file then."""
    if isinstance(values, dict):
        readable_errors_only(lambda: check_config(values))


@fuzz
@given(st.sampled_from(sorted(CONFIG)), scalars)
def test_any_value_of_a_setting(key: str, value: Any) -> None:
    config = readable_errors_only(lambda: check_config({key: value}))
    if config is not None:
        assert isinstance(config, Config)


@fuzz
@given(changed_bytes(POINTS.encode(), (b",", b'"', b"\n", b"x", b"\x1f\x8b\x08\x00")))
@example(b"x, X ,class\n1,2,positive\n")
@example(b"")
def test_any_table_of_points(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(content)
    points = readable_errors_only(lambda: read_points(path))
    if points is not None:
        assert np.isfinite(points.xy).all()
        assert len(points.label) == len(points.xy) == len(points.score)


def _png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "PNG")
    return stream.getvalue()


@fuzz
@given(changed_bytes(_png(), (b"IHDR", b"IDAT", b"iCCP", b"zTXt", b"tRNS")))
@example(_png()[:16] + (100_000).to_bytes(4, "big") * 2 + _png()[24:])
def test_any_region_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "roi.png"
    path.write_bytes(content)
    roi = readable_errors_only(lambda: read_roi(path))
    assert roi is None or roi.ndim == 2


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/proc/self/mem", "a\0b", "x" * 5000])
def test_files_that_do_not_end_or_are_none(path: str) -> None:
    for read in (read_sheet, load_config, read_points):
        assert readable_errors_only(lambda read=read: read(path)) is None


def test_the_texts_are_what_they_are_for() -> None:
    """A pool that somebody has cleaned would find nothing."""
    assert any(not text.isprintable() for text in TEXTS)
    assert any(text[:1] in "=+-@" for text in TEXTS if text)
    assert not all(set(text) <= set(string.printable) for text in TEXTS)
