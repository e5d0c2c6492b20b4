"""NumPy files: `.npy`, and `.npz` with one array per model input. Rows are read from the file when a batch wants them.

The files are not memory-mapped: mapped pages count as the process's memory, and a pass over a large file would map all of it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array
from ..core.graph import Shape
from .columns import ArrayColumn, Column, Source

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # of a zip member; its name and extra field follow, then the data
_RESAVE = "Save it again with numpy.savez, plain numeric arrays only."


class FileColumn:
    """Rows of an array in an npy stream. `start` is where the stream begins in what `open_stream` gives."""

    def __init__(
        self,
        origin: str,
        open_stream: Callable[[], IO[bytes]],
        start: int,
        header: tuple[Shape, np.dtype[Any], int],
        costly: bool,
    ):
        shape, self.dtype, self._offset = header
        self.n, self.shape = shape[0], shape[1:]
        self.costly = costly
        self._origin = origin
        self._open = open_stream
        self._offset += start
        self._stream: IO[bytes] | None = None  # kept only where seeking back to a place means decompressing up to it

    def read(self, rows: Array) -> Array:
        out = np.empty((len(rows), *self.shape), self.dtype)
        row_bytes = prod(self.shape) * self.dtype.itemsize
        try:
            if not self.costly:
                with self._open() as stream:
                    self._fill(stream, out, rows, row_bytes)
            else:
                self._stream = self._stream or self._open()
                self._fill(self._stream, out, rows, row_bytes)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError) as error:
            raise ModelkitError(f"{self._origin} can't be read to its end: {error}.", _RESAVE) from error
        return out

    def _fill(self, stream: IO[bytes], out: Array, rows: Array, row_bytes: int) -> None:
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1  # read runs of neighbouring rows at once
        for run in np.split(np.arange(len(rows)), breaks):
            if not len(run) or not row_bytes:
                continue
            stream.seek(self._offset + int(rows[run[0]]) * row_bytes)
            data = stream.read(len(run) * row_bytes)
            if len(data) != len(run) * row_bytes:
                raise EOFError("it ends too early")
            out[run[0] : run[-1] + 1] = np.frombuffer(data, self.dtype).reshape(-1, *self.shape)


def read_npy(path: Path) -> Source:
    return Source(path.name, {"x": _column(path.name, lambda: path.open("rb"), 0, path.stat().st_size, costly=False)})


def read_npz(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelkitError(f"{path.name} is not a whole .npz file: {error}.", _RESAVE) from error
    if not members:
        raise ModelkitError(f"{path.name} holds no arrays.", "Save the model's inputs in it with numpy.savez.")
    return Source(path.name, {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in members})


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Column:
    origin = f"Array {info.filename.removesuffix('.npy')!r} of {path.name}"
    if info.flag_bits & 1:
        raise ModelkitError(f"{origin} is encrypted.", _RESAVE)
    if info.compress_type != zipfile.ZIP_STORED:
        return _column(origin, lambda: archive.open(info), 0, info.file_size, costly=True)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise ModelkitError(f"{path.name} is damaged at array {info.filename!r}.", _RESAVE)
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return _column(origin, lambda: path.open("rb"), start, info.file_size, costly=False)


def _column(origin: str, open_stream: Callable[[], IO[bytes]], start: int, size: int, costly: bool) -> Column:
    """A column over the npy stream of `size` bytes that begins at `start`. Pickles (object arrays) are never loaded."""
    try:
        with open_stream() as stream:
            stream.seek(start)
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            offset = stream.tell() - start
            if dtype.hasobject or dtype.names:
                raise ModelkitError(f"{origin} holds Python objects or records, not numbers.", _RESAVE)
            if shape and shape[0] and prod(shape) * dtype.itemsize <= 0:
                raise ModelkitError(f"{origin} holds no values: its shape is {list(shape)}.", _RESAVE)
            if offset + prod(shape) * dtype.itemsize > size:
                raise ModelkitError(f"{origin} is truncated: its header promises more than the file holds.", _RESAVE)
            if not shape:
                raise ModelkitError(f"{origin} is a single number.", "Give it a first dimension that counts the samples.")
            if fortran and len(shape) > 1:  # its rows are spread over the whole file
                flat = np.frombuffer(stream.read(prod(shape) * dtype.itemsize), dtype)
                return ArrayColumn(np.ascontiguousarray(flat.reshape(shape, order="F")))
    except ModelkitError:
        raise
    except Exception as error:  # numpy parses the header as Python source: damaged bytes raise whatever that can raise
        said = str(error).splitlines()[0].rstrip(".") if str(error) else "it is empty"
        raise ModelkitError(f"{origin} can't be read: {said}.", _RESAVE) from error
    return FileColumn(origin, open_stream, start, (tuple(map(int, shape)), dtype, offset), costly)
