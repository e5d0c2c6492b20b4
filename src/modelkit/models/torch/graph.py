"""The neutral graph of a program, and how its nodes and roles map back to fx nodes and their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx

from ...core.graph import HIDDEN, LAYER_KINDS, PRODUCT_KINDS, Edge, Graph, Kind, Node, Parameter
from .constants import Constants
from .forms import Site, Stored, StoredForms, dtype_name
from .operators import attributes_of, kind_of, operator_name
from .program import Program, arguments, is_getitem, nodes_in
from .shapes import Shapes

_ROLES = {"running_mean": "mean", "running_var": "variance"}
_INSIDE_RECURRENT = "the weights inside a recurrent operator are left as they are"


@dataclass(frozen=True)
class View:
    """The neutral graph with the way back: the fx node of each node's name, the fx argument of each parameter that can be given
    another form, and by (node, role) the constant that is each parameter."""

    graph: Graph
    operators: Mapping[str, fx.Node]
    sites: Mapping[tuple[str, str], Site]
    sources: Mapping[tuple[str, str], fx.Node]


def view(program: Program, constants: Constants, shapes: Shapes, forms: StoredForms, names: Mapping[str, str]) -> View:
    """Build the neutral graph. `names` fixes the names of some fx nodes (those that a file said)."""
    return _Builder(program, constants, shapes, forms, names).build()


def parameter_of(stored: Stored) -> Parameter:
    """How the graph shows a parameter that was set or came in a form."""
    form = stored.form
    dtype = getattr(form, "dtype", None) or form.decode().dtype.name
    axes = tuple(range(len(form.shape)))
    return Parameter(stored.target, form.shape, dtype, form.nbytes, str(form), (stored.target,), axes)


class _Builder:
    def __init__(
        self, program: Program, constants: Constants, shapes: Shapes, forms: StoredForms, names: Mapping[str, str]
    ) -> None:
        self.program = program
        self.constants = constants
        self.shapes = shapes
        self.forms = forms
        self.names = names
        self.taken: set[str] = set(names.values())
        self.edges: dict[str, Edge] = {}
        self.sites: dict[tuple[str, str], Site] = {}
        self.operators: dict[str, fx.Node] = {}
        self.sources: dict[tuple[str, str], fx.Node] = {}

    def build(self) -> View:
        inputs = []
        for node in self.program.user_inputs():
            if isinstance(node.meta.get("val"), torch.Tensor):
                inputs.append(self.shapes.input(node))
                self.edge(node)
        nodes = tuple(self.node(node) for node in self.program.graph.nodes if self.shown(node))
        outputs = []
        for output in self.program.user_outputs():
            self.edge(output)
            outputs.append(output.name)
        return View(Graph(nodes, self.edges, tuple(inputs), tuple(outputs)), self.operators, self.sites, self.sources)

    def shown(self, node: fx.Node) -> bool:
        """Operators on tensors; arithmetic on sizes, checks and the unpacking of tuples are left out."""
        if node.op != "call_function" or self.constants.holds(node) or is_getitem(node):
            return False
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return True
        value = node.meta.get("val")
        values = value if isinstance(value, tuple | list) else (value,)
        return any(isinstance(item, torch.Tensor) for item in values)

    def edge(self, node: fx.Node) -> str:
        value = node.meta.get("val")
        dtype = dtype_name(value.dtype) if isinstance(value, torch.Tensor) else "int64"
        self.edges[node.name] = Edge(node.name, self.shapes.concrete(value), dtype)
        return node.name

    def node(self, node: fx.Node) -> Node:
        kind, function = kind_of(node)
        values = arguments(node)
        constants = list(self.constant_arguments(kind, values))
        weight = values.get("weight")
        if isinstance(weight, fx.Node) and (node.name, "weight") not in self.forms and not self.constants.holds(weight):
            weight = None
        name = self.name(node, [value for _, _, value in constants] if kind in (*LAYER_KINDS, "norm") else [])
        parameters = {}
        for role, argument, value in constants:
            parameters[role] = self.parameter(node.name, argument, value)
            self.sources[name, role] = value
            if isinstance(values.get(argument), fx.Node):
                self.sites[name, role] = (node.name, argument)
        if kind in ("linear", "conv", "embedding", "norm"):
            for role in ("weight", "bias"):
                if role not in parameters and role in values:
                    self.sites[name, role] = (node.name, role)
                    if (node.name, role) in self.forms:  # one that the operator did not have before
                        parameters[role] = self.parameter(node.name, role, None)
        self.operators[name] = node
        attributes = attributes_of(kind, node, values) | ({"function": function} if function else {})
        return Node(
            name, kind, operator_name(node), tuple(self.data(kind, values)), tuple(self.outputs(node)), parameters, attributes,
            self.skip(kind, weight, node),
        )  # fmt: skip

    def constant_arguments(self, kind: Kind, values: dict[str, Any]) -> Iterator[tuple[str, str, fx.Node]]:
        """(role, argument, constant) of every constant that the operator reads as a parameter."""
        for argument, value in values.items():
            if kind == "embedding" and argument != "weight":
                continue
            if isinstance(value, fx.Node):
                if self.constants.holds(value) and isinstance(value.meta.get("val"), torch.Tensor):
                    yield _ROLES.get(argument, argument), argument, value
                continue
            for i, item in enumerate(nodes_in(value)):
                if self.constants.holds(item) and isinstance(item.meta.get("val"), torch.Tensor):
                    sources = self.constants.sources(item)
                    yield (sources[0].split(".")[-1] if len(sources) == 1 else f"{argument}.{i}"), argument, item

    def data(self, kind: Kind, values: dict[str, Any]) -> Iterator[str]:
        for argument, value in values.items():
            for item in nodes_in(value):
                if not isinstance(item.meta.get("val"), torch.Tensor):
                    continue
                if not self.constants.holds(item):
                    yield self.edge(item)
                elif kind == "embedding" and argument == "indices":
                    yield self.edge(item)

    def outputs(self, node: fx.Node) -> Iterator[str]:
        if isinstance(node.meta.get("val"), torch.Tensor):
            yield self.edge(node)
            return
        for user in node.users:
            if is_getitem(user):
                yield self.edge(user)

    def name(self, node: fx.Node, owned: list[fx.Node]) -> str:
        """The FQN of the module that owns the parameters, or the fx node's name where there is none or it is taken."""
        if node.name in self.names:
            return self.names[node.name]
        wanted = node.name
        stored = self.forms.get((node.name, "weight"))
        sources = [stored.target] if stored else self.constants.sources(owned[0]) if owned else []
        if sources:
            module, _, leaf = sources[0].rpartition(".")
            wanted = module if module and leaf.startswith(("weight", "bias", "kernel")) else sources[0]
        name, count = (wanted, 0) if wanted not in self.taken else (node.name, 0)
        while name in self.taken:
            count += 1
            name = f"{node.name}_{count}"
        self.taken.add(name)
        return name

    def parameter(self, name: str, argument: str, value: fx.Node | None) -> Parameter:
        stored = self.forms.get((name, argument))
        if stored:
            return parameter_of(stored)
        assert value is not None
        meta = value.meta["val"]
        shape = self.shapes.concrete(meta) or ()
        sources = tuple(self.constants.sources(value))
        tensors = [self.program.tensors[source] for source in sources if source in self.program.tensors]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) if tensors else prod(shape) * meta.element_size()
        return Parameter(
            sources[0] if sources else value.name, shape, dtype_name(meta.dtype), size, "dense", sources or (value.name,),
            self.constants.axes(value),
        )  # fmt: skip

    def skip(self, kind: Kind, weight: Any, node: fx.Node) -> str | None:
        if kind == "recurrent":
            return _INSIDE_RECURRENT
        if kind == "control":
            return HIDDEN if _holds_layers(node, self.program.source.graph_module) else None
        if kind in LAYER_KINDS and weight is None:
            return "its weight is computed at run time"
        return None


def _holds_layers(node: fx.Node, owner: torch.nn.Module) -> bool:
    for item in nodes_in(node.args):
        body = getattr(owner, str(item.target), None) if item.op == "get_attr" else None
        if not isinstance(body, fx.GraphModule):
            continue
        for inner in body.graph.nodes:
            kind = kind_of(inner)[0] if inner.op == "call_function" else "other"
            if kind in PRODUCT_KINDS or (kind == "control" and _holds_layers(inner, body)):
                return True
    return False
