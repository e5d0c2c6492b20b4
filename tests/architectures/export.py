"""Writing an architecture as `.pt2` and as `.onnx`."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from .zoo import ARCHITECTURES

DynamicShapes = dict[str, dict[int, Dim]]


def export_pt2(name: str, path: Path) -> None:
    """Write ARCHITECTURES[name] to `path` as a torch.export archive."""
    torch.export.save(program(name), path)


def export_onnx(name: str, path: Path, external_data: bool = False) -> None:
    """Write ARCHITECTURES[name] to `path` as ONNX; with `external_data` the weights go to `<path>.data`, torch's default."""
    onnx_program(name).save(path, external_data=external_data)


@lru_cache(maxsize=1)  # The .pt2 and the .onnx of one network are usually wanted together.
def program(name: str) -> ExportedProgram:
    # Without no_grad the graph of some transformers holds grad-mode wrapper operators.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        architecture = ARCHITECTURES[name]
        example = tuple(architecture.example().values())
        return torch.export.export(architecture.build(), example, dynamic_shapes=dynamic_shapes(name), strict=False)


@lru_cache(maxsize=1)
def onnx_program(name: str) -> torch.onnx.ONNXProgram:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The shapes are already in the program; given again, they name the symbolic dimension `batch` instead of `s77`.
        exported = torch.onnx.export(program(name), dynamo=True, dynamic_shapes=dynamic_shapes(name), verbose=False)
    assert exported is not None
    return exported


def dynamic_shapes(name: str) -> DynamicShapes | None:
    """The first dimension of every input is `batch`, where the architecture allows that."""
    architecture = ARCHITECTURES[name]
    batch = Dim("batch", min=1, max=1024)
    return {key: {0: batch} for key in architecture.example()} if architecture.dynamic else None
