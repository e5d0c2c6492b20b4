"""Write a program as a .pt2 that holds nothing it does not need."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
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
    exported._constants = {
        name: _compact(value) if isinstance(value, torch.Tensor) else value for name, value in exported.constants.items()
    }
    exported._example_inputs = pytree.tree_map_only(torch.Tensor, _shape_only, exported.example_inputs)
    for node in exported.graph.nodes:
        node.meta = {key: node.meta[key] for key in ("val", "nn_module_stack") if key in node.meta}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "program.pt2"
        torch.export.save(exported, plain, extra_files={FILE: text})
        _compress(plain, path)


def _compress(plain: Path, path: Path) -> None:
    """Copy the archive with its text deflated: torch reads either, and the text of a small model outweighs its weights."""
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            text = entry.filename.endswith((".json", ".pt"))
            copied = zipfile.ZipInfo(entry.filename)
            copied.compress_type = zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
            copied.file_size = entry.file_size
            with source.open(entry) as reader, target.open(copied, "w") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in memory of its own size: the archive holds whole storages, also where only a slice is used."""
    if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
        return tensor
    compact = tensor.detach().clone(memory_format=torch.contiguous_format)
    return torch.nn.Parameter(compact, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else compact


def _shape_only(tensor: torch.Tensor) -> Any:
    """A tensor of the same shape that takes one element in the file: torch wants the example's shape, not its values."""
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
