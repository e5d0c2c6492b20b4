"""Whether PyTorch multiplies a linear layer's integers faster than its floats, measured on this machine as the file has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from modelkit.core.forms import DynamicGrid, Grid, Quantized
from modelkit.core.model import EdgeGrid
from modelkit.models.torch.forms import torch_dtype
from modelkit.models.torch.model import TorchModel

from .layer_latency import least_ms

_TURNS = 2


@lru_cache(maxsize=256)
def linear_latency(
    rows: int, inputs: int, outputs: int, dtype: str, dynamic: bool, target: str, threads: int
) -> tuple[float, float]:
    """Milliseconds of a linear layer of that size in floating point (`dtype`) and in integers: on CUDA for the target "cuda", on
    the CPU for others. What puts the input on its grid is counted, also where layers share it."""
    torch.set_num_threads(threads)
    device = "cuda" if target == "cuda" else "cpu"
    layer, x = nn.Linear(inputs, outputs).to(torch_dtype(dtype)).eval(), torch.randn(rows, inputs).to(torch_dtype(dtype))
    model = TorchModel.of(torch.export.export(layer, (x,)), Path("layer.pt2"))
    name, edge = next(model.graph.layers()).name, model.graph.inputs[0].name
    codes = np.random.default_rng(0).integers(-64, 65, (outputs, inputs)).astype(np.int8)
    form = Quantized(codes, np.full((outputs, 1), 0.01, np.float32), 8, dtype=dtype)
    model.provenance.target = target
    model.set_parameter(name, "weight", form, DynamicGrid() if dynamic else None)
    if not dynamic:
        model.quantize_edges({edge: EdgeGrid(Grid(0.05, 0, signed=True))})
    exported = model.exported()
    tensors = {**exported.state_dict, **exported.constants}
    held = [tensors[spec.target].to(device) for spec in exported.graph_signature.input_specs if spec.target is not None]
    module, layer, x = exported.graph_module, layer.to(device), x.to(device)
    runs = [_ready(lambda: layer(x), device), _ready(lambda: module(*held, x), device)]
    best = [float("inf")] * len(runs)
    for _ in range(_TURNS):
        best = [min(known, least_ms(run)) for known, run in zip(best, runs, strict=True)]
    return best[0], best[1]


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
