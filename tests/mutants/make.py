"""Damaged slides, several hundred of them, the same ones every time.

A mutant is a name, a kind and a function that writes it. Those of a TIFF are made from a sound one, by its
structure: cut at every part, bytes flipped in every part, sizes that cannot be, page lists that run in
circles. The others are things that are no slide: a pipe, a folder, a link to itself.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import tiff_map as tm

MOST = 2**32 - 1
ABSURD = (0, 1, 2**16 - 1, 2**20, 2**31, MOST)


@dataclass(frozen=True)
class Mutant:
    """A damaged slide: `write` makes it in a folder, and returns its path."""

    kind: str
    name: str
    write: Callable[[Path], Path]
    mpp: float | None = None


def of_tiff(source: Path, label: str) -> Iterator[Mutant]:
    """Damage a classic TIFF (SVS and NDPI are such) in every part."""
    data = source.read_bytes()
    pages = tm.directories(data)

    def mutant(kind: str, name: str, change: Callable[[bytearray], bytes], suffix: str = "") -> Mutant:
        def write(folder: Path) -> Path:
            path = folder / f"slide{suffix or source.suffix}"
            path.write_bytes(change(bytearray(data)))
            return path

        return Mutant(kind, f"{label}: {name}", write)

    yield from (mutant("sound", "as it is", lambda raw: bytes(raw)),)
    for name, at in _cuts(data, pages):
        yield mutant("truncated", f"cut {name}", lambda raw, at=at: bytes(raw[:at]))
    for name, places, change in _flips(data, pages, random.Random(f"flips of {label}")):
        kind = "flipped bytes in tiles" if name.startswith("tile") else "flipped bytes in directories"
        yield mutant(kind, name, lambda raw, places=places, change=change: _flip(raw, places, change))
    for name, patches in _sizes(data, pages):
        yield mutant("absurd sizes", name, lambda raw, patches=patches: _patch(raw, patches))
    for name, patches in _zeroed(data, pages):
        yield mutant("zeroed tiles", name, lambda raw, patches=patches: _patch(raw, patches))
    for name, patches in _loops(pages):
        yield mutant("broken page lists", name, lambda raw, patches=patches: _patch(raw, patches))
    for suffix in (".svs", ".ndpi", ".tif", ".png", ".jpg", ".bmp", ".mrxs", ".dcm", ".scn", ".bif", ".txt"):
        if suffix != source.suffix:
            yield mutant("wrong extension", f"named {suffix}", lambda raw: bytes(raw), suffix)


def _cuts(data: bytes, pages: list[tm.Directory]) -> Iterator[tuple[str, int]]:
    for at in (0, 1, 3, 4, 7, 8, 9):
        yield f"at byte {at}", at
    for number, page in enumerate(pages):
        yield f"before page {number}", page.at
        yield f"within page {number}", (page.at + page.next_at) // 2
        yield f"after page {number}", page.next_at + 4
        for tag in (tm.TILE_OFFSETS, tm.TILE_SIZES, tm.STRIP_OFFSETS, tm.JPEG_TABLES, tm.DESCRIPTION):
            entry = page.entries.get(tag)
            if entry is not None and entry.count > 4:
                yield f"within tag {tag} of page {number}", (entry.values_at + entry.end) // 2
        chunks = page.chunks(data)
        for index in sorted({0, len(chunks) // 2, len(chunks) - 1}):
            at, size = chunks[index]
            yield f"before tile {index} of page {number}", at
            yield f"within tile {index} of page {number}", at + size // 2
    for percent in range(10, 100, 10):
        yield f"at {percent} %", len(data) * percent // 100
    yield "by its last byte", len(data) - 1


def _flips(
    data: bytes, pages: list[tm.Directory], chance: random.Random
) -> Iterator[tuple[str, list[int], int]]:
    for at in range(8):
        yield f"byte {at} of the header", [at], 1 << chance.randrange(8)
    for number, page in enumerate(pages):
        for n in (1, 1, 4, 16):
            places = [chance.randrange(page.at, page.next_at + 4) for _ in range(n)]
            yield f"{n} bytes of page {number}, {places[0]}", places, chance.randrange(1, 256)
        for tag in (tm.TILE_OFFSETS, tm.TILE_SIZES, tm.JPEG_TABLES, tm.DESCRIPTION):
            entry = page.entries.get(tag)
            if entry is not None and entry.count > 4:
                places = [chance.randrange(entry.values_at, entry.end) for _ in range(3)]
                yield f"3 bytes of tag {tag} of page {number}", places, chance.randrange(1, 256)
        chunks = page.chunks(data)
        for n_tiles, n_bytes in ((1, 1), (1, 20), (len(chunks) // 4, 1), (len(chunks), 3)):
            places = []
            for at, size in chance.sample(chunks, max(1, n_tiles)):
                places += [chance.randrange(at, at + size) for _ in range(n_bytes)] if size else []
            yield f"tiles: {n_bytes} bytes in {n_tiles} of page {number}", places, chance.randrange(1, 256)


def _sizes(data: bytes, pages: list[tm.Directory]) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    names = {
        tm.WIDTH: "width", tm.HEIGHT: "height", tm.TILE_WIDTH: "tile width", tm.TILE_HEIGHT: "tile height",
    }  # fmt: skip
    for number in (0, len(pages) // 2):
        for tag, name in names.items():
            entry = pages[number].entries.get(tag)
            for value in ABSURD if entry is not None else ():
                yield f"{name} of page {number} is {value}", [_one(entry, value)]
    first = pages[0].entries
    for tag, values in (
        (tm.BITS, (0, 1, 16, 64, 65535)), (tm.COMPRESSION, (0, 1, 5, 8, 50000, 65535)),
        (tm.PHOTOMETRIC, (0, 3, 32803)), (tm.SAMPLES, (0, 1, 4, 65535)),
    ):  # fmt: skip
        for value in values:
            yield f"tag {tag} is {value}", [_one(first[tag], value)]
    for value in (2**16 - 1, 2**20, MOST):
        both = [_one(first[tag], value) for tag in (tm.WIDTH, tm.HEIGHT)]
        yield f"width and height are {value}", both
        if tm.TILE_WIDTH in first:
            yield (
                f"all sizes are {value}",
                both + [_one(first[tag], value) for tag in (tm.TILE_WIDTH, tm.TILE_HEIGHT)],
            )
    for value in (0, 2**30, MOST):
        entry = first.get(tm.TILE_OFFSETS) or first[tm.STRIP_OFFSETS]
        yield f"the count of tile offsets is {value}", [(entry.at + 4, struct.pack("<I", value))]


def _one(entry: tm.Entry, value: int) -> tuple[int, bytes]:
    """What makes an entry one 32-bit number."""
    return entry.at + 2, struct.pack("<HII", 4, 1, value)


def _zeroed(data: bytes, pages: list[tm.Directory]) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    for number, page in enumerate(pages):
        chunks = page.chunks(data)
        for share in (0.0, 0.25, 0.6, 1.0):
            n = max(1, int(len(chunks) * share))
            yield f"{n} tiles of page {number}", [(at, bytes(size)) for at, size in chunks[:n]]
        for tag in (tm.TILE_OFFSETS, tm.TILE_SIZES):
            entry = page.entries.get(tag)
            if entry is not None:
                yield f"tag {tag} of page {number}", [(entry.values_at, bytes(entry.end - entry.values_at))]
    whole = [(at, bytes(size)) for page in pages for at, size in page.chunks(data)]
    yield "all tiles of all pages", whole


def _loops(pages: list[tm.Directory]) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    for number, page in enumerate(pages):
        targets = {"itself": page.at, "the first": pages[0].at, "the header": 4, "the end": MOST}
        for name, target in targets.items():
            yield f"page {number} is followed by {name}", [(page.next_at, struct.pack("<I", target))]
        yield f"page {number} has 65535 tags", [(page.at, struct.pack("<H", 65535))]
        yield f"page {number} has no tags", [(page.at, struct.pack("<H", 0))]
    yield "no page", [(4, bytes(4))]


def _flip(raw: bytearray, places: list[int], change: int) -> bytes:
    for place in places:
        raw[place] ^= change
    return bytes(raw)


def _patch(raw: bytearray, patches: list[tuple[int, bytes]]) -> bytes:
    for at, content in patches:
        raw[at : at + len(content)] = content
    return bytes(raw)


def of_names(source: Path) -> Iterator[Mutant]:
    """Sound slides whose names are odd, and must not harm."""
    names = (
        "a b", "it's", 'say "hi"', "$(touch pwned)", "`id`", "a;b&c|d", "new\nline", "tab\tname",
        "Ärzte-λ-病理", "-rf", "..", "#1", "100%", "{slide}", "a" * 200, "=1+1", "*", "nul\x7f",
        "back\\slash",
    )  # fmt: skip
    for name in names:

        def write(folder: Path, name: str = name) -> Path:
            return Path(shutil.copy(source, folder / f"{name}{source.suffix}"))

        yield Mutant("odd names", f"{name!r:.40}", write)


def of_no_slide(source: Path) -> Iterator[Mutant]:
    """Things that a sheet may name and that are no slide, or only a part of one."""

    def special(name: str, make: Callable[[Path], object], suffix: str = ".svs") -> Mutant:
        def write(folder: Path) -> Path:
            path = folder / f"slide{suffix}"
            make(path)
            return path

        return Mutant("no slide", name, write, 0.5)

    def beside(path: Path) -> Path:
        path.with_suffix("").mkdir()
        return path

    for suffix in (".svs", ".tif", ".png", ".mrxs"):
        yield special(f"a pipe named {suffix}", os.mkfifo, suffix)
        yield special(f"a folder named {suffix}", Path.mkdir, suffix)
        yield special(f"a link to itself named {suffix}", lambda path: path.symlink_to(path), suffix)
        yield special(f"an empty file named {suffix}", Path.touch, suffix)
        yield special(f"text named {suffix}", lambda path: path.write_text("no slide\n" * 999), suffix)
        yield special(f"4 GB of nothing named {suffix}", _sparse, suffix)
        yield special(f"a zero device named {suffix}", lambda path: path.symlink_to("/dev/zero"), suffix)
    yield special("absent", lambda path: None)
    yield special("a link to nothing", lambda path: path.symlink_to(path.with_name("gone")))
    yield special("a folder with that slide", lambda path: _in_folder(path, source), "")
    yield special("a folder of nonsense", lambda path: _nonsense(path), "")
    yield special("a slide with 4 GB behind it", lambda path: (shutil.copy(source, path), _sparse(path)))
    yield special("MIRAX without its folder", lambda path: path.write_bytes(b"\xff\xd8\xff"), ".mrxs")
    yield special(
        "MIRAX with an empty folder", lambda path: beside(path).write_bytes(b"\xff\xd8\xff"), ".mrxs"
    )
    yield special("MIRAX without its data (a look-alike)", _mirax, ".mrxs")
    yield special("VMS without its pictures (a look-alike)", _vms, ".vms")


def _sparse(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(4 << 30)


def _in_folder(path: Path, source: Path) -> None:
    path.mkdir()
    shutil.copy(source, path)


def _nonsense(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "a.dcm")
    (path / "b.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 8)
    (path / "c.dcm").symlink_to("c.dcm")


def _mirax(path: Path) -> None:
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"\xff\xd8\xff")
    lines = ["[GENERAL]", "SLIDE_VERSION=01.02", "SLIDE_ID=x", "IMAGENUMBER_X=10", "IMAGENUMBER_Y=10"]
    lines += ["[DATAFILE]", "FILE_COUNT=1", "FILE_0=Data0000.dat", "[HIERARCHICAL]", "INDEXFILE=Index.dat"]
    (folder / "Slidedat.ini").write_text("\r\n".join(lines), encoding="utf-8-sig")


def _vms(path: Path) -> None:
    lines = ["[Virtual Microscope Specimen]", "NoJpegColumns=2", "NoJpegRows=1", "ImageFile=gone.jpg"]
    path.write_text("\r\n".join([*lines, "ImageFile(1,0)=gone2.jpg", "MapFile=map.jpg"]))


def of_pictures(picture: Path) -> Iterator[Mutant]:
    """Damage a flat picture (PNG, JPEG, BMP), which is turned into a slide first."""
    data = picture.read_bytes()

    def mutant(kind: str, name: str, content: bytes) -> Mutant:
        def write(folder: Path) -> Path:
            path = folder / f"slide{picture.suffix}"
            path.write_bytes(content)
            return path

        return Mutant(kind, f"{picture.suffix[1:]}: {name}", write, 0.5)

    yield mutant("sound", "as it is", data)
    for at in (1, 8, 20, 40, len(data) // 2, len(data) - 1):
        yield mutant("truncated", f"cut at byte {at}", data[:at])
    chance = random.Random(f"flips of {picture.suffix}")
    for n in (1, 10, 100):
        places = [chance.randrange(len(data)) for _ in range(n)]
        yield mutant("flipped bytes in tiles", f"{n} bytes", _flip(bytearray(data), places, 0x55))
    width_at, order = {".png": (16, ">"), ".bmp": (18, "<"), ".jpg": (0, ">")}[picture.suffix]
    for value in (0, 2**20, 2**31 - 1, MOST) if width_at else ():
        sizes = struct.pack(f"{order}II", value, value)
        yield mutant("absurd sizes", f"both sides {value}", _patch(bytearray(data), [(width_at, sizes)]))
    if not width_at:
        frame = data.index(b"\xff\xc0") + 5
        for value in (0, 65535):
            sizes = struct.pack(">HH", value, value)
            yield mutant("absurd sizes", f"both sides {value}", _patch(bytearray(data), [(frame, sizes)]))
