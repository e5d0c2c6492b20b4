"""Loops that reduce a table segment by segment: how embedding bags come out of torch's ONNX exporter.

The body takes rows offsets[i] … offsets[i + 1] of a table, reduces them (zeros where there are none) and appends the result
to a sequence. That is one scatter in torch, for any number of segments.
"""

from __future__ import annotations

import onnx

from .node import Node

_REDUCTIONS = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "amax", "ReduceMin": "amin"}


def as_segment_reduction(node: Node) -> Node | None:
    """The node SegmentReduce(table, offsets) that a Loop amounts to, or None. Its first output is a sequence of one tensor."""
    body = node.graphs.get("body")
    if node.operator != "Loop" or body is None or len(node.inputs) != 4 or len(body.output) != 3:
        return None
    made_by = {output: inner for inner in body.node for output in inner.output}
    # The sequence and the counter are carried in either order: the exporter takes them from a set.
    carried = (1, 2) if getattr(made_by.get(body.output[1].name), "op_type", "") == "SequenceInsert" else (2, 1)
    sequence, counter = (body.input[place + 1].name for place in carried)
    append = made_by.get(body.output[carried[0]].name)
    if append is None or append.op_type != "SequenceInsert" or append.input[0] != sequence or len(append.input) != 2:
        return None
    choice = made_by.get(append.input[1])
    equal = made_by.get(choice.input[0]) if choice is not None and choice.op_type == "If" else None
    if choice is None or equal is None or equal.op_type != "Equal":
        return None
    filled = next(attribute.g for attribute in choice.attribute if attribute.name == "else_branch")
    if len(filled.node) != 2 or filled.node[0].op_type != "Slice" or filled.node[1].op_type not in _REDUCTIONS:
        return None
    rows, reduction = filled.node
    if list(rows.input[1:3]) != list(equal.input) or reduction.input[0] != rows.output[0]:
        return None
    start, end = (made_by.get(name) for name in equal.input)
    if start is None or end is None or {start.op_type, end.op_type} != {"Slice"} or start.input[0] != end.input[0]:
        return None
    if not _steps_by_one(start, end, made_by, counter):
        return None
    attributes = {"reduce": _REDUCTIONS[reduction.op_type]}
    outputs = [node.outputs[place - 1] for place in carried if place <= len(node.outputs)]
    return Node("SegmentReduce", "modelkit", node.name, [rows.input[0], start.input[0]], outputs, node.opset, attributes)


def _steps_by_one(start: onnx.NodeProto, end: onnx.NodeProto, made_by: dict[str, onnx.NodeProto], counter: str) -> bool:
    """Whether the segment begins at offsets[counter] and ends at the next: the end's slice begins where the start's stops."""
    position = made_by.get(start.input[1])
    places = [made_by.get(end.input[1]), made_by.get(start.input[2])]
    if position is None or counter not in position.input:
        return False
    return all(place is not None and place.op_type == "Add" and start.input[1] in place.input for place in places)
