"""Whether PyTorch multiplies a layer's integers faster than its floats, measured on this machine as the file has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from modelkit.core.forms import DynamicGrid, Grid, Quantized
from modelkit.core.graph import Node
from modelkit.core.model import EdgeGrid
from modelkit.models.torch.forms import torch_dtype
from modelkit.models.torch.model import TorchModel

from .layer_latency import least_ms
from .memory import keep_freed_blocks

_TURNS = 2
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


def integer_latency(layer: Node, shape: tuple[int, ...], dynamic: bool, target: str, threads: int) -> tuple[float, float]:
    """Milliseconds of a linear layer or a convolution that reads an input of that shape in floating point (of its own type) and
    in integers: on CUDA for the target "cuda", on the CPU for others. What puts the input on its grid is counted, also where
    layers share it. A convolution's integers have their channels last in memory, as other integer convolutions leave them."""
    weight = layer.parameters["weight"]
    window = tuple((name, layer.attributes[name]) for name in ("stride", "dilation", "padding", "groups") if layer.kind == "conv")
    return _measured(shape, weight.shape, window, weight.dtype, dynamic, target, threads)


@lru_cache(maxsize=256)
def _measured(
    shape: tuple[int, ...], weight: tuple[int, ...], window: tuple[tuple[str, Any], ...], dtype: str, dynamic: bool, target: str,
    threads: int,
) -> tuple[float, float]:  # fmt: skip
    torch.set_num_threads(threads)
    keep_freed_blocks()  # as where the result is measured
    device = "cuda" if target == "cuda" else "cpu"
    module, x = _layer(weight, dict(window)).to(torch_dtype(dtype)).eval(), torch.randn(shape).to(torch_dtype(dtype))
    model = TorchModel.of(torch.export.export(module, (x,)), Path("layer.pt2"))
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    codes = np.random.default_rng(0).integers(-64, 65, weight).astype(np.int8)
    form = Quantized(codes, np.full((weight[0], 1), 0.01, np.float32), 8, dtype=dtype)
    model.provenance.target = target
    model.set_parameter(name, "weight", form, DynamicGrid() if dynamic else None)
    if not dynamic:
        model.quantize_edges({edge: EdgeGrid(Grid(0.05, 0, signed=True))})
    exported = model.exported()
    tensors = {**exported.state_dict, **exported.constants}
    held = [tensors[spec.target].to(device) for spec in exported.graph_signature.input_specs if spec.target is not None]
    integers, floats, x = exported.graph_module, module.to(device), x.to(device)
    other = x.contiguous(memory_format=_LAYOUTS[len(shape) - 2]) if window and len(shape) - 2 in _LAYOUTS else x
    runs = [_ready(lambda: floats(x), device), _ready(lambda: integers(*held, other), device)]
    best = [float("inf")] * len(runs)
    for _ in range(_TURNS):
        best = [min(known, least_ms(run)) for known, run in zip(best, runs, strict=True)]
    return best[0], best[1]


def _layer(weight: tuple[int, ...], window: dict[str, Any]) -> nn.Module:
    if not window:
        return nn.Linear(weight[1], weight[0])
    outputs, inputs, *kernel = weight
    padding, groups = [after for _, after in window["padding"]], window["groups"]
    kind: Any = _CONVOLUTIONS[len(kernel)]
    return kind(inputs * groups, outputs, kernel, window["stride"], padding, window["dilation"], groups)


def _ready(run: Callable[[], Any], device: str) -> Callable[[], Any]:
    """What takes the time of the kernels: on CUDA a captured graph, as launching one by one can take longer than they do."""

    def inferred() -> None:
        with torch.inference_mode():
            run()

    if device == "cpu":
        return inferred
    inferred()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        run()

    def replayed() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replayed
