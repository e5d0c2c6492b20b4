"""Opening and saving ONNX files: what is accepted, what is told, and that nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.forms import Dense
from modelkit.core.model import Preprocessing
from modelkit.models.onnx import opening, rewiring, saving
from modelkit.models.onnx.model import OnnxModel
from tests.models.onnx.grids import outputs, outputs_of_file, quantized, relative_error

RNG = np.random.default_rng(2)


def two_layers(width: int = 64, **given: object) -> onnx.ModelProto:
    weights = {"a.weight": (8, width), "a.bias": (width,), "b.weight": (width, 4)}
    nodes = [helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["h"]), helper.make_node("MatMul", ["h", "b.weight"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 8), ("y", 4))]
    tensors = [numpy_helper.from_array(RNG.standard_normal(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **given)


X = {"x": RNG.standard_normal((3, 8), np.float32)}


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model with its data in a second file, in a folder of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(two_layers(), folder / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    return folder / "m.onnx"


def test_external_data_from_another_working_directory(external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for path in (external, Path("..") / "models" / "m.onnx"):
        model = OnnxModel.open(path)
        expected = outputs_of_file(external, X)
        assert relative_error(outputs(model, X), expected) < 1e-6
        assert [file.name for file in model.files()] == ["m.onnx", "m.onnx.data"]
    model.save(external.with_name("copy.onnx"))
    assert external.with_name("copy.onnx.data").exists()
    assert relative_error(outputs_of_file(external.with_name("copy.onnx"), X), expected) == 0
    model.set_parameter("a", "weight", quantized(model.parameter("a", "weight")))
    model.save(elsewhere / "quantised.onnx")
    assert relative_error(outputs(OnnxModel.open(elsewhere / "quantised.onnx"), X), outputs(model, X)) == 0


def test_nodes_taken_out_leave_the_data_outside(external: Path) -> None:
    program = opening.load(external)
    fewer = rewiring.without(program, [program.nodes[0].name])
    assert len(fewer.nodes) == 1 and fewer.data_files == program.data_files != ()


def test_linked_files_and_files_replaced_since(external: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for file in external.parent.iterdir():
        (links / file.name).symlink_to(file)
    model = OnnxModel.open(links / external.name)
    expected = outputs(model, X)
    assert relative_error(expected, outputs_of_file(external, X)) < 1e-6
    data = external.with_name("m.onnx.data")
    data.rename(external.with_name("old"))
    data.write_bytes(bytes(data.with_name("old").stat().st_size))
    assert relative_error(outputs(model, X), expected) == 0, "what was opened counts, not what stands there now"


def test_weights_stay_in_the_mapped_file(external: Path) -> None:
    model = OnnxModel.open(external)
    weight = model.parameter("b", "weight")
    assert isinstance(weight.base, np.ndarray) and not weight.flags.owndata and not weight.flags.writeable


def test_what_is_saved_is_what_onnx_reads(tmp_path: Path) -> None:
    proto = two_layers(producer_name="somebody", doc_string="words")
    proto.metadata_props.add(key="theirs", value="kept")
    onnx.save(proto, tmp_path / "m.onnx")
    OnnxModel.open(tmp_path / "m.onnx").save(tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    onnx.checker.check_model(again, full_check=True)
    assert (again.producer_name, again.doc_string, again.metadata_props[0].value) == ("somebody", "words", "kept")
    assert again.graph.input == proto.graph.input and again.graph.output == proto.graph.output
    for ours, theirs in zip(again.graph.initializer, proto.graph.initializer, strict=True):
        assert ours.name == theirs.name and ours.raw_data == theirs.raw_data and ours.dims == theirs.dims


def test_too_much_for_one_message_goes_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(two_layers(width=256), tmp_path / "m.onnx")
    monkeypatch.setattr(saving, "_INSIDE_LIMIT", 1000)
    OnnxModel.open(tmp_path / "m.onnx").save(tmp_path / "big.onnx")
    assert (tmp_path / "big.onnx").stat().st_size < 3000 < (tmp_path / "big.onnx.data").stat().st_size
    assert relative_error(outputs_of_file(tmp_path / "big.onnx", X), outputs_of_file(tmp_path / "m.onnx", X)) == 0


def test_provenance_travels_in_the_file(tmp_path: Path) -> None:
    model = OnnxModel.from_proto(two_layers(), tmp_path / "m.onnx", tmp_path)
    model.provenance.history.append({"pass": "quantize.rtn", "options": {"bits": 8}})
    model.provenance.preprocessing = Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    model.set_parameter("a", "weight", quantized(model.parameter("a", "weight"), 4))
    model.save(tmp_path / "m.onnx")
    again = OnnxModel.open(tmp_path / "m.onnx")
    assert again.provenance == model.provenance
    assert again.provenance.forms == {"a": "int4 per-channel"}
    again.set_parameter("a", "weight", Dense(again.parameter("a", "weight")))
    assert again.provenance.forms == {}


def broken(name: str, tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    whole = two_layers().SerializeToString()
    contents = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"this is no model\n" * 20,
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        "zeros": bytes(4096),
        "no graph": onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]).SerializeToString(),
    }
    if name == "folder":
        path.mkdir()
    elif name in contents:
        path.write_bytes(contents[name])
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("truncated", "is not a whole ONNX file"),
        ("text", "is not an ONNX model"),
        ("pickle", "is not"),
        ("zeros", "is not"),
        ("no graph", "is not an ONNX model"),
    ],
)
def test_what_is_no_model_is_told(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelkitError, match=message):
        OnnxModel.open(broken(name, tmp_path))


def test_every_truncation_is_told(tmp_path: Path) -> None:
    whole = two_layers().SerializeToString()
    for length in range(1, len(whole), 37):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelkitError):
            OnnxModel.open(tmp_path / "m.onnx")


def test_data_that_is_missing_short_or_elsewhere_is_told(external: Path) -> None:
    data = external.with_name("m.onnx.data")
    whole = data.read_bytes()
    data.write_bytes(whole[:100])
    with pytest.raises(ModelkitError, match="too short"):
        OnnxModel.open(external)
    data.unlink()
    with pytest.raises(ModelkitError, match="m.onnx.data, which does not exist"):
        OnnxModel.open(external)
    proto = onnx.load(external, load_external_data=False)
    for location in ("../secret", "/etc/passwd"):
        proto.graph.initializer[0].external_data[0].value = location
        onnx.save(proto, external)
        with pytest.raises(ModelkitError, match="outside of its own folder"):
            OnnxModel.open(external)


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    proto = two_layers()
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "FancyMatMul", "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelkitError, match="operator 'FancyMatMul' of the domain 'com.example'"):
        OnnxModel.from_proto(proto, tmp_path / "m.onnx", tmp_path)


def test_wrong_inputs_are_told() -> None:
    model = OnnxModel.from_proto(two_layers(), Path("m.onnx"), Path("."))
    with pytest.raises(ModelkitError, match="does not run on these inputs"):
        outputs(model, {"x": X["x"][:, :5]})


@pytest.mark.filterwarnings("ignore:x. the file leaves")
def test_open_dimensions_are_bound_or_assumed(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3, "h", "w"]) for name in "xy"]
    proto = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.warns(InputWarning, match="'h' open; 224 is assumed"):
        assert OnnxModel.open(tmp_path / "m.onnx").graph.shape("y") == (1, 3, 224, 224)
    bound = OnnxModel.open(tmp_path / "m.onnx", {"x": ("float32", (8, 3, 32, 48))})
    assert bound.graph.shape("y") == (1, 3, 32, 48)
    assert str(bound.graph.inputs[0]) == "x:float32[b,3,h,w]"
    for bindings, message in (
        ({"z": ("", (1,))}, "no input 'z'"),
        ({"x": ("", (1, 3, 32))}, "can't be"),
        ({"x": ("", (1, 4, 32, 32))}, "can't be"),
        ({"x": ("int64", (1, 3, 32, 32))}, "can't be int64"),
    ):
        with pytest.raises(ModelkitError, match=message):
            OnnxModel.open(tmp_path / "m.onnx", bindings)


@pytest.mark.filterwarnings("ignore:.*the file leaves")
def test_a_decoder_with_a_cache_starts_with_an_empty_one(tmp_path: Path) -> None:
    dims = {
        "x": ["batch", 2, "sequence", 4],
        "past": ["batch", 2, "past_sequence", 4],
        "mask": ["batch", "past_sequence + sequence"],
    }
    nodes = [helper.make_node("Concat", ["past", "x"], ["present"], axis=2), helper.make_node("Relu", ["mask"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in dims.items()]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("present", "y")]
    proto = helper.make_model(helper.make_graph(nodes, "g", values, outs), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(proto, tmp_path / "m.onnx")
    graph = OnnxModel.open(tmp_path / "m.onnx").graph
    assert (graph.shape("past"), graph.shape("present"), graph.shape("mask")) == ((1, 2, 0, 4), (1, 2, 128, 4), (1, 128))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [8, 9])
def test_old_upsampling_keeps_its_corners(opset: int, mode: str, tmp_path: Path) -> None:
    scales = [1.0, 1.0, 2.0, 2.0]
    node = helper.make_node("Upsample", ["x", "s"] if opset > 8 else ["x"], ["y"], mode=mode)
    if opset == 8:
        node.attribute.append(helper.make_attribute("scales", scales))
    tensors = [numpy_helper.from_array(np.array(scales, np.float32), "s")] if opset > 8 else []
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, size, size]) for name, size in (("x", 5), ("y", 10))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4), tmp_path / "m.onnx")
    feeds = {"x": RNG.standard_normal((1, 2, 5, 5), np.float32)}
    expected = outputs_of_file(tmp_path / "m.onnx", feeds)
    assert relative_error(outputs(OnnxModel.open(tmp_path / "m.onnx"), feeds), expected) < 1e-6


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    onnx.save(two_layers(), tmp_path / "m.onnx")
    program = (
        "import sys; from pathlib import Path; from modelkit.models.onnx.model import OnnxModel;"
        "model = OnnxModel.open(Path(sys.argv[1])); list(model.graph.layers()); next(iter(model.observe([], [])), None);"
        "print([name for name in ('torch', 'onnx_ir', 'onnxscript', 'sympy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path / "m.onnx")], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
