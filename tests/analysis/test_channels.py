"""Cuts, branches and budgets, on networks small enough to be checked by hand."""

from pathlib import Path

import numpy as np
import pytest

from modelkit.analysis.channels import channel_groups
from modelkit.analysis.macs import total_macs
from modelkit.analysis.widths import chosen, grain, widths
from modelkit.core.channels import ChannelGroup, Cut, Slot, new_places, padding
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Dense
from modelkit.core.graph import Graph, Node, Parameter
from modelkit.core.pruning import Budget, PruningTask
from modelkit.costs import parameters
from modelkit.models.onnx.model import OnnxModel
from modelkit.publish import outputs_of, relative_difference
from tests.random_graphs import OnnxWriter

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 4)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def residual():
    """conv(3→16), one residual block of 8 channels inside, mean, linear: in ONNX."""
    w = OnnxWriter(SHAPE, computed=False)
    x = w.conv(w.input, numbers(16, 3, 3, 3), numbers(16), 1)
    y = w.conv(w.activation(w.conv(x, numbers(8, 16, 3, 3), None, 1), "relu"), numbers(16, 8, 3, 3), None, 1)
    out = w.linear(w.mean(w.add(x, y), (1, 2), False), numbers(5, 16), None)
    return OnnxModel.from_proto(w.model(out), Path("residual.onnx"), Path("."))


FEEDS = {"x": numbers(4, *SHAPE)}


def test_groups_name_what_belongs_together():
    stream, inner = channel_groups(residual())
    assert (stream.size, inner.size) == (16, 8)
    assert {slot.axis for slot in stream.readers} == {1} and len(stream.readers) == 2
    assert [slot.role for slot in stream.writers] == ["weight", "bias", "weight"]
    assert {len(units) for units in inner.slots.values()} == {8}


def test_a_cut_knows_the_shapes_to_come():
    model = residual()
    channels = channel_groups(model)
    keep = {channels.groups[1].name: np.arange(8) < 3}
    cut = channels.cut(keep)
    resized = cut.resized(model.graph)
    assert total_macs(resized) == total_macs(model.graph) - 5 * 16 * 9 * 16 * 2
    model.shrink(cut)
    assert total_macs(model.graph) == total_macs(resized)
    assert {name: edge.shape for name, edge in model.graph.edges.items()} == {n: e.shape for n, e in resized.edges.items()}


def test_masks_must_fit():
    channels = channel_groups(residual())
    name = channels.groups[0].name
    with pytest.raises(ValueError):
        channels.cut({name: np.zeros(16, bool)})
    with pytest.raises(ValueError):
        channels.cut({name: np.ones(15, bool)})


def test_weights_set_before_are_the_ones_that_shrink():
    model, untouched = residual(), None
    channels = channel_groups(model)
    inner = channels.groups[1]
    (reader,) = inner.readers
    weight = model.parameter(reader.node, "weight")
    untouched = model.copy()
    model.set_parameter(reader.node, "weight", Dense(2 * weight))
    model.shrink(channel_groups(model).cut({inner.name: np.arange(8) % 2 == 0}))
    np.testing.assert_array_equal(model.parameter(reader.node, "weight"), 2 * weight[:, ::2])
    np.testing.assert_array_equal(untouched.parameter(reader.node, "weight"), weight)
    assert outputs_of(untouched, FEEDS)[0].shape == (4, 5)


def test_a_branch_is_settled_at_its_mean():
    model = residual()
    (branch,) = (b for b in channel_groups(model).branches if len(b.layers) == 2)
    values = next(iter(model.observe([FEEDS], [branch.edge])))[branch.edge]
    assert branch.axis == 1
    smaller = model.copy()
    smaller.settle(branch.join, branch.edge, values.mean((0, 2, 3), keepdims=True).astype(np.float32))
    assert not {layer.name for layer in smaller.graph.layers()} & set(branch.layers)
    # What the mean over space gives is the same but for the differences between samples.
    assert relative_difference(outputs_of(model, FEEDS), outputs_of(smaller, FEEDS)) < 1
    again = channel_groups(smaller)
    assert [group.size for group in again] == [16]
    smaller.shrink(again.cut({again.groups[0].name: np.arange(16) < 8}))
    assert outputs_of(smaller, FEEDS)[0].shape == (4, 5)


def group(size, each=1):
    units = np.repeat(np.arange(size), each)
    return ChannelGroup("g", size, {Slot("a", "weight", 0): units}, {Slot("b", "weight", 1): units}, {}, {})


def test_widths_count_in_blocks_that_kernels_like():
    assert widths(group(20), 8) == [8, 16, 20]
    assert widths(group(4, each=16), 8) == [1, 2, 3, 4]
    assert grain(group(6, each=4), 8) == 2
    assert widths(group(6), 8) == [6]


def test_the_lowest_scores_go_until_the_budget_is_met():
    model = residual()
    channels = channel_groups(model)
    limit = 0.6 * total_macs(model.graph)
    task = PruningTask(model, channels, lambda graph: float(total_macs(graph)), limit, Budget("macs", 0.6), round_to=1)
    scores = {g.name: np.arange(g.size, dtype=float) for g in channels}
    keep = chosen(task, scores)
    assert total_macs(channels.cut(keep).resized(model.graph)) <= limit
    assert all(mask.tolist() == sorted(mask.tolist()) for mask in keep.values())
    with pytest.raises(ModelkitError, match="at least"):
        chosen(PruningTask(model, channels, task.cost, 1.0, Budget("macs", 1e-9), round_to=8), scores)


def test_positions_after_a_cut():
    kept = np.array([0, 2, 3, 7])
    assert new_places(kept, np.array([2, 3, 4])).tolist() == [1, 2]
    # Two zeros before and one behind eight values, of which the first zero and four values are left.
    assert padding(2, 1, 8, kept, 11, np.array([0, 2, 4, 5, 9])) == (1, 0)
    assert padding(-1, 0, 8, kept, 7, np.array([1, 2, 6])) == (-1, 0)


def test_operators_that_are_not_known_are_left_alone_with_the_reason():
    from onnx import helper

    w = OnnxWriter(SHAPE, computed=False)
    x = w.conv(w.input, numbers(8, 3, 3, 3), None, 1)
    w.nodes.append(helper.make_node("CumSum", [x.key, w.tensor(np.array(1, np.int64))], ["summed"]))
    out = w.linear(w.mean(type(x)("summed", x.shape), (1, 2), False), numbers(5, 8), None)
    channels = channel_groups(OnnxModel.from_proto(w.model(out), Path("odd.onnx"), Path(".")))
    assert not channels.groups
    assert "CumSum" in next(iter(channels.frozen.values())) or "needs whole" in next(iter(channels.frozen.values()))


def test_tied_parameters_stay_tied_where_the_same_remains_of_them():
    ones = Parameter("ones", (4,), "float32", 16, stored=("ones",))
    nodes = tuple(Node(name, "norm", "N", (), (), {"weight": ones}) for name in "abc")
    first, last = np.array([0, 1]), np.array([2, 3])
    cut = Cut({("a", "weight"): {0: first}, ("b", "weight"): {0: first}, ("c", "weight"): {0: last}})
    graph = Graph(nodes, {}, (), ())
    assert parameters(graph) == 4 and parameters(cut.resized(graph)) == 2 + 2
