"""`module:function`, the user's own code, which yields batches: an array, a dict of arrays, or a pair of either and labels."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.errors import ModelkitError
from ..core.forms import Array
from ..core.graph import Input
from .columns import ArrayColumn, Source


def read_function(spec: str, inputs: Sequence[Input], num_samples: int | None) -> Source:
    """Everything the function yields, or its first `num_samples` samples: it may go on for ever, and its order is its own."""
    names = [i.name for i in inputs]
    parts: dict[str, list[Array]] = {}
    labels: list[Array] = []
    n = batches = 0
    for batch in _batches(spec):
        values, target = batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
        arrays = _by_name(values, names, spec)
        sizes = {len(a) for a in arrays.values()} | (set() if target is None else {len(_array(target, spec))})
        if len(sizes) != 1 or (parts and set(arrays) != set(parts)) or (batches and (target is None) == bool(labels)):
            raise ModelkitError(
                f"Batch {batches + 1} of {spec} does not have one sample count and the arrays of the batches before it.",
                "Yield like batches.",
            )
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
        if target is not None:
            labels.append(_array(target, spec))
        n += sizes.pop()
        batches += 1
        if num_samples is not None and n >= num_samples:
            break
    if not batches:
        raise ModelkitError(f"{spec} yields no batches.", "Yield at least one array or dict of arrays.")
    columns = {name: ArrayColumn(_join(arrays, name, spec)) for name, arrays in parts.items()}
    return Source(spec, columns, _join(labels, "labels", spec) if labels else None)


def _batches(spec: str) -> Iterator[Any]:
    module_name, _, function_name = spec.partition(":")
    fix = "Give module:function, importable from the current folder."
    with _current_folder_importable():
        try:
            function = getattr(importlib.import_module(module_name), function_name)
        except ModuleNotFoundError as error:
            raise ModelkitError(f"There is no file and no module for data {spec!r}: {error}.", fix) from error
        except AttributeError as error:
            raise ModelkitError(f"Module {module_name} has no function {function_name}.", fix) from error
        except Exception as error:  # the user's code may raise anything while it is imported
            raise ModelkitError(
                f"Importing {module_name} failed: {type(error).__name__}: {error}.", "Correct that module."
            ) from error
        if not callable(function):
            raise ModelkitError(f"{spec} is not a function.", fix)
        try:
            yield from function()
        except Exception as error:  # and while it yields
            raise ModelkitError(
                f"{spec} failed: {type(error).__name__}: {error}.", "Correct it so that it yields batches."
            ) from error


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _by_name(values: Any, names: Sequence[str], spec: str) -> dict[str, Array]:
    if isinstance(values, Mapping):
        return {str(name): _array(value, spec) for name, value in values.items()}
    if isinstance(values, (list, tuple)) and len(values) == len(names):
        return {name: _array(value, spec) for name, value in zip(names, values, strict=True)}
    if len(names) > 1:
        raise ModelkitError(
            f"{spec} yields one array, but the model has inputs {', '.join(names)}.", "Yield a dict of arrays by input name."
        )
    return {names[0]: _array(values, spec)}


def _array(value: Any, spec: str) -> Array:
    tensor = value.detach().cpu() if hasattr(value, "detach") else value  # a torch tensor, with no need to import torch
    try:
        array = np.asarray(tensor)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelkitError(
            f"{spec} yields {type(value).__name__}, which is no array: {error}.", "Yield numpy arrays."
        ) from error
    if array.dtype == object or not array.ndim:
        raise ModelkitError(
            f"{spec} yields {type(value).__name__}, which is no array with the samples first.", "Yield numpy arrays."
        )
    return array


def _join(arrays: Sequence[Array], name: str, spec: str) -> Array:
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise ModelkitError(f"The batches of {spec} have different shapes for {name!r}.", "Pad samples to one shape.") from error
