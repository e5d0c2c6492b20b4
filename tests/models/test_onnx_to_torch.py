"""ONNX → torch: every translated operator and whole networks give what ONNX Runtime gives, and the files need only torch."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.models.onnx_to_torch import program_from_onnx
from tests.architectures import ARCHITECTURES
from tests.models.onnx.grids import OLD_RUNTIME
from tests.models.onnx_operators import Case, all_cases
from tests.odd_onnx import CANNOT_RUN, ODD, write
from tests.zoo_cache import ZooCache

TOLERANCE = 1e-5
REFUSED = {  # odd models that no torch program can stand for, and the operator the error names
    "matmul_inside_if": "If",
    "matmul_inside_loop": "Loop",
    "matmul_inside_scan": "Scan",
    "string_input": "LabelEncoder",
}


def onnxruntime_outputs(model: onnx.ModelProto | Path, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, arrays))


def program_outputs(program: torch.export.ExportedProgram, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        result = program.module()(*[torch.from_numpy(np.asarray(array)) for array in arrays.values()])
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def difference(actual: np.ndarray, expected: np.ndarray) -> str | None:
    """What differs, or None."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype} {actual.shape} instead of {expected.dtype} {expected.shape}"
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(e[np.isfinite(e)])
    if np.allclose(a, e, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, finite.max(initial=0.0)), equal_nan=True):
        return None
    return f"off by {np.nanmax(np.abs(a - e))}"


def merged(cases: list[Case]) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[str]]:
    """Many one-node models as one, since an export takes longer than a node. Also which case each output belongs to."""
    graph, arrays, owners = onnx.GraphProto(name="cases"), {}, []
    for number, case in enumerate(cases):
        model, inputs = case.model()
        model = onnx.compose.add_prefix(model, f"c{number}_")
        for value in model.graph.input:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    dimension.dim_param = f"N{number}"
        for field in ("node", "input", "output", "initializer"):
            getattr(graph, field).extend(getattr(model.graph, field))
        arrays |= {f"c{number}_{name}": array for name, array in inputs.items()}
        owners += [f"{case.name} output {position}" for position in range(case.outputs)]
    opsets = [helper.make_opsetid("", cases[0].opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), arrays, owners


def case_groups() -> list[list[Case]]:
    by_opset = sorted(all_cases(), key=lambda case: case.opset)
    groups = [list(cases) for _, cases in groupby(by_opset, key=lambda case: case.opset)]
    return [group[start : start + 40] for group in groups for start in range(0, len(group), 40)]


@pytest.mark.parametrize(
    "cases", case_groups(), ids=lambda cases: f"{cases[0].operator}-to-{cases[-1].operator}-{cases[0].opset}"
)
def test_operators_give_what_onnxruntime_gives(cases: list[Case]) -> None:
    if OLD_RUNTIME:  # can't run these itself
        cases = [case for case in cases if "noop_with_empty_axes" not in case.attributes]
    model, arrays, owners = merged(cases)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)  # all the open dimensions stay open
        program = program_from_onnx(model, Path(), arrays)
    pairs = zip(owners, program_outputs(program, arrays), onnxruntime_outputs(model, arrays), strict=True)
    wrong = {owner: difference(actual, expected) for owner, actual, expected in pairs}
    assert not {owner: what for owner, what in wrong.items() if what}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_networks_round_trip_at_other_batch_sizes(name: str, zoo: ZooCache) -> None:
    path = zoo.onnx(name, external_data=True)
    arrays, _ = zoo.arrays(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        program = program_from_onnx(onnx.load(path, load_external_data=False), path.parent, arrays)
    batches = [arrays]
    if ARCHITECTURES[name].dynamic:
        batches.append({key: value.numpy() for key, value in ARCHITECTURES[name].example(5).items()})
    for batch in batches:
        for actual, expected in zip(program_outputs(program, batch), onnxruntime_outputs(path, batch), strict=True):
            assert difference(actual, expected) is None


@pytest.mark.parametrize("name", ODD)
def test_odd_models(name: str, tmp_path: Path) -> None:
    model, arrays = ODD[name]()
    path = tmp_path / "model.onnx"
    write(model, path)
    proto = onnx.load(path, load_external_data=False)
    if next(opset.version for opset in proto.opset_import if opset.domain == "") < 13:
        proto = onnx.version_converter.convert_version(onnx.load(path), 17)
    if name in REFUSED:
        with pytest.raises(ModelkitError, match=REFUSED[name]):
            program_from_onnx(proto, tmp_path, arrays)
        return
    program = program_from_onnx(proto, tmp_path, arrays)
    if name in CANNOT_RUN:
        return
    tolerance = 2e-3 if name == "float16" else TOLERANCE
    for actual, expected in zip(program_outputs(program, arrays), onnxruntime_outputs(path, arrays), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str] | None], outputs: list[str], **constants: np.ndarray
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    initializers = [numpy_helper.from_array(array, name.replace("__", ".")) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values, [onnx.ValueInfoProto(name=name) for name in outputs], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_saved_programs_load_where_only_torch_is_imported(zoo: ZooCache, tmp_path: Path) -> None:
    sources = {name: (onnx.load(zoo.onnx(name)), zoo.arrays(name)[0]) for name in ("lstm_speech", "dlrm")}
    sources |= {name: ODD[name]() for name in ("qdq", "qdq_int4_blocks", "dynamic_int8", "matmul_nbits")}
    for name, (model, arrays) in sources.items():
        torch.export.save(program_from_onnx(model, tmp_path, arrays), tmp_path / f"{name}.pt2")
        torch.save([torch.from_numpy(a) for a in arrays.values()], tmp_path / f"{name}.in")
        torch.save([torch.from_numpy(a) for a in onnxruntime_outputs(model, arrays)], tmp_path / f"{name}.out")
    script = f"""
import torch
for name in {list(sources)!r}:
    y = torch.export.load(name + ".pt2").module()(*torch.load(name + ".in"))
    for a, b in zip(y if isinstance(y, tuple) else (y,), torch.load(name + ".out"), strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max())))
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_names_lead_from_initializers_to_parameters() -> None:
    nodes = [
        helper.make_node("MatMul", ["in put", "encoder.0.weight"], ["h"]),
        helper.make_node("Add", ["h", "encoder.0.bias"], ["a"]),
        helper.make_node("MatMul", ["a", "onnx::MatMul_7"], ["y"]),
    ]
    model = model_of(nodes, {"in put": ["N", 3]}, ["y"], encoder__0__weight=floats(3, 4), encoder__0__bias=floats(4))
    model.graph.initializer.append(numpy_helper.from_array(floats(4, 2), "onnx::MatMul_7"))
    program = program_from_onnx(model, Path())
    names = program.graph_module.meta["onnx_names"]
    assert names == {
        "encoder.0.weight": "encoder.0.weight",
        "encoder.0.bias": "encoder.0.bias",
        "onnx::MatMul_7": "onnx__MatMul_7",
    }
    assert set(names.values()) == set(dict(program.named_parameters()))
    assert program.graph_module.meta["onnx_inputs"] == {"in put": "in_put"}
    assert program.graph_module.meta["onnx_outputs"] == ["y"]
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["aten.linear.default"] * 2, "a product with its bias is one linear layer"


def test_sequence_length_of_an_lstm_stays_open() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h", "c"], hidden_size=5, direction="bidirectional")
    model = model_of([node], {"x": ["T", "N", 4]}, ["y", "h", "c"], w=floats(2, 20, 4), r=floats(2, 20, 5))
    program = program_from_onnx(model, Path())
    for steps, batch in ((3, 2), (9, 5)):
        arrays = {"x": floats(steps, batch, 4)}
        for actual, expected in zip(program_outputs(program, arrays), onnxruntime_outputs(model, arrays), strict=True):
            assert difference(actual, expected) is None


def test_shapes_computed_in_the_graph_stay_open() -> None:
    """The expand and reshape idioms of older exporters: shapes taken apart, computed with and put together again."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Gather", ["s", "one"], ["t"]),
        helper.make_node("Mul", ["n", "t"], ["nt"]),
        helper.make_node("Unsqueeze", ["nt", "axis"], ["nt1"]),
        helper.make_node("Concat", ["nt1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Shape", ["s"], ["rank"]),
        helper.make_node("ConstantOfShape", ["rank"], ["ones"], value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        helper.make_node("Mul", ["ones", "minus"], ["minuses"]),
        helper.make_node("Equal", ["s", "minuses"], ["open"]),
        helper.make_node("Where", ["open", "ones", "s"], ["wanted"]),
        helper.make_node("Expand", ["table", "wanted"], ["spread"]),
        helper.make_node("Range", ["zero", "t", "one"], ["positions"]),
        helper.make_node("Cast", ["positions"], ["p"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["p", "axis1"], ["column"]),
        helper.make_node("Add", ["spread", "column"], ["moved"]),
        helper.make_node("Add", ["x", "moved"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "one": np.int64(1), "axis": np.array([0]), "axis1": np.array([1]), "minus": np.array([-1])}
    model = model_of(
        nodes, {"x": ["N", "T", 4]}, ["flat", "y"], table=floats(4), **{k: np.asarray(v) for k, v in constants.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        program = program_from_onnx(model, Path())
    for shape in ((2, 3, 4), (5, 7, 4)):
        for actual, expected in zip(
            program_outputs(program, {"x": floats(*shape)}), onnxruntime_outputs(model, {"x": floats(*shape)}), strict=True
        ):
            assert difference(actual, expected) is None


def test_weights_keep_their_bits() -> None:
    quantised = {
        "w8": numpy_helper.from_array(np.arange(-8, 8, dtype=np.int8).reshape(4, 4), "w8"),
        "w4": helper.make_tensor("w4", TensorProto.INT4, [4, 4], list(range(-8, 8))),
    }
    nodes, outputs = [], []
    for name in quantised:
        nodes += [
            helper.make_node("DequantizeLinear", [name, "s"], [f"{name}d"]),
            helper.make_node("MatMul", ["x", f"{name}d"], [f"y{name}"]),
        ]
        outputs.append(f"y{name}")
    model = model_of(nodes, {"x": ["N", 4]}, outputs, s=np.float32(0.1))
    model.graph.initializer.extend(quantised.values())
    program = program_from_onnx(model, Path())
    assert program.state_dict["w8"].dtype == torch.int8 and program.state_dict["w8"].numel() == 16
    assert program.state_dict["w4"].dtype == torch.uint8 and program.state_dict["w4"].numel() == 8, "two to a byte"
    first, second = program_outputs(program, {"x": floats(3, 4)})
    np.testing.assert_array_equal(first, second)


def branching(condition: str) -> onnx.ModelProto:
    branches = {
        key: helper.make_graph([helper.make_node(operator, ["x"], [f"{key}_y"])], key, [], [onnx.ValueInfoProto(name=f"{key}_y")])
        for key, operator in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Greater", ["n", "zero"], ["by_shape"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "nought"], ["by_data"]),
        helper.make_node("If", [condition], ["y"], **branches),
    ]
    constants = {"zero": np.asarray(0), "nought": np.asarray(0, np.float32), "false": np.asarray(False)}
    return model_of(nodes, {"x": ["N", 4]}, ["y"], **constants)


@pytest.mark.parametrize("condition", ["by_shape", "false"])
def test_a_branch_that_is_known_is_taken(condition: str) -> None:
    arrays = {"x": floats(3, 4)}
    (actual,) = program_outputs(program_from_onnx(branching(condition), Path()), arrays)
    np.testing.assert_array_equal(actual, onnxruntime_outputs(branching(condition), arrays)[0])


def test_a_branch_chosen_by_data_is_refused() -> None:
    with pytest.raises(ModelkitError, match="If.*depends on the data"):
        program_from_onnx(branching("by_data"), Path())


def test_unknown_operators_are_named() -> None:
    model = model_of([helper.make_node("NonMaxSuppression", ["x", "x"], ["y"], name="nms")], {"x": [1, 2, 4]}, ["y"])
    with pytest.raises(ModelkitError, match=r"NonMaxSuppression \(node nms\)"):
        program_from_onnx(model, Path())


def test_an_old_opset_says_how_to_convert() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N"]}, ["y"])
    model.opset_import[0].version = 9
    with pytest.raises(ModelkitError, match="opset 9.*version_converter"):
        program_from_onnx(model, Path())


def test_an_input_of_unknown_shape_needs_an_example() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": None}, ["y"])
    with pytest.raises(ModelkitError, match="--input x"):
        program_from_onnx(model, Path())
    assert program_outputs(program_from_onnx(model, Path(), {"x": floats(2, 3)}), {"x": floats(2, 3)})[0].shape == (2, 3)


def test_a_size_that_must_be_fixed_is_named() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = model_of(nodes, {"x": ["N", 6]}, ["y"], shape=np.array([4, 3]))
    with pytest.warns(InputWarning, match="x dimension 0 is fixed at 2"):
        program_from_onnx(model, Path())


def test_sizes_that_must_be_known_are_asked_for() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = model_of(nodes, {"x": ["N", "T"]}, ["y"], shape=np.array([7, 3]))
    with pytest.raises(ModelkitError, match="Reshape.*--input x"):
        program_from_onnx(model, Path())
    assert program_outputs(program_from_onnx(model, Path(), {"x": floats(3, 7)}), {"x": floats(3, 7)})[0].shape == (7, 3)


def test_an_example_of_one_sample_leaves_the_batch_open() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"])
    program = program_from_onnx(model, Path(), {"x": floats(1, 4)})
    assert program_outputs(program, {"x": floats(5, 4)})[0].shape == (5, 4)
