"""Run a program once, segment by segment, on all batches at each, with weights that may change on the way.

A segment is what must be computed for the next value that is asked for; ONNX Runtime runs each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import onnx

from modelkit.core.forms import Array
from modelkit.core.model import Feeds

from .program import Program, leading_to, reads
from .session import Session, return_memory


def walk(
    program: Program, batches: Sequence[Feeds], stops: Sequence[str], written: Callable[[Program], Program]
) -> Iterator[tuple[str, list[Array]]]:
    """Stop at each of the values named in `stops`, which come in the order of the program. `written` applies the changes made
    so far to a part of the program."""
    held: list[dict[str, Array]] = [{name: batch[name] for name in program.inputs if name in batch} for batch in batches]
    known = set(program.inputs)
    for index, stop in enumerate(stops):
        if stop not in known:
            nodes = _segment(program, [stop], known)
            later = _segment(program, stops[index + 1 :], known | {name for node in nodes for name in node.output})
            wanted = {name for node in later for name in reads(node)} | set(stops)
            outputs = [name for node in nodes for name in node.output if name in wanted and name not in program.constants]
            _run(written(_part(program, nodes, outputs, held[0])), outputs, held)
            known.update(outputs)
        found = [values[stop] for values in held]
        ahead = {name for node in _segment(program, stops[index + 1 :], known) for name in reads(node)} | set(stops[index + 1 :])
        for values in held:
            for name in [name for name in values if name not in ahead]:
                del values[name]
        yield stop, found
        del found


def _segment(program: Program, outputs: Sequence[str], known: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that compute `outputs` from the values `known`."""
    return leading_to(outputs, program.nodes, known)[0]


def _part(program: Program, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], held: Mapping[str, Array]) -> Program:
    """These nodes as a program whose inputs are the values held."""
    structure = onnx.ModelProto()
    structure.CopyFrom(program.structure)
    needed = {name for node in nodes for name in reads(node)}
    structure.graph.ClearField("input")
    structure.graph.ClearField("output")
    for name, value in held.items():
        if name in needed:
            structure.graph.input.add(name=name).type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    structure.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return Program(structure, tuple(nodes), program.tensors, program.opaque)


def _run(part: Program, outputs: Sequence[str], held: list[dict[str, Array]]) -> None:
    session = Session(part, outputs)
    for values in held:
        values.update(session.run({name: values[name] for name in part.inputs}))
    del session
    return_memory()
