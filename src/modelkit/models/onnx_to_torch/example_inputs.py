"""What a model takes, and tensors to trace it with where the user gave none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from modelkit.core.errors import ModelkitError
from modelkit.core.open_sizes import IMAGE_SIDE, SIGNAL, usual_size

from .values import tensor_of, torch_type


@dataclass(frozen=True)
class ModelInput:
    """A graph input. `shape` has an int for a fixed size and a name (maybe "") for an open one; None if the rank is unknown."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...] | None

    def open_dimensions(self) -> set[int]:
        """The positions of open sizes."""
        return {position for position, size in enumerate(self.shape or ()) if isinstance(size, str)}


def model_inputs(graph: onnx.GraphProto) -> list[ModelInput]:
    """The inputs that are not initializers. Raises ModelkitError for what is no tensor."""
    stored = {initializer.name for initializer in graph.initializer}
    inputs = []
    for value in graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        dtype = torch_type(kind.elem_type) if value.type.HasField("tensor_type") else None
        if dtype is None:
            raise ModelkitError(
                f"The input {value.name} is no numeric tensor, so torch can't take it.", "Export the model with tensor inputs."
            )
        shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param for d in kind.shape.dim)
        inputs.append(ModelInput(value.name, dtype, shape if kind.HasField("shape") else None))
    return inputs


def example_tensors(
    inputs: list[ModelInput], example: Mapping[str, np.ndarray], dynamic: list[set[int]]
) -> tuple[torch.Tensor, ...]:
    """Tensors to trace with, the user's or else zeros. `dynamic` are the dimensions to be kept open, input by input.

    Such a dimension of size 1 is doubled, since torch takes 1 to mean "always 1". Raises ModelkitError for shapes that don't fit.
    """
    sizes = _open_sizes(inputs, example)
    tensors = []
    for given, dims in zip(inputs, dynamic, strict=True):
        array = example.get(given.name)
        if array is None:
            if given.shape is None:
                raise ModelkitError(
                    f"The input {given.name} has no shape in the file.", f"Give one with --input {given.name}:DTYPE[SHAPE]."
                )
            shape = [size if isinstance(size, int) else sizes[size or f"{given.name}.{d}"] for d, size in enumerate(given.shape)]
            tensors.append(torch.zeros(shape, dtype=given.dtype))
            continue
        tensor = tensor_of(np.asarray(array)).to(given.dtype)
        if given.shape is not None and tensor.ndim != len(given.shape):
            raise ModelkitError(
                f"The example for {given.name} has {tensor.ndim} dimensions, the model wants {len(given.shape)}.",
                "Give arrays of the model's shape.",
            )
        for d in sorted(dims):
            if tensor.shape[d] == 1:
                tensor = tensor.repeat_interleave(2, dim=d)
        tensors.append(tensor)
    return tuple(tensors)


def made_up(inputs: list[ModelInput], example: Mapping[str, np.ndarray]) -> list[str]:
    """The inputs whose sizes had to be guessed."""
    return [given.name for given in inputs if given.name not in example and given.open_dimensions()]


def _open_sizes(inputs: list[ModelInput], example: Mapping[str, np.ndarray]) -> dict[str, int]:
    """A size for each name of an open dimension: the example's, else distinct ones (equal ones would be taken to be the same)."""
    sizes: dict[str, int] = {}
    for given in inputs:
        for d, size in enumerate(given.shape or ()):
            if isinstance(size, str) and given.name in example and d < np.ndim(example[given.name]):
                sizes.setdefault(size or f"{given.name}.{d}", max(2, np.shape(example[given.name])[d]))
    batches = iter(range(2, 10**6))
    inner = {None: _multiples(16, 8), IMAGE_SIDE: _multiples(IMAGE_SIDE, 32), SIGNAL: _multiples(SIGNAL, 160)}
    for given in inputs:
        for d, size in enumerate(given.shape or ()):
            if not isinstance(size, str):
                continue
            fresh = batches if d == 0 else inner[usual_size(given.shape or (), d, given.dtype.is_floating_point)]
            name = size or f"{given.name}.{d}"
            if name not in sizes:
                sizes[name] = next(fresh)
    return sizes


def _multiples(first: int, step: int) -> Iterator[int]:
    size = first
    while True:
        yield size
        size += step
