"""A torch program in which chains of narrower layers take the place of layers, or stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from ...core.forms import numpy_dtype
from ...core.lowrank import LowRank, stages
from .forms import to_tensor
from .graph import View
from .program import Program, arguments, rename, set_argument

aten = torch.ops.aten
_CONVOLUTIONS = {1: aten.conv1d, 2: aten.conv2d, 3: aten.conv3d}


def factorise(program: Program, view: View, forms: Mapping[str, LowRank], names: Mapping[str, str]) -> dict[str, str]:
    """Change `program`, whose view is `view`. names: the layer names of fx nodes; returned with those of the new ones. The last
    node of a chain goes by the name of the one that it replaces."""
    named = dict(names)
    shared: dict[tuple[fx.Node, int], fx.Node] = {}
    for name in sorted(forms, key=view.graph.position.__getitem__):
        _Chain(program, view, name, forms[name], named, shared).replace()
    program.prune()
    return named


def bypass(program: Program, view: View, forms: Mapping[str, LowRank], names: Mapping[str, str]) -> dict[str, str]:
    """As `factorise`, but what the chains give is added to the layers' outputs. The sum goes by the name that the layer's fx node
    had."""
    named = dict(names)
    for name in forms:
        _Chain(program, view, name, forms[name], named, {}).add()
    return named


class _Chain:
    def __init__(
        self, program: Program, view: View, name: str, form: LowRank, names: dict[str, str],
        shared: dict[tuple[fx.Node, int], fx.Node],
    ) -> None:  # fmt: skip
        self.program, self.name, self.form, self.names, self.shared = program, name, form, names, shared
        self.layer, self.operator = view.graph.by_name[name], view.operators[name]
        self.argument = view.sites[name, "weight"][1]
        self.given = arguments(self.operator)
        source = view.sources[name, "weight"]
        self.target = (program.target(source) or f"{name}.weight").removesuffix(".weight")
        self.spread = stages(self.layer, form) if self.layer.kind == "conv" else []

    def replace(self) -> None:
        program, operator = self.program, self.operator
        with program.graph.inserting_before(operator):
            if self.layer.kind == "embedding":
                indices = self.given["indices"]
                rows = self._named(program.call(aten.embedding.default, self._weight(0), indices), 0)
                self._take_over(program.call(aten.linear.default, rows, self._weight(1)))
                return
            value: fx.Node = self.given["input"]
            for index, factor in enumerate(self.form.factors[:-1]):
                key = (value, id(factor))
                if key not in self.shared:
                    self.shared[key] = self._named(self._call(index, value, None), index)
                value = self.shared[key]
            last = len(self.form.factors) - 1
            if self.layer.kind == "linear":
                set_argument(operator, "input", value)
                set_argument(operator, self.argument, self._weight(last))
            else:
                self._take_over(self._call(last, value, self.given["bias"]))

    def add(self) -> None:
        program, operator, value = self.program, self.operator, self.given["input"]
        with program.graph.inserting_before(operator):
            for index in range(len(self.form.factors)):
                value = self._named(self._call(index, value, None), index)
        readers = set(operator.users)
        with program.graph.inserting_after(operator):
            total = program.call(aten.add.Tensor, operator, value)
        program.replace_uses(operator, total, lambda user: user in readers)
        name = operator.name
        operator.name = program.graph._graph_namespace.create_name(f"{name}_own", None)
        rename(program, total, name)
        self.names.pop(name, None)
        self.names[operator.name] = self.name

    def _call(self, index: int, value: fx.Node, bias: fx.Node | None) -> fx.Node:
        weight = self._weight(index)
        if self.layer.kind == "linear":
            return self.program.call(aten.linear.default, value, weight)
        stage = self.spread[index]
        operator: Any = _CONVOLUTIONS[len(stage.stride)]
        rest: list[Any] = [list(stage.stride)]
        padding = self.given["padding"]
        if isinstance(padding, str):  # "same" or "valid": of each axis, as far as the stage has a kernel there
            return self.program.call(operator.padding, value, weight, bias, *rest, padding, list(stage.dilation), 1)
        rest += [[before for before, _ in stage.padding], list(stage.dilation), 1]
        return self.program.call(operator.default, value, weight, bias, *rest)

    def _weight(self, index: int) -> fx.Node:
        dtype = numpy_dtype(self.layer.parameters["weight"].dtype)
        tensor = to_tensor(np.ascontiguousarray(self.form.factors[index].astype(dtype)))
        return self.program.add_tensor(f"{self.target}.{index}.weight", tensor, parameter=True)

    def _named(self, node: fx.Node, index: int) -> fx.Node:
        self.names[node.name] = f"{self.name}.{index}"
        return node

    def _take_over(self, new: fx.Node) -> None:
        name = self.operator.name
        self.program.replace_uses(self.operator, new)
        self.program.graph.erase_node(self.operator)
        rename(self.program, new, name)
