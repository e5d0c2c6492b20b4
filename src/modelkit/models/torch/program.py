"""An ExportedProgram opened up for editing: its graph, what its placeholders stand for, and the tensors behind them."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument

OWNED = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass
class Program:
    """A graph whose placeholders are named in `inputs`; `tensors` has the value of each owned one by its target (its FQN).

    A placeholder may lack its tensor: a weight that is only kept in another form (see forms.py). `fake` computes the shapes of
    new nodes, symbolic ones too.
    """

    source: ExportedProgram
    graph: fx.Graph
    inputs: dict[str, InputSpec]
    outputs: list[OutputSpec]
    tensors: dict[str, torch.Tensor]
    fake: FakeTensorMode = field(repr=False)

    @classmethod
    def of(cls, exported: ExportedProgram) -> Program:
        """The program to edit; `exported` itself is left alone. Tensors are shared."""
        signature = exported.graph_signature
        specs = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, signature.input_specs, strict=True):
            specs.setdefault(node.name, spec)
        targets = {spec.target for spec in specs.values() if spec.kind in OWNED and spec.target is not None}
        tensors = {name: value for name, value in (*exported.constants.items(), *exported.state_dict.items()) if name in targets}
        program = cls(exported, exported.graph, specs, list(signature.output_specs), tensors, _fake_mode(exported))
        return program.copy()

    def copy(self) -> Program:
        """A program whose graph can be changed without changing this one's; tensors are shared."""
        graph = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        output = graph.graph_copy(self.graph, mapping)
        graph.output(output).meta = dict(self.output_node().meta)
        for node, copied in mapping.items():
            if copied.name != node.name:  # fx renames what is called like a Python builtin, such as "input".
                copied.name = node.name
        outputs = [copy.deepcopy(spec) for spec in self.outputs]
        return Program(self.source, graph, dict(self.inputs), outputs, dict(self.tensors), self.fake)

    def output_node(self) -> fx.Node:
        return next(node for node in reversed(self.graph.nodes) if node.op == "output")

    def nodes(self) -> dict[str, fx.Node]:
        return {node.name: node for node in self.graph.nodes}

    def user_inputs(self) -> list[fx.Node]:
        """The placeholders that a user feeds, in order."""
        return [
            node for node in self.graph.nodes if node.op == "placeholder" and self.inputs[node.name].kind is InputKind.USER_INPUT
        ]

    def user_outputs(self) -> list[fx.Node]:
        """The values that the model returns, in order (constants that it returns are left out)."""
        values = self.output_node().args[0]
        assert isinstance(values, tuple | list)
        pairs = zip(values, self.outputs, strict=True)
        return [value for value, spec in pairs if spec.kind is OutputKind.USER_OUTPUT and isinstance(value, fx.Node)]

    def target(self, node: fx.Node) -> str | None:
        """The FQN of the tensor that an owned placeholder stands for."""
        if node.op != "placeholder" or self.inputs[node.name].kind not in OWNED:
            return None
        return self.inputs[node.name].target

    def value(self, node: fx.Node) -> torch.Tensor | None:
        """The tensor behind an owned placeholder or an attribute of the graph; None if there is none."""
        if node.op == "get_attr":
            owner: Any = self.source.graph_module
            for part in str(node.target).split("."):
                owner = getattr(owner, part, None)
            return owner if isinstance(owner, torch.Tensor) else None
        target = self.target(node)
        return None if target is None else self.tensors.get(target)

    def add_tensor(self, target: str, tensor: torch.Tensor, *, parameter: bool = False) -> fx.Node:
        """A new placeholder for `tensor` under the FQN `target`, made unique if it is taken."""
        target = self.free_target(target)
        if parameter and not isinstance(tensor, torch.nn.Parameter):
            tensor = torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        node = self.add_placeholder(target, tensor.dtype, tuple(tensor.shape), parameter=parameter)
        self.tensors[target] = tensor
        return node

    def add_placeholder(self, target: str, dtype: torch.dtype, shape: tuple[int, ...], *, parameter: bool) -> fx.Node:
        """A placeholder without a tensor, ahead of the user's inputs."""
        first = next(
            node for node in self.graph.nodes if node.op != "placeholder" or self.inputs[node.name].kind is InputKind.USER_INPUT
        )
        with self.graph.inserting_before(first):
            node = self.graph.placeholder(("p_" if parameter else "b_") + target.replace(".", "_"))
        with self.computing_shapes():
            node.meta["val"] = torch.empty(shape, dtype=dtype)
        kind = InputKind.PARAMETER if parameter else InputKind.BUFFER
        self.inputs[node.name] = InputSpec(kind, TensorArgument(name=node.name), target, None if parameter else True)
        return node

    @contextmanager
    def computing_shapes(self) -> Iterator[None]:
        """Operators compute shapes only. What they assume of a symbolic size to choose a kernel (a batch below 16, say) is not
        noted: a freshly exported program would take it for a condition that its users must meet. Operators made of others are
        taken apart in Python, as the kernels that do it ask for sizes that are no numbers (torch 2.11's matmul)."""
        shapes = self.fake.shape_env
        with self.fake, nullcontext() if shapes is None else shapes.suppress_guards(), enable_python_dispatcher():
            yield

    def free_target(self, wanted: str) -> str:
        """`wanted`, or it with a number, so that it names neither another tensor nor a module that holds one."""
        taken = {str(spec.target) for spec in self.inputs.values() if spec.kind in OWNED}
        name, count = wanted, 0
        while name in taken or any(other.startswith(f"{name}.") for other in taken):
            count += 1
            name = f"{wanted}_{count}"
        return name

    def call(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """Append a call where the graph inserts now; its shape is computed from those of its arguments."""
        node = self.graph.call_function(target, args)
        with self.computing_shapes():
            node.meta["val"] = target(*fx.map_arg(args, lambda argument: argument.meta["val"]))
        return node

    def replace_uses(self, old: fx.Node, new: fx.Node, where: Callable[[fx.Node], bool] = lambda user: True) -> None:
        """Let the readers of `old` for which `where` holds read `new`; the list of outputs follows."""
        output = self.output_node()
        if where(output):
            for spec in self.outputs:
                if getattr(spec.arg, "name", None) == old.name:
                    spec.arg = TensorArgument(name=new.name)
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new and where(user))

    def prune(self) -> None:
        """Drop computations that nothing reads, then owned placeholders that nothing reads, with their tensors."""
        for node in reversed(list(self.graph.nodes)):
            if node.op in ("call_function", "get_attr") and not node.users and not _is_effect(node):
                self.graph.erase_node(node)
        mutated = {spec.target for spec in self.outputs if spec.kind is OutputKind.BUFFER_MUTATION}
        for node in list(self.graph.nodes):
            target = self.target(node)
            if target is not None and not node.users and target not in mutated:
                self.graph.erase_node(node)
                del self.inputs[node.name]
        kept = {spec.target for spec in self.inputs.values()}
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name in kept}

    def exported(self) -> ExportedProgram:
        """The program as torch's own. Raises KeyError if a placeholder lacks its tensor."""
        program = self.copy()
        specs = [program.inputs[node.name] for node in program.graph.nodes if node.op == "placeholder"]
        state: dict[str, torch.Tensor] = {}
        constants: dict[str, Any] = {}
        for spec in specs:
            if spec.kind in OWNED:
                assert spec.target is not None
                persistent = spec.kind is InputKind.PARAMETER or (spec.kind is InputKind.BUFFER and spec.persistent)
                (state if persistent else constants)[spec.target] = self.tensors[spec.target]
        source = self.source
        calls = list(source.module_call_graph)
        signature = calls[0].signature
        if signature is not None:
            arguments = [spec.arg for spec in specs if spec.kind is InputKind.USER_INPUT]
            results = [spec.arg for spec in program.outputs if spec.kind is OutputKind.USER_OUTPUT]
            calls[0] = replace(calls[0], signature=replace(signature, inputs=arguments, outputs=results))
        return ExportedProgram(
            root=source.graph_module, graph=program.graph, graph_signature=ExportGraphSignature(specs, program.outputs),
            state_dict=state,
            range_constraints=dict(source.range_constraints), module_call_graph=calls, example_inputs=source.example_inputs,
            constants=constants, verifiers=source.verifiers,
        )  # fmt: skip


def rename(program: Program, node: fx.Node, name: str) -> None:
    """Give `node` the name of one that has been erased (edges are known by these names)."""
    for spec in program.outputs:
        if getattr(spec.arg, "name", None) == node.name:
            spec.arg = TensorArgument(name=name)
    node.name = name


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operator by the names its schema gives them, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(i): value for i, value in enumerate(node.args)} | dict(node.kwargs)
    schema = node.target._schema.arguments
    given = dict(zip((argument.name for argument in schema), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Change one argument of an operator, by the name its schema gives it."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    position = names.index(name)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)


def nodes_in(value: Any) -> Iterable[fx.Node]:
    """The nodes within an argument, in order, a repeated one as often as it is there."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from nodes_in(item)
    elif isinstance(value, slice):
        yield from nodes_in((value.start, value.stop, value.step))


def is_getitem(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem


def _is_effect(node: fx.Node) -> bool:
    """Checks and other operators that are there for what they do, not for what they return."""
    name = str(node.target)
    return name.startswith(("aten._assert", "aten.sym_constrain_range", "<built-in function _assert")) or "_assert_scalar" in name


def _fake_mode(exported: ExportedProgram) -> FakeTensorMode:
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and hasattr(value, "fake_mode"):
            mode = value.fake_mode
            assert isinstance(mode, FakeTensorMode)
            return mode
    return FakeTensorMode(allow_non_fake_inputs=True)
