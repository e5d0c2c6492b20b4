"""A first look at calibration arrays, before the model is open: what a file that does not state its inputs is traced with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array

_LABELS = ("y", "label", "labels", "target", "targets")


def first_rows(path: Path, count: int) -> dict[str, Array]:
    """The first `count` rows of each array of an .npz or .npy but the labels; float64 as float32, as models take them."""
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        arrays = (
            {"x": loaded}
            if isinstance(loaded, np.ndarray)
            else {name: loaded[name] for name in loaded.files if name not in _LABELS}
        )
    except (OSError, ValueError, EOFError) as error:
        raise ModelkitError(
            f"{path} can't be read as arrays ({error}).", "Give an .npz or .npy without pickled objects."
        ) from None
    # uint8 is raw images: their scale and layout are not yet the model's.
    rows = {name: np.array(array[:count]) for name, array in arrays.items() if array.ndim and array.dtype != np.uint8}
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in rows.items()}
