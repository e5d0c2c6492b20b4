"""Write a program as a .pt2 that holds nothing it does not need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .program import Program
from .stored import FILE


def save(program: Program, path: Path, text: str) -> None:
    """Write `program` to `path` with modelkit's note in it."""
    exported = program.exported()
    exported._state_dict = {name: _compact(value) for name, value in exported.state_dict.items()}
    exported._constants = {name: _compact(value) if isinstance(value, torch.Tensor) else value for name, value in exported.constants.items()}
    exported._example_inputs = pytree.tree_map_only(torch.Tensor, _shape_only, exported.example_inputs)
    with path.open("wb") as file:
        torch.export.save(exported, file, extra_files={FILE: text})


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in memory of its own size: the archive holds whole storages, also where only a slice is used."""
    if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
        return tensor
    compact = tensor.detach().clone(memory_format=torch.contiguous_format)
    return torch.nn.Parameter(compact, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else compact


def _shape_only(tensor: torch.Tensor) -> Any:
    """A tensor of the same shape that takes one element in the file: torch wants the example's shape, not its values."""
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
