"""Where grids go, on hand-drawn graphs."""

from modelkit.analysis.placement import place_grids
from modelkit.core.graph import Edge, Graph, Input, Node, Parameter

_WEIGHT = {"weight": Parameter("w", (8, 8, 3, 3), "float32", 2304)}


def node(name, kind, inputs, function="", **attributes):
    parameters = _WEIGHT if kind in ("conv", "linear") else {}
    if function:
        attributes["function"] = function
    return Node(name, kind, kind, tuple(inputs.split()), (f"{name}_out",), parameters, attributes)


def graph(*nodes, outputs=None):
    edges = {edge: Edge(edge, (1, 8, 4, 4), "float32") for n in nodes for edge in (*n.inputs, *n.outputs)}
    return Graph(nodes, edges, (Input("x", "float32", ("batch", 8, 4, 4)),), tuple((outputs or nodes[-1].outputs[0]).split()))


def test_a_relu_is_absorbed_by_the_convolution_before_it():
    g = graph(node("a", "conv", "x"), node("r", "activation", "a_out", "relu"), node("b", "conv", "r_out"))
    placed = place_grids(g, {"a", "b"})
    assert set(placed.readers) == {"x", "r_out", "b_out"}
    assert placed.readers["x"] == {"a"} and placed.readers["r_out"] is None


def test_a_residual_sum_stays_in_integers():
    g = graph(
        node("a", "conv", "x"),
        node("ra", "activation", "a_out", "relu"),
        node("b", "conv", "ra_out"),
        node("s", "elementwise", "b_out ra_out", "add"),
        node("rs", "activation", "s_out", "relu"),
        node("c", "conv", "rs_out"),
    )
    placed = place_grids(g, {"a", "b", "c"})
    assert placed.readers["rs_out"] is None and "s_out" not in placed.readers
    assert placed.readers["b_out"] is None


def test_a_sum_that_feeds_a_norm_is_left_alone():
    g = graph(
        node("q", "linear", "x"),
        node("s", "elementwise", "q_out x", "add"),
        node("n", "norm", "s_out", "layer"),
        node("f", "linear", "n_out"),
    )
    placed = place_grids(g, {"q", "f"})
    assert set(placed.readers) == {"x", "n_out"}
    assert placed.readers == {"x": {"q"}, "n_out": {"f"}}


def test_a_max_pool_keeps_the_grid_of_its_input():
    g = graph(node("a", "conv", "x"), node("p", "pool", "a_out", "max"), node("b", "conv", "p_out"))
    placed = place_grids(g, {"a", "b"})
    assert placed.same_grid == {"p_out": "a_out"} and placed.readers["p_out"] is None


def test_what_no_chosen_layer_reads_stays_in_floating_point():
    g = graph(node("a", "conv", "x"), node("p", "pool", "a_out", "average"), node("f", "linear", "p_out"))
    assert "p_out" not in place_grids(g, {"a"}).readers
    assert place_grids(g, {"a", "f"}).readers["p_out"] is None


def test_nothing_chosen_means_no_grids():
    g = graph(node("a", "conv", "x"))
    assert place_grids(g, set()).readers == {}


def test_the_last_linear_layers_output_is_not_quantised():
    g = graph(node("f", "linear", "x"))
    assert set(place_grids(g, {"f"}).readers) == {"x"}


def test_layers_that_read_one_edge_share_its_grid():
    g = graph(node("q", "linear", "x"), node("k", "linear", "x"), node("m", "matmul", "q_out k_out"))
    assert place_grids(g, {"q", "k"}).readers == {"x": {"q", "k"}}


def test_the_last_residual_sum_is_an_integer_sum_too():
    g = graph(
        node("a", "conv", "x"),
        node("b", "conv", "a_out"),
        node("s", "elementwise", "a_out b_out", "add"),
        node("m", "reduce", "s_out", "mean"),
    )
    assert place_grids(g, {"a", "b"}).readers["s_out"] is None
