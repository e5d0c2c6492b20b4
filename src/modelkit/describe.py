"""A model as the report has it: bytes, parameters, MACs, and every layer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from .analysis.macs import common_batch, node_macs, total_macs
from .core.model import Model
from .costs import parameters

_CHUNK = 1 << 17


def describe(model: Model, path: Path | None = None) -> dict[str, Any]:
    """The report's `Model` object. `path` when the file has been moved since the model was opened."""
    graph = model.graph
    files = model.files()
    batch = common_batch(graph)
    layers = []
    for node in graph.layers():
        macs = node_macs(graph, node)
        weight = node.parameters.get("weight")
        layers.append(
            {
                "name": node.name,
                "kind": node.kind,
                "shape": list(weight.shape) if weight else [],
                "parameters": sum(p.size for p in node.parameters.values()),
                "macs": None if macs is None else macs // batch,
                "bytes": sum(p.bytes for p in node.parameters.values()),
                "sparsity": _sparsity(model, node.name) if weight else None,
                "form": weight.form if weight else "dense",
            }
        )
    return {
        "path": str(path or model.path),
        "format": model.format,
        "sha256": sha256(files),
        "bytes": total_bytes(files),
        "parameters": int(parameters(graph)),
        "macs": total_macs(graph),
        "layers": layers,
        "history": model.provenance.history,
    }


def total_bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def sha256(files: list[Path]) -> str:
    """Of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _sparsity(model: Model, layer: str) -> float | None:
    weight = model.parameter(layer, "weight")
    if weight is None or weight.size == 0:
        return None
    return round(1 - np.count_nonzero(weight) / weight.size, 6)
