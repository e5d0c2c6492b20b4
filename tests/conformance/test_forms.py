"""Weight forms × formats × architectures: the rewritten model computes what the model with the decoded weights computes."""

import numpy as np
import pytest

from modelkit.core import passes
from modelkit.core.forms import Dense, Sparse
from modelkit.models.opening import open_model
from modelkit.publish import outputs_of, relative_difference
from tests.architectures import ARCHITECTURES

pytestmark = pytest.mark.usefixtures("silent")

FORMS = {
    "int8": {"bits": 8},
    "int8-asym-g32": {"bits": 8, "symmetric": False, "group_size": 32},
    "int4-g32": {"bits": 4, "group_size": 32},
    "int4-sym": {"bits": 4, "symmetric": True, "group_size": 0},
    "int3-g64": {"bits": 3},
    "int2-g16": {"bits": 2, "group_size": 16},
}
SPARSE = {"sparse-50%": ("unstructured", 0.5), "sparse-93%": ("unstructured", 0.93), "2:4": ("2:4", 0.5)}
QUICK = ("mlp", "mobilenet", "bert", "dlrm")


def _cases():
    cases = []
    for architecture in ARCHITECTURES:
        for form in (*FORMS, *SPARSE):
            for family in ("onnx", "pt2"):
                slow = architecture not in QUICK or (family == "pt2" and form not in ("int8", "int4-g32", "int3-g64", "2:4"))
                cases.append(pytest.param(architecture, form, family, marks=pytest.mark.slow if slow else ()))
    return cases


def _compressor(form):
    """(layer, weight) → its form, and layer → why it is left alone."""
    rounding = passes.build("quantize.rtn", FORMS.get(form, {}))
    if form in FORMS:
        return rounding.compress, rounding.skip
    pattern, sparsity = SPARSE[form]

    def sparse(layer, weight):
        mask = np.random.default_rng(weight.size).random(weight.shape) >= sparsity
        return Sparse.of(weight, pattern, mask)

    return sparse, rounding.skip


@pytest.mark.parametrize(("architecture", "form", "family"), _cases())
def test_rewritten_is_decoded(zoo, tmp_path, architecture, form, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    compress, skip = _compressor(form)
    rewritten, decoded = model.copy(), model.copy()
    forms = []
    for layer in model.graph.layers():
        weight = model.parameter(layer.name, "weight") if skip(layer) is None else None
        if weight is None:
            continue
        new = compress(layer, weight)
        if model.can_lower(layer.name, new) is None:
            rewritten.set_parameter(layer.name, "weight", new)
            decoded.set_parameter(layer.name, "weight", Dense(new.decode()))
            forms.append(new)
    assert forms
    expected = outputs_of(decoded, feeds)
    assert relative_difference(expected, outputs_of(rewritten, feeds)) < 2e-5
    path = tmp_path / f"saved.{family}"
    rewritten.save(path)
    reopened = open_model(path)
    assert {node.parameters["weight"].form for node in reopened.graph.layers() if "weight" in node.parameters} - {"dense"} == {
        str(new) for new in forms
    }
    assert relative_difference(expected, outputs_of(reopened, feeds)) < 2e-5
    assert sum(p.bytes for n in reopened.graph.layers() for p in n.parameters.values()) < sum(
        p.bytes for n in model.graph.layers() for p in n.parameters.values()
    )


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_both_formats_show_the_same_model(zoo, architecture):
    from modelkit.analysis.macs import total_macs

    by_family = {family: open_model(getattr(zoo, family)(architecture)) for family in ("onnx", "pt2")}
    feeds, expected = zoo.arrays(architecture)
    macs = {}
    for family, model in by_family.items():
        assert relative_difference(expected, outputs_of(model, feeds)) < 1e-4, family
        macs[family] = total_macs(model.graph)
        assert macs[family] is not None and macs[family] > 0, family
        assert all(model.graph.shape(edge) is not None for node in model.graph.layers() for edge in node.outputs), family
    assert macs["onnx"] == pytest.approx(macs["pt2"], rel=0.02)


def test_the_seeded_weights_are_not_trivial(zoo):
    feeds, expected = zoo.arrays("mlp")
    assert np.std(expected[0]) > 0.01
