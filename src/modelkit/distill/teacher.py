"""The original, asked for what it gives on each sample. It is asked once where its answers fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import torch

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.graph import Graph
from modelkit.core.model import Feeds, Model

_CACHE_BYTES = 2 << 30

Answers = Mapping[str, torch.Tensor]


class Teacher:
    """`edges`: the student's name of each value that is wanted, and the teacher's. `samples`: how many the data holds."""

    def __init__(self, model: Model, student: Graph, edges: Mapping[str, str], samples: int, device: str) -> None:
        self._edges = dict(edges)
        self._device = device
        self._inputs = matched_inputs(student, model.graph)
        self._ask = _asking(model, list(dict.fromkeys(edges.values())), device)
        shapes = [model.graph.shape(edge) for edge in edges.values()]
        size = samples * sum(4 * prod(shape) for shape in shapes if shape is not None)
        self._known: dict[str, Array] | None = {} if size <= _CACHE_BYTES and None not in shapes else None
        self._answered = np.zeros(samples, bool)

    def __call__(self, rows: Array, feeds: Feeds) -> Answers:
        """The values for the samples `rows`, of which `feeds` are the student's inputs."""
        if self._known is None or not self._answered[rows].all():
            values = self._ask({self._inputs[name]: array for name, array in feeds.items()})
            found = {name: values[edge] for name, edge in self._edges.items()}
            if self._known is None or any(len(value) != len(rows) for value in found.values()):
                self._known = None
                return self._tensors(found)
            for name, value in found.items():
                kept = self._known.setdefault(name, np.empty((len(self._answered), *value.shape[1:]), value.dtype))
                if kept.shape[1:] != value.shape[1:]:  # samples of different lengths
                    self._known = None
                    return self._tensors(found)
                kept[rows] = value
            self._answered[rows] = True
        return self._tensors({name: self._known[name][rows] for name in self._edges})

    def _tensors(self, values: Mapping[str, Array]) -> Answers:
        return {name: _tensor(value).to(self._device) for name, value in values.items()}


def _asking(model: Model, edges: Sequence[str], device: str) -> Callable[[Feeds], Mapping[str, Array]]:
    if model.family == "torch" and device != "cpu":
        from modelkit.models.torch.model import TorchModel

        assert isinstance(model, TorchModel)
        module = model.trainable(False, edges, device)

        def on_device(feeds: Feeds) -> Mapping[str, Array]:
            with torch.no_grad():
                values = module({name: _tensor(array).to(device) for name, array in feeds.items()})
            return {name: value.float().cpu().numpy() for name, value in values.items()}

        return on_device

    def on_cpu(feeds: Feeds) -> Mapping[str, Array]:
        with torch.autocast("cpu", enabled=False):  # the answers to learn from are the original's own, and programs check types
            return next(iter(model.observe([feeds], edges)))

    return on_cpu


def _tensor(array: Array) -> torch.Tensor:
    wide = array.astype(np.float32) if array.dtype.name == "bfloat16" else np.ascontiguousarray(array)
    return torch.from_numpy(wide)


def matched_inputs(student: Graph, teacher: Graph) -> dict[str, str]:
    """The teacher's input for each of the student's: by name, else by place. Raises ModelkitError where they don't fit."""
    mine, others = [spec.name for spec in student.inputs], [spec.name for spec in teacher.inputs]
    if set(mine) == set(others):
        return {name: name for name in mine}
    same = len(mine) == len(others) and all(
        student.edges[a].dtype == teacher.edges[b].dtype for a, b in zip(mine, others, strict=True) if a in student.edges
    )
    if not same:
        raise ModelkitError(
            f"The models have different inputs: {', '.join(map(str, student.inputs))} and {', '.join(map(str, teacher.inputs))}.",
            "Give the original that the compressed model was made from as --teacher.",
        )
    return dict(zip(mine, others, strict=True))


def matched_outputs(student: Graph, teacher: Graph) -> dict[str, str]:
    """The teacher's output for each of the student's, by place. Raises ModelkitError where they don't fit."""
    pairs = dict(zip(student.outputs, teacher.outputs, strict=False))
    fits = len(student.outputs) == len(teacher.outputs) and all(
        None in (student.shape(a), teacher.shape(b)) or _sizes(student.shape(a)) == _sizes(teacher.shape(b))
        for a, b in pairs.items()
    )
    if not fits:
        shapes = [[graph.shape(name) for name in graph.outputs] for graph in (student, teacher)]
        raise ModelkitError(
            f"The models give different outputs: {shapes[0]} and {shapes[1]}.",
            "Give the original that the compressed model was made from as --teacher.",
        )
    return pairs


def _sizes(shape: Sequence[int] | None) -> tuple[int, ...]:
    """Without the batch, which one file may fix and the other not."""
    return tuple((shape or ())[1:])


def matched_features(student: Graph, teacher: Graph, most: int = 8) -> dict[str, str]:
    """The outputs of up to `most` layers that both models have, of the same shape, evenly spread over the student."""
    found = {}
    for layer in student.layers():
        other = teacher.by_name.get(layer.name)
        if other is None or layer.kind == "embedding" or layer.outputs[0] in student.outputs:
            continue
        a, b = student.shape(layer.outputs[0]), teacher.shape(other.outputs[0])
        if a is not None and b is not None and _sizes(a) == _sizes(b):
            found[layer.outputs[0]] = other.outputs[0]
    step = -(-len(found) // most) or 1
    return dict(list(found.items())[step - 1 :: step])
