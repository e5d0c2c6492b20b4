"""Tables, .csv and .parquet: a label column, and features, which are one 2-D input or columns named as the model's inputs."""

from __future__ import annotations

import csv
import warnings
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputWarning, ModelkitError
from ..core.forms import Array
from ..core.graph import Input
from .columns import ArrayColumn, Source
from .convert import is_float, numpy_dtype
from .labels import label_name


def read_csv(path: Path, inputs: Sequence[Input], label: str | None) -> Source:
    origin = path.name
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            names = [name.strip() for name in header]
            _check_header(names, origin)
            target = label_name(names, inputs, label, origin)
            columns: list[Any] = [[] if name == target else array("d") for name in names]
            for row in rows:
                if row:
                    _add_row(columns, names, row, f"{origin}, line {rows.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ModelkitError(
            f"{origin} is not a CSV file in UTF-8: {error}.", "Save it again as comma-separated UTF-8."
        ) from error
    found = {name: np.asarray(column) for name, column in zip(names, columns, strict=True)}
    return arrange(origin, found, target, inputs)


def _check_header(names: Sequence[str], origin: str) -> None:
    if not names:
        raise ModelkitError(f"{origin} is empty.", "Give a header line and one line per sample.")
    if all(_is_number(name) for name in names):
        raise ModelkitError(f"{origin} has no header line.", "Name its columns in the first line, the label's as `label`.")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelkitError(f"{origin} has two columns named {twice!r}.", "Give every column its own name.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _add_row(columns: Sequence[Any], names: Sequence[str], row: Sequence[str], where: str) -> None:
    if len(row) != len(columns):
        raise ModelkitError(f"{where}: {len(row)} values for {len(columns)} columns.", "Give every line one value per column.")
    for name, column, value in zip(names, columns, row, strict=True):
        if isinstance(column, list):
            column.append(value.strip())
            continue
        try:
            column.append(float(value))
        except ValueError:
            said = f"{value!r} is not a number" if value.strip() else "a value is missing"
            raise ModelkitError(
                f"{where}, column {name!r}: {said}.", "Encode or fill the column; if it holds the labels, name it `label`."
            ) from None


def read_parquet(path: Path, inputs: Sequence[Input], label: str | None) -> Source:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ModelkitError("Reading .parquet needs pyarrow.", "pip install 'modelkit[tables]'") from error
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise ModelkitError(
            f"{path.name} is not a whole Parquet file: {str(error).splitlines()[0].rstrip('.')}.", "Write it again."
        ) from error
    target = label_name(table.column_names, inputs, label, path.name)
    found = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if column.null_count:
            raise ModelkitError(
                f"{path.name}, column {name!r}: {column.null_count} values are missing.", "Fill or remove those samples."
            )
        found[name] = _parquet_array(column, name, path.name)
    return arrange(path.name, found, target, inputs)


def _parquet_array(column: Any, name: str, origin: str) -> Array:
    values: Array = column.to_numpy(zero_copy_only=False)
    if values.dtype != object or not len(values) or isinstance(values[0], (str, bytes)):
        return values
    try:
        return np.stack([np.asarray(v if not isinstance(v, np.ndarray) or v.dtype != object else list(v)) for v in values])
    except ValueError as error:
        raise ModelkitError(
            f"{origin}, column {name!r}: its lists have different lengths.", "Give every sample the same shape."
        ) from error


def arrange(origin: str, found: Mapping[str, Array], target: str | None, inputs: Sequence[Input]) -> Source:
    """Columns by model input: by name where every input has its column, else all features side by side for a single input."""
    labels, class_names = _labels(found[target]) if target is not None else (None, None)
    features = {name: values for name, values in found.items() if name != target}
    if all(i.name in features for i in inputs):
        columns = {i.name: ArrayColumn(_typed(features[i.name], i)) for i in inputs}
        return Source(origin, columns, labels, class_names, tuple(name for name in features if name not in columns))
    if len(inputs) > 1:
        missing = ", ".join(str(i) for i in inputs if i.name not in features)
        raise ModelkitError(f"{origin} has no column for {missing}.", "Name columns as the inputs, or give an .npz.")
    if not features:
        raise ModelkitError(f"{origin} has no feature columns.", f"Give the columns of {inputs[0]}.")
    text = [name for name, values in features.items() if values.dtype.kind not in "biuf"]
    if text:
        raise ModelkitError(f"{origin}, column {text[0]!r} holds text, not numbers.", "Encode it as numbers, or remove it.")
    if len(features) == 1:
        (values,) = features.values()
        stacked = values if values.ndim > 1 else values[:, None]
    elif any(values.ndim > 1 for values in features.values()):
        raise ModelkitError(
            f"{origin} mixes list columns with others ({', '.join(features)}).", f"Name one of them {inputs[0].name!r}."
        )
    else:
        stacked = np.stack(list(features.values()), axis=1)
    return Source(origin, {inputs[0].name: ArrayColumn(_typed(stacked, inputs[0]))}, labels, class_names)


def _typed(values: Array, wanted: Input) -> Array:
    """Numbers of a table have no type of their own: whole ones may be integers. Lists of uint8 stay, they are images."""
    dtype = numpy_dtype(wanted.dtype)
    if values.ndim > 2 and values.dtype == np.uint8:
        return values
    if is_float(dtype):
        return values.astype(np.float32) if values.dtype.kind in "biuf" else values
    if (
        values.dtype.kind == "f"
        and np.isfinite(values).all()
        and (values == np.rint(values)).all()
        and (abs(values) < 2**53).all()
    ):
        return values.astype(np.int64)
    return values


def _labels(values: Array) -> tuple[Array, tuple[str, ...] | None]:
    """Numbers as they are; names become indices of the sorted names."""
    if values.dtype.kind in "biuf":
        return values, None
    texts = [str(v) for v in values]
    try:
        numbers = np.array([float(t) for t in texts])
    except ValueError:
        names, indices = np.unique(texts, return_inverse=True)
        warnings.warn(
            InputWarning(
                f"Labels are names: {', '.join(names[:4])}{', …' if len(names) > 4 else ''} counted from 0 in sorted order."
            ),
            stacklevel=2,
        )
        return indices.astype(np.int64), tuple(names.tolist())
    whole = all(t.lstrip("+-").isdecimal() for t in texts)
    return (numbers.astype(np.int64) if whole else numbers), None
