"""Which values of a program do not depend on its inputs, and what they are.

Exporters write weights as chains of constants (a transpose, a cast, a reshape of a parameter); a layer reads its weight
through such a chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import InputKind

from .operators import base_name, kind_of
from .program import Program, nodes_in


class Constants:
    """The constant part of a program's graph, evaluated when asked."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._variable: set[fx.Node] = set()
        for node in program.graph.nodes:
            if self._varies(node):
                self._variable.add(node)

    def _varies(self, node: fx.Node) -> bool:
        if node.op == "placeholder":
            return self._program.inputs[node.name].kind is InputKind.USER_INPUT or self._program.target(node) is None
        if node.op == "get_attr":
            return False
        if node.op == "output" or any(argument in self._variable for argument in node.all_input_nodes):
            return True
        # A table looked up at constant places (position embeddings) is still a layer; sampling differs from run to run.
        random = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
        return random or kind_of(node)[0] in ("embedding", "control")

    def holds(self, node: Any) -> bool:
        """Whether `node` is a constant of the graph."""
        return isinstance(node, fx.Node) and node not in self._variable

    def sources(self, node: fx.Node) -> list[str]:
        """The FQNs of the tensors that a constant is computed from, in the order they are read."""
        target = self._program.target(node)
        if target is not None:
            return [target]
        found: dict[str, None] = {}
        for argument in nodes_in((node.args, node.kwargs)):
            found.update(dict.fromkeys(self.sources(argument)))
        return list(found)

    def axes(self, node: fx.Node) -> tuple[int, ...] | None:
        """Which axis of the tensor that a constant is made of each of its axes is; None where it is more than turned round."""
        order = tuple(range(node.meta["val"].dim()))
        while node.op == "call_function":
            turned = turning(node)
            if turned is None:
                return None
            order = tuple(turned[axis] for axis in order)
            node = node.all_input_nodes[0]
        return order if self._program.target(node) is not None else None

    def value(self, node: fx.Node, given: Mapping[fx.Node, torch.Tensor] | None = None) -> torch.Tensor:
        """A constant's value. `given` replaces nodes on the way, which may then be variable ones.

        Raises KeyError where a tensor on the way is missing.
        """
        known: dict[fx.Node, Any] = dict(given or {})
        with torch.no_grad():
            return self._evaluate(node, known)

    def _evaluate(self, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
        if node in known:
            return known[node]
        if node.op in ("placeholder", "get_attr"):
            value = self._program.value(node)
            if value is None:
                raise KeyError(node.name)
            known[node] = value
            return value
        for argument in node.all_input_nodes:
            self._evaluate(argument, known)
        args = fx.map_arg(node.args, known.__getitem__)
        kwargs = fx.map_arg(node.kwargs, known.__getitem__)
        known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return known[node]


_SAME = ("to", "_to_copy", "detach", "alias", "contiguous", "clone", "lift_fresh_copy")


def turning(node: fx.Node) -> tuple[int, ...] | None:
    """For each axis of an operator's output the one of its input that it is; None for operators that do more than turn round."""
    rank, name, args = node.meta["val"].dim(), base_name(node), node.args
    order = list(range(rank))
    if len(node.all_input_nodes) != 1:
        return None
    if name in _SAME:
        return tuple(order)
    if name in ("t", "mT", "numpy_T"):
        return tuple(order[::-1]) if rank <= 2 else None
    if name == "transpose":
        first, second = (int(axis) % rank for axis in args[1:3])  # type: ignore[arg-type]
        order[first], order[second] = order[second], order[first]
        return tuple(order)
    return tuple(int(axis) % rank for axis in args[1]) if name == "permute" else None  # type: ignore[union-attr, arg-type]
