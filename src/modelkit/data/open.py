"""Opening DATA: which reader a file belongs to, then the same checks and the same selection of samples for all of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import InputWarning, ModelkitError
from ..core.graph import Input
from ..core.model import Preprocessing
from .arrays import read_npy, read_npz
from .columns import Source
from .dataset import Dataset
from .function import read_function
from .images import read_folder, read_zip
from .labels import checked_labels, split_labels
from .match import match
from .table import read_csv, read_parquet
from .text import read_text

FORMATS = ".npz, .npy, .csv, .parquet, .txt, .jsonl, a folder or .zip of class folders of images, or module:function"


def open_data(
    spec: str,
    graph_inputs: Sequence[Input],
    *,
    label_required: bool = False,
    num_samples: int | None = None,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
    label: str | None = None,
    tokenizer: Path | None = None,
) -> Dataset:
    """Open calibration or evaluation data for a model with these inputs.

    num_samples: only this many, chosen by a shuffle seeded with `seed`, kept in the order of the file.
    preprocessing: how uint8 images become float inputs; None: divided by 255, with an InputWarning.
    label: the name of the label array or column, where it is not one of the usual ones.
    tokenizer: the checkpoint folder whose tokenizer text is read with.

    Raises ModelkitError when the data can't be read or does not fit the inputs. Values are checked when they are read.
    """
    if num_samples is not None and num_samples < 1:
        raise ModelkitError(f"--num-samples {num_samples} leaves no data.", "Give at least 1.")
    if not graph_inputs:
        raise ModelkitError("The model has no inputs.", "Data can only be given to a model with inputs.")
    source = split_labels(_read(spec, graph_inputs, num_samples, label, tokenizer), graph_inputs, label)
    conversions = match(source, graph_inputs, preprocessing)
    n = source.columns[conversions[0].column].n
    labels = None if source.labels is None else checked_labels(source.labels, n, source.origin)
    if label_required and labels is None:
        raise ModelkitError(f"{source.origin} has no labels.", "Give them as array or column `y`, or as class folders.")
    rows = np.arange(n)
    if num_samples is not None and num_samples < n:
        rows = np.sort(np.random.default_rng(seed).permutation(n)[:num_samples])
    elif num_samples is not None and num_samples > n:
        warnings.warn(InputWarning(f"{source.origin} has only {n} of the {num_samples} samples asked for."), stacklevel=2)
    return Dataset(source, conversions, rows, None if labels is None else labels[rows])


def _read(spec: str, inputs: Sequence[Input], num_samples: int | None, label: str | None, tokenizer: Path | None) -> Source:
    path = Path(spec)
    if not path.exists():
        if re.fullmatch(r"[\w.]+:\w+", spec):
            return read_function(spec, inputs, num_samples)
        raise ModelkitError(f"Data {spec} does not exist.", f"Give {FORMATS}.")
    try:
        return _read_file(path, inputs, label, tokenizer)
    except OSError as error:
        raise ModelkitError(
            f"Data {spec} can't be read: {error.strerror or error}.", "Check that it is there and may be read."
        ) from error


def _read_file(path: Path, inputs: Sequence[Input], label: str | None, tokenizer: Path | None) -> Source:
    if path.is_dir():
        return read_folder(path, inputs)
    match path.suffix.lower():
        case ".npz":
            return read_npz(path)
        case ".npy":
            return read_npy(path)
        case ".zip":
            return read_zip(path, inputs)
        case ".csv":
            return read_csv(path, inputs, label)
        case ".parquet":
            return read_parquet(path, inputs, label)
        case ".txt" | ".jsonl":
            return read_text(path, inputs, tokenizer, label)
    raise ModelkitError(f"{path.name} is no data file that modelkit knows.", f"Give {FORMATS}.")
