"""Linear layers with 2:4 sparse weights on CUDA's sparse matrix units, through torch's cuSPARSELt operators.

They multiply half-precision weights of which at most two of four neighbours are kept. Their kernels are set up anew at each call,
which takes the CPU about a millisecond; captured in a CUDA graph that is gone, so `compile` uses them where they are faster.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx

_TYPES = (torch.float16, torch.bfloat16)
_WIDTH, _ROWS = 32, 8  # what cuSPARSELt wants the sizes to be multiples of


def semi_structured(module: fx.GraphModule) -> fx.GraphModule | None:
    """A copy of a program's module whose 2:4 linear layers run on compressed weights; None where it has none. The module, which
    must be on a CUDA device, reads its weights with get_attr nodes, dense or decoded by operators."""
    changed = copy.copy(module)
    changed.graph = copy.deepcopy(module.graph)
    found = 0
    for node in list(changed.graph.nodes):
        if node.target is not torch.ops.aten.linear.default:
            continue
        x, weight, *bias = node.args
        value = _constant(changed, weight)
        if value is None or not is_two_of_four(value):
            continue
        name = f"_compressed_{found}"
        changed.register_buffer(name, torch._cslt_compress(value.detach().contiguous()))
        with changed.graph.inserting_before(node):
            compressed = changed.graph.get_attr(name)
            product = changed.graph.call_function(_linear, (x, compressed, *bias))
        product.meta = dict(node.meta)
        node.replace_all_uses_with(product)
        changed.graph.erase_node(node)
        found += 1
    if not found:
        return None
    changed.graph.eliminate_dead_code()
    changed.recompile()
    return changed


def is_two_of_four(weight: torch.Tensor) -> bool:
    """Whether a weight (outputs, inputs) is one that the kernels take."""
    if weight.dtype not in _TYPES or weight.dim() != 2 or any(size % _WIDTH for size in weight.shape):
        return False
    return bool(((weight != 0).reshape(-1, 4).sum(1) <= 2).all())


def _linear(x: torch.Tensor, compressed: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1])
    more = -rows.shape[0] % _ROWS
    given = torch.nn.functional.pad(rows, (0, 0, 0, more)) if more else rows
    product = torch._cslt_sparse_mm(compressed, given.t(), bias=bias).t()
    return product[: rows.shape[0]].reshape(*x.shape[:-1], product.shape[-1])


def _constant(module: fx.GraphModule, node: Any) -> torch.Tensor | None:
    """The value of a node that no input decides; None for others."""
    interpreter, known = fx.Interpreter(module), dict[fx.Node, Any]()

    def compute(node: Any) -> Any:
        if node not in known:
            values = (
                {source: compute(source) for source in node.all_input_nodes} if node.op in ("get_attr", "call_function") else None
            )
            if values is None or any(value is None for value in values.values()):
                known[node] = None
            else:
                interpreter.env = values
                known[node] = interpreter.run_node(node)
        return known[node]

    with torch.no_grad():
        found = compute(node)
    return found if isinstance(found, torch.Tensor) else None
