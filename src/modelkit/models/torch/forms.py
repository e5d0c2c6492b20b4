"""The forms that a program's weights are kept in, and the bridge between torch's tensors and numpy's arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...core.forms import Array, DynamicGrid, WeightForm


@dataclass(frozen=True)
class Stored:
    """A layer's argument kept in `form` instead of the graph's own constant, under names that start with `target`."""

    form: WeightForm
    target: str
    activation: DynamicGrid | None = None


Site = tuple[str, str]  # (name of the fx node, name of its argument)
StoredForms = dict[Site, Stored]


def to_array(tensor: torch.Tensor) -> Array:
    """A tensor as numpy's array, sharing memory where it is on the CPU; bfloat16 as ml_dtypes has it."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_tensor(array: Array) -> torch.Tensor:
    """numpy's array as a tensor of its own memory."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def dtype_name(dtype: torch.dtype) -> str:
    """numpy's name for a torch type."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found
