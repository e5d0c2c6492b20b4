"""What each layer costs at each width, measured on this machine and in the runtime that will run it, and kept on disk.

Latency is a staircase in channels: kernels work in blocks, of 8 channels with AVX2 and 16 with AVX512. So a width is timed as the
next multiple of 8. A layer whose output is as large as its input in space is timed in a chain with its mirror image (as in a
residual branch), so that what a runtime spends on changing layouts at the ends is shared by many.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.graph import Graph, Node

from .cpu import cpu_name, instruction_sets
from .environment import package_version
from .memory import keep_freed_blocks

_BLOCK = 8
_PAIRS = 4
_ROUNDS, _SECONDS = 3, 0.012
Run = Callable[[], Any]


class LayerLatency:
    """Milliseconds of a graph's layers for one batch. `runtime` is "onnxruntime" or "torch"."""

    def __init__(self, runtime: str, threads: int, cache: Path | None = None) -> None:
        self.runtime, self.threads = runtime, threads
        # Hypervisors call different processors alike.
        name = f"{cpu_name()} {' '.join(instruction_sets())} {runtime} {package_version(runtime)} {threads}"
        folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelkit"
        self._file = folder / f"latency-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
        self._known: dict[str, float] = _read(self._file)
        self._new = 0

    def __call__(self, graph: Graph) -> float:
        return sum(self.layer(graph, node) for node in graph.nodes if node.kind in ("conv", "linear"))

    def layer(self, graph: Graph, node: Node) -> float:
        source, target = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
        weight = node.parameters.get("weight")
        if source is None or target is None or weight is None or node.attributes.get("transposed"):
            return 0.0
        shape = list(weight.shape)
        groups = int(node.attributes.get("groups", 1))
        if groups == 1:
            shape[:2] = _blocked(shape[0]), _blocked(shape[1])
        else:
            groups = groups if shape[1] > 1 else _blocked(groups)
            shape[0] = groups * max(1, shape[0] // int(node.attributes["groups"]))
        space = source[2:] if node.kind == "conv" else source[:-1]
        given = {name: node.attributes.get(name) for name in ("stride", "dilation", "padding")} if node.kind == "conv" else {}
        key = json.dumps([node.kind, shape, list(space), groups, list(given.values())])
        if key not in self._known:
            same = node.kind == "linear" or (groups == 1 and source[2:] == target[2:] and set(node.attributes["stride"]) == {1})
            self._known[key] = self._timed(node.kind, tuple(shape), tuple(space), groups, given, same)
            self._new += 1
        return self._known[key]

    def save(self) -> None:
        """Keep what was measured. A cache that can't be written is done without."""
        if not self._new:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._file.with_suffix(f".{os.getpid()}")
            unfinished.write_text(json.dumps({**_read(self._file), **self._known}), encoding="utf-8")
            unfinished.replace(self._file)
        except OSError:
            return
        self._new = 0

    def _timed(
        self, kind: str, shape: tuple[int, ...], space: tuple[int, ...], groups: int, given: dict[str, Any], chain: bool
    ) -> float:
        mirrored = (shape[1], shape[0], *shape[2:])
        weights = [_values(one) for one in (shape, mirrored) * _PAIRS] if chain else [_values(shape)]
        channels = shape[1] * groups
        x = _values((1, channels, *space) if kind == "conv" else (*space, channels))
        make = _onnx_chain if self.runtime == "onnxruntime" else _torch_chain
        return least_ms(make(kind, x, weights, groups, given, self.threads)) / len(weights)


def _blocked(width: int) -> int:
    return -(-width // _BLOCK) * _BLOCK if width > 4 else width


def _values(shape: tuple[int, ...]) -> Array:
    values: Array = np.random.default_rng(0).standard_normal(shape, np.float32) / np.float32(max(prod(shape[1:]), 1) ** 0.5)
    return values


def _read(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): float(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def least_ms(run: Run) -> float:
    """The fastest of a few rounds: noise from elsewhere can only add time."""
    run()
    best = float("inf")
    for _ in range(_ROUNDS):
        runs, start = 0, time.perf_counter()
        while runs < 2 or time.perf_counter() - start < _SECONDS:
            run()
            runs += 1
        best = min(best, (time.perf_counter() - start) / runs)
    return best * 1000


def _onnx_chain(kind: str, x: Array, weights: list[Array], groups: int, given: dict[str, Any], threads: int) -> Run:
    import onnx
    from onnx import helper

    from modelkit.runtimes.onnxruntime import create_session

    nodes, tensors, edge = [], [], "x"
    for index, weight in enumerate(weights):
        stored = weight if kind == "conv" else np.ascontiguousarray(weight.T)
        tensors.append(onnx.numpy_helper.from_array(stored, f"w{index}"))
        attributes: dict[str, Any] = {}
        if kind == "conv":
            pads = [before for before, _ in given["padding"]] + [after for _, after in given["padding"]]
            attributes = {"group": groups, "strides": given["stride"], "dilations": given["dilation"], "pads": pads}
        nodes.append(helper.make_node("Conv" if kind == "conv" else "MatMul", [edge, f"w{index}"], [f"c{index}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        edge = f"r{index}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "chain", [value("x", 1, x.shape)], [value(edge, 1, None)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = create_session(model.SerializeToString(), threads)
    return lambda: session.run(None, {"x": x})


def _torch_chain(kind: str, x: Array, weights: list[Array], groups: int, given: dict[str, Any], threads: int) -> Run:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    keep_freed_blocks()  # as where the result is measured
    start, held = torch.from_numpy(x), [torch.from_numpy(weight) for weight in weights]
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}.get(x.ndim - 2)

    def run() -> None:
        with torch.inference_mode():
            y = start
            for weight in held:
                if kind == "linear" or convolve is None:
                    y = F.relu(F.linear(y, weight))
                else:
                    padding = [before for before, _ in given["padding"]]
                    y = F.relu(convolve(y, weight, None, given["stride"], padding, given["dilation"], groups))

    return run
