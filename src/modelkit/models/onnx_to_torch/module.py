"""The torch module that carries out a plan: torch.export traces it node by node."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from .evaluate import evaluate
from .node import Node
from .plan import Constant, Plan
from .values import Host, Value, dtype_of, tensor_of, to_host, to_tensor


class OnnxModule(torch.nn.Module):
    """An ONNX graph as a module. Parameters and buffers carry the initializers' names; forward's arguments are `arguments`.

    `inputs` are the ONNX input names in order, `arguments` the Python identifiers standing for them. forward returns the
    outputs as a tuple, a single one bare.
    """

    def __init__(self, plan: Plan, inputs: Sequence[str], arguments: Sequence[str]) -> None:
        super().__init__()
        self._plan = plan
        self._inputs = list(inputs)
        registered: set[str] = set()
        for part in plan.walk():
            for constant in part.constants.values():
                if constant.fqn not in registered:
                    registered.add(constant.fqn)
                    self._register_constant(constant)

        def forward(*tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
            return self._run(tensors)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(a, kind) for a in arguments])  # type: ignore[attr-defined]
        self.forward = forward

    def _register_constant(self, constant: Constant) -> None:
        *path, leaf = constant.fqn.split(".")
        owner: torch.nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner.get_submodule(part)
        tensor = tensor_of(constant.array)
        if constant.is_parameter and tensor.is_floating_point():
            owner.register_parameter(leaf, torch.nn.Parameter(tensor))
        else:
            owner.register_buffer(leaf, tensor)

    def _tensor(self, fqn: str) -> torch.Tensor:
        path, _, leaf = fqn.rpartition(".")
        tensor = getattr(self.get_submodule(path), leaf)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def _run(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, ...]:
        given = dict(zip(self._inputs, tensors, strict=True))
        results = [to_tensor(value) for value in self._carry_out(self._plan, dict(given))]
        held = {id(tensor) for tensor in (*tensors, *self.parameters(), *self.buffers())}
        outputs = tuple(result.clone() if id(result) in held else result for result in results)
        return outputs if len(outputs) > 1 else outputs[0]

    def _carry_out(self, plan: Plan, known: dict[str, Value]) -> list[Value]:
        for name, constant in plan.constants.items():
            known[name] = Host(constant.array, dtype_of(constant.array), self._tensor(constant.fqn))
        for node in plan.nodes:
            values = [known[name] if name else None for name in node.inputs]
            results = self._branch(plan, node, values, known) if node.operator == "If" else evaluate(node, values)
            known.update((name, result) for name, result in zip(node.outputs, results, strict=False) if name)
        return [known[name] for name in plan.outputs]

    def _branch(self, plan: Plan, node: Node, values: list[Value], known: dict[str, Value]) -> list[Value]:
        if not isinstance(values[0], Host):
            raise node.refuse("its condition depends on the data", "Export the model with the condition fixed.")
        taken = "then_branch" if bool(to_host(values[0]).reshape(-1)[0]) else "else_branch"
        return self._carry_out(plan.branches[node.name, taken], dict(known))
