"""Running a program, or a few of its nodes, in ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Feeds

from .program import Program, leading_to
from .tensors import Tensor, forget

# Smaller tensors stay in the model's bytes: shape inference reads their values, and a view each would be a waste.
_INLINE_BYTES = 1024
_M_MMAP_THRESHOLD, _BIG_BLOCK = -3, 1 << 20  # malloc.h


class Session:
    """A program made ready to run. Its big tensors are not copied into a message: the runtime reads them from the file that they
    lie in, or is given the arrays. (A model of 400 MB then takes 410 MB; as one message it takes 1000.)

    alike: all batches have one size, so the runtime may keep its blocks for the next: it would keep the peak of each size."""

    def __init__(self, program: Program, outputs: Sequence[str], optimise: bool = True, alike: bool = False) -> None:
        import onnxruntime as ort

        model, given, folder = _message(program, outputs)
        self._held = [np.require(tensor.array(), requirements=("C", "A")) for tensor in given.values()]
        forget(tensor.raw for tensor in program.tensors.values() if tensor.place)  # the runtime has its own copy from here on
        levels = ort.GraphOptimizationLevel
        # At the highest level its convolutions in blocks may lose a value that is asked for, where widths are no multiple of one.
        for level in (levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_EXTENDED) if optimise else (levels.ORT_DISABLE_ALL,):
            options = ort.SessionOptions()
            options.enable_cpu_mem_arena = alike
            options.enable_mem_pattern = False
            options.log_severity_level = 4
            # Threads that spin between batches only burn what reading and counting the values could use.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.graph_optimization_level = level
            if given:
                options.add_external_initializers(list(given), [ort.OrtValue.ortvalue_from_numpy(held) for held in self._held])
            if folder:
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            try:
                self._session = ort.InferenceSession(
                    model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
                )
                break
            except Exception as error:  # the runtime's exceptions share no base class of their own
                failure = error
        else:
            raise ModelkitError(
                f"ONNX Runtime can't run the model: {_reason(failure)}.",
                "Check that its operators are ones that ONNX Runtime's CPU provider has.",
            ) from failure
        self.outputs = list(outputs)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            return dict(zip(self.outputs, self._session.run(self.outputs, dict(feeds)), strict=True))
        except Exception as error:
            raise ModelkitError(
                f"The model does not run on these inputs: {_reason(error)}.",
                "Check their names, shapes and types; --input states sizes that the file leaves open.",
            ) from error


def observe(
    program: Program, batches: Iterable[Feeds], edges: Sequence[str], optimise: bool = True
) -> Iterator[dict[str, Array]]:
    """For each batch, the values of `edges` (which may be model inputs)."""
    fed = [edge for edge in edges if edge in program.inputs]
    session = Session(program, [edge for edge in edges if edge not in program.inputs], optimise, alike=True)
    try:
        for batch in batches:
            values = session.run(batch)
            values.update((edge, batch[edge]) for edge in fed)
            yield values
            del values  # before the next batch is computed
    finally:
        del session
        return_memory()


def segment(program: Program, given: Mapping[str, str], wanted: Sequence[str]) -> Callable[[Feeds], dict[str, Array]]:
    """What computes `wanted` from the values of the edges `given` (with their types), and of model inputs where those lead to
    it in another way."""
    ends = [edge for edge in wanted if edge not in given]
    nodes, read = leading_to(ends, program.nodes, given)
    made = {name for node in nodes for name in node.output}
    declared = {value.name: value for value in program.structure.graph.input}
    fed = [edge for edge in (*given, *program.inputs) if edge in read and edge not in made]
    structure = onnx.ModelProto()
    structure.CopyFrom(program.structure)
    structure.graph.ClearField("value_info")  # a shape inferred for one batch size would be held against another
    structure.graph.ClearField("input")
    structure.graph.input.extend(declared.get(edge) or _value(edge, given[edge]) for edge in dict.fromkeys(fed))
    tensors = {name: tensor for name, tensor in program.tensors.items() if name in read}
    session = Session(Program(structure, tuple(nodes), tensors, program.opaque), ends) if ends else None

    def run(values: Feeds) -> dict[str, Array]:
        found = session.run({edge: values[edge] for edge in fed}) if session else {}
        return {edge: found[edge] if edge in found else values[edge] for edge in wanted}

    return run


def _value(edge: str, dtype: str) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.BFLOAT16 if dtype == "bfloat16" else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(edge, kind, None)


def return_memory() -> None:
    """Give what the runtime has freed back to the system: glibc would keep it, several times the model's size."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_big_blocks_at_once() -> None:
    """Let glibc map every activation by itself: it learns to keep blocks of the sizes that it sees freed, and the peak of a run
    is then twice that of the values alive. (Mapping each anew takes time: only big ones, where all values of a run are kept.)"""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_M_MMAP_THRESHOLD, _BIG_BLOCK)


def run_nodes(
    program: Program, nodes: Sequence[onnx.NodeProto], feeds: Mapping[str, Array], outputs: Sequence[str]
) -> list[Array]:
    """Compute `outputs` with some of the program's nodes from `feeds`, which stand for all that they read."""
    structure = onnx.ModelProto(ir_version=program.structure.ir_version, opset_import=program.structure.opset_import)
    structure.graph.name = "part"
    part = Program(structure, tuple(nodes), {name: Tensor.of(array) for name, array in feeds.items()})
    values = Session(part, outputs, optimise=False).run({})
    return [values[name] for name in outputs]


def _message(program: Program, outputs: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, Tensor], str]:
    """The program with these outputs as a message; the tensors that must be given beside it; and the folder where it says that
    the others lie."""
    model = onnx.ModelProto()
    model.CopyFrom(program.structure)
    model.graph.node.extend(program.nodes)
    declared = {value.name: value for value in program.structure.graph.output}
    model.graph.ClearField("output")
    model.graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    given = {}
    folder = _common_folder(program.tensors.values())
    for name, tensor in program.tensors.items():
        if tensor.nbytes < _INLINE_BYTES or tensor.dtype.name not in _NUMPY_NATIVE:
            model.graph.initializer.append(tensor.proto(name))
            continue
        header = tensor.header(name)
        header.data_location = onnx.TensorProto.EXTERNAL
        location, offset = "memory", 0
        if folder and tensor.place and tensor.place.unchanged:
            location, offset = os.path.relpath(tensor.place.file, folder), tensor.place.offset
        else:
            given[name] = tensor
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(tensor.nbytes))):
            header.external_data.add(key=key, value=value)
        model.graph.initializer.append(header)
    return model, given, folder


def _common_folder(tensors: Iterable[Tensor]) -> str:
    folders = {str(tensor.place.file.parent) for tensor in tensors if tensor.place}
    return os.path.commonpath(folders) if folders else ""


_NUMPY_NATIVE = frozenset(
    ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split("] : ", 1)[-1].strip().rstrip(".")[:300]
