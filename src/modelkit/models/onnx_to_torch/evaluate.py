"""One node at a time: find its translation, hand it its inputs in the form it wants, name the node when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelkit.core.errors import ModelkitError

from .node import Node
from .registry import host_function_of, translation_of
from .values import Host, Value, to_host, to_tensor


def evaluate(node: Node, values: Sequence[Value]) -> list[Value]:
    """The outputs of a node, for real tensors (constant folding) as for fake ones (export).

    Raises ModelkitError naming the node where torch has no counterpart.
    """
    try:
        if _is_shape_arithmetic(values):
            compute = host_function_of(node.domain, node.operator)
            result = compute(node, *[v.array if isinstance(v, Host) else None for v in values]) if compute else None
            if result is not None:
                return list(result) if isinstance(result, tuple) else [result]
        return _translate(node, values)
    except ModelkitError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise node.refuse(reason) from error


def _is_shape_arithmetic(values: Sequence[Value]) -> bool:
    present = [value for value in values if value is not None]
    hosts = [value for value in present if isinstance(value, Host)]
    return bool(hosts) and len(hosts) == len(present) and any(value.tensor is None for value in hosts)


def _translate(node: Node, values: Sequence[Value]) -> list[Value]:
    translation = translation_of(node.domain, node.operator)
    if translation is None:
        raise node.refuse("it has no counterpart in modelkit's table")
    if translation.raw:
        inputs: list[Any] = list(values)
    else:
        inputs = [
            None if value is None else to_host(value) if position in translation.host else to_tensor(value)
            for position, value in enumerate(values)
        ]
    result = translation.function(node, *inputs)
    return list(result) if isinstance(result, tuple) else [result]
