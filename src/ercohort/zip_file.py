"""Zip files by the compression of ISA-L: five times as fast as zlib's fastest, and smaller.

The standard library has no way to put another compressor, or what is already compressed, into a zip, and the
library that has one compresses in a single thread (benchmarks/NOTES.md has the figures).
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from isal import igzip_lib, isal_zlib

from ercohort.errors import GeoJSONError

_LEVEL = 1
_RAW = -15
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _UNIX, _UTF8, _DEFLATED = 20, 3, 1 << 11, 8
_EPOCH = 1 << 5 | 1
"""Day 1 of month 1 of 1980, not the clock: equal content gives equal bytes on every run."""

_MODE = 0o600 << 16
_MOST = 2**32 - 1


@dataclass(frozen=True)
class Deflated:
    """Content of an entry, compressed."""

    blocks: list[bytes]
    crc: int
    size: int


def deflate(blocks: Iterable[bytes]) -> Deflated:
    """Compress the content of one entry; may run beside others in threads."""
    compressor, packed, crc, size = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW), [], 0, 0
    for block in blocks:
        crc, size = isal_zlib.crc32(block, crc), size + len(block)
        packed.append(compressor.compress(block))
    packed.append(compressor.flush())
    return Deflated(packed, crc, size)


class ZipWriter:
    """Puts compressed entries into a zip, one after the other.

    Raises
    ------
    GeoJSONError
        An entry or the whole file is over 4 GiB, or there are more than 65,535 entries.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._central: list[bytes] = []
        self._at = 0

    def add(self, name: str, content: Deflated) -> None:
        """Append an entry."""
        encoded, packed = name.encode(), sum(map(len, content.blocks))
        if max(self._at + packed, content.size) > _MOST or len(self._central) == 0xFFFF:
            raise GeoJSONError(
                f"{name}: a zip holds 65,535 entries and 4 GiB; change geojson.features_per_file"
            )
        numbers = (_UTF8, _DEFLATED, 0, _EPOCH, content.crc, packed, content.size, len(encoded), 0)
        self._central.append(
            _CENTRAL.pack(b"PK\1\2", _UNIX << 8 | _VERSION, _VERSION, *numbers, 0, 0, 0, _MODE, self._at)
            + encoded
        )
        self._write(_LOCAL.pack(b"PK\3\4", _VERSION, *numbers) + encoded)
        for block in content.blocks:
            self._write(block)

    def close(self) -> None:
        """Write the directory of the entries."""
        start, n = self._at, len(self._central)
        for record in self._central:
            self._write(record)
        self._write(_END.pack(b"PK\5\6", 0, 0, n, n, self._at - start, start, 0))

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self._at += len(block)


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one entry, its checksum checked; no more than it says that it holds.

    Raises
    ------
    zipfile.BadZipFile
        It is damaged, or not stored or deflated.
    RuntimeError
        It is encrypted.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("it is neither stored nor deflated")
    if info.compress_type == zipfile.ZIP_STORED or info.flag_bits & 1 or archive.filename is None:
        return archive.read(name)
    archive.open(name).close()  # compares the two headers of the entry
    with open(archive.filename, "rb") as file:
        file.seek(info.header_offset)
        *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        file.seek(name_length + extra_length, 1)
        packed = file.read(info.compress_size)
    try:
        content = isal_zlib.decompressobj(_RAW).decompress(packed, info.file_size + 1)
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub says otherwise
        raise zipfile.BadZipFile(str(error)) from None
    if len(content) != info.file_size or isal_zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"bad CRC-32 for {name!r}")
    return content
