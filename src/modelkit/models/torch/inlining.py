"""Take regions without gradients, and those where autocast is switched off, out of their wrapper operators.

torch.export wraps them when it is not itself called under no_grad (the rotary embedding of a transformer is one); the layers
inside would not be seen.
"""

from __future__ import annotations

import operator

from torch import fx

from .program import Program


def inline_regions(program: Program) -> None:
    """Put the bodies of such wrappers in their places."""
    while True:
        found = [node for node in program.graph.nodes if _body(program, node) is not None]
        if not found:
            return
        for node in found:
            _inline(program, node)


def _body(program: Program, node: fx.Node) -> fx.GraphModule | None:
    """The graph inside a wrapper that changes nothing of what is computed."""
    if node.op != "call_function":
        return None
    name = getattr(node.target, "__name__", "")
    if name == "wrap_with_set_grad_enabled":
        position = 1
    elif name == "wrap_with_autocast" and node.args[2] is False:
        position = 4
    else:
        return None
    holder = node.args[position]
    body = getattr(program.source.graph_module, str(holder.target), None) if isinstance(holder, fx.Node) else None
    if not isinstance(body, fx.GraphModule) or any(inner.op in ("get_attr", "call_module") for inner in body.graph.nodes):
        return None  # What it refers to is only known by its own names.
    return body


def _inline(program: Program, node: fx.Node) -> None:
    body = _body(program, node)
    assert body is not None
    placeholders = [inner for inner in body.graph.nodes if inner.op == "placeholder"]
    given = node.args[len(node.args) - len(placeholders) :]
    mapping: dict[fx.Node, fx.Node] = dict(zip(placeholders, given, strict=True))  # type: ignore[arg-type]
    with program.graph.inserting_before(node):
        results = program.graph.graph_copy(body.graph, mapping)
    assert isinstance(results, tuple | list)
    for user in list(node.users):
        if user.target is operator.getitem:
            result = results[_index(user.args[1])]
            assert isinstance(result, fx.Node)
            program.replace_uses(user, result)
            program.graph.erase_node(user)
    program.graph.erase_node(node)


def _index(value: object) -> int:
    assert isinstance(value, int)
    return value
