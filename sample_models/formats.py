"""Writes one trained classifier in every format, and checks that each file gives the numbers of the model in memory."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

# uint8 images become model inputs by (uint8 * scale - mean) / std, one mean and std per channel.
Preprocessing = Mapping[str, Any]


def save_all(model: nn.Module, folder: Path, example: Tensor, preprocessing: Preprocessing | None) -> None:
    """Writes model.pt2, model.onnx, model.pt (TorchScript) and model_state.pt. `example` is a batch of at least two inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    example = example.clone()  # of a slice, the archive would keep the whole data set
    torch.save(model.state_dict(), folder / "model_state.pt")
    save_torchscript(model, folder / "model.pt", example)
    save_program(model, folder / "model.pt2", example, preprocessing)
    save_onnx(model, folder / "model.onnx", {"x": example}, "logits", preprocessing)


def save_torchscript(model: nn.Module, path: Path, example: Tensor) -> None:
    """Traces `model`. The debug records are left out, as they hold the paths of the machine the model was traced on."""
    traced = path.with_suffix(".traced")
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(model, example), traced)
    with zipfile.ZipFile(traced) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                target.writestr(entry, source.read(entry))
    traced.unlink()
    _check_batches(path, torch.jit.load(path), model, example)


def save_program(model: nn.Module, path: Path, example: Tensor, preprocessing: Preprocessing | None) -> None:
    """Exports with a dynamic batch, and leaves out the stack traces, which hold the paths of this machine."""
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    extra = {"modelkit.json": json.dumps({"preprocessing": preprocessing})} if preprocessing else None
    torch.export.save(program, path, extra_files=extra)
    _check_batches(path, torch.export.load(path).module(), model, example)


def save_onnx(
    model: nn.Module,
    path: Path,
    example: Mapping[str, Tensor],
    output: str,
    preprocessing: Preprocessing | None = None,
    dynamic: Mapping[int, str] | None = None,
) -> None:
    """Exports to one file without external data. `dynamic` names the axes of every input that may vary (default: the batch)."""
    axes = {axis: torch.export.Dim(name) for axis, name in (dynamic or {0: "batch"}).items()}
    with torch.no_grad():
        expected = model(*example.values())
        program = torch.onnx.export(
            model,
            tuple(example.values()),
            input_names=list(example),
            output_names=[output],
            dynamic_shapes=tuple(axes for _ in example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    written = program.model_proto
    # The exporter's notes at the nodes hold stack traces with the paths of this machine.
    for node in written.graph.node:
        del node.metadata_props[:]
    if preprocessing:
        written.metadata_props.add(key="modelkit.preprocessing", value=json.dumps(preprocessing))
    onnx.checker.check_model(written, full_check=True)
    unfinished = path.with_suffix(".unfinished")
    onnx.save(written, unfinished)
    os.replace(unfinished, path)  # a benchmark may be reading the file that stands there
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run([output], {name: value.numpy() for name, value in example.items()})[0]
    _check_equal(path, torch.from_numpy(np.asarray(got)), expected)


@torch.no_grad()
def _check_batches(path: Path, loaded: nn.Module, model: nn.Module, example: Tensor) -> None:
    for batch in (example, example[:1]):
        _check_equal(path, loaded(batch), model(batch))


def _check_equal(path: Path, got: Tensor, expected: Tensor) -> None:
    worst = float((got - expected).abs().max() / expected.abs().max())
    if not worst < 1e-4:
        raise RuntimeError(f"{path} gives other numbers than the model it was written from (relative difference {worst:.1e})")
