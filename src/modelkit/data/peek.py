"""A first look at calibration arrays, before the model is open: what a file that does not state its inputs is traced with."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array

_LABELS = ("y", "label", "labels", "target", "targets")


def first_rows(path: Path, count: int) -> dict[str, Array]:
    """The first `count` rows of each array of an .npz or .npy but the labels; float64 as float32, as models take them.

    Nothing beyond those rows is read. uint8 is left out: raw images, whose scale and layout are not yet the model's."""
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                arrays = {"x": _rows(file, count)}
        else:
            with zipfile.ZipFile(path) as archive:
                arrays = {}
                for member in archive.namelist():
                    if (name := member.removesuffix(".npy")) not in _LABELS:
                        with archive.open(member) as file:
                            arrays[name] = _rows(file, count)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ModelkitError(
            f"{path} can't be read as arrays ({error}).", "Give an .npz or .npy without pickled objects."
        ) from None
    kept = {name: array for name, array in arrays.items() if array.ndim and array.dtype != np.uint8}
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in kept.items()}


def _rows(file: IO[bytes], count: int) -> Array:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    taken = (min(count, shape[0]), *shape[1:]) if shape else ()
    size = prod(shape if fortran else taken) * dtype.itemsize
    array = np.frombuffer(file.read(size), dtype)
    return array.reshape(shape[::-1]).T[:count].copy() if fortran else array.reshape(taken).copy()
