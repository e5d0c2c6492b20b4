"""Which nodes lie behind a change: what they read is not as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelkit.core.graph import Graph, Node


def behind(before: Graph, after: Graph, usable: Callable[[Graph, Node], bool]) -> Iterator[Node]:
    """The usable nodes of `before` whose inputs are not as they were, when shapes of parameters are other ones in `after`, or
    nodes gone."""
    changed: set[str] = set()
    for node in before.nodes:
        now = after.by_name.get(node.name)
        same = now is not None and all(
            role in now.parameters and now.parameters[role].shape == p.shape for role, p in node.parameters.items()
        )
        if not same or not changed.isdisjoint(node.inputs):
            changed.update(node.outputs)
        if (_fewer_inputs(node, now) or not changed.isdisjoint(node.inputs[:1])) and usable(before, node):
            yield node


def _fewer_inputs(node: Node, now: Node | None) -> bool:
    if now is None or "weight" not in node.parameters or "weight" not in now.parameters:
        return False
    old, new = node.parameters["weight"].shape, now.parameters["weight"].shape
    return len(old) > 1 and old[1:2] != new[1:2]


def has_own_weight(graph: Graph, node: Node) -> bool:
    """Whether the node's weight can be set to anything, and is no other's."""
    weight = node.parameters.get("weight")
    return (
        not node.skip
        and weight is not None
        and weight.form == "dense"
        and "float" in weight.dtype
        and not graph.is_shared(weight)
    )


def can_refit(graph: Graph, node: Node) -> bool:
    """Whether least squares can fit the layer: one dense, own, constant matrix."""
    one = not node.attributes.get("transposed") and int(node.attributes.get("groups", 1)) == 1
    return node.kind in ("linear", "conv") and one and has_own_weight(graph, node)


def can_move(graph: Graph, node: Node) -> bool:
    """Whether the node's outputs can be scaled and shifted by numbers of its own: a layer's, or a batch norm's."""
    bias = node.parameters.get("bias")
    if not has_own_weight(graph, node) or (bias is not None and graph.is_shared(bias)):
        return False
    return node.kind in ("linear", "conv") or (node.kind == "norm" and node.function == "batch" and bias is not None)
