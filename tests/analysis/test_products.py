"""Layers as matrix products: W x over the rows is what the layer computes."""

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.analysis.products import inputs, matrix, weight_of
from modelkit.core.graph import Node, Parameter


def conv_node(module):
    weight = module.weight.detach().numpy()
    padding = tuple((n, n) for n in module.padding) if not isinstance(module.padding, str) else ()
    attributes = {
        "groups": module.groups, "stride": module.stride, "dilation": module.dilation, "padding": padding,
        "transposed": isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d),
    }  # fmt: skip
    return Node(
        "c", "conv", "conv", ("x",), ("y",), {"weight": Parameter("w", weight.shape, "float32", weight.nbytes)}, attributes
    )


CONVOLUTIONS = {
    "plain": (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), (2, 4, 7, 6)),
    "strided and dilated": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 2), bias=False), (2, 4, 9, 8)),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, groups=3, bias=False), (2, 6, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(5, 10, 3, groups=5, padding=1, bias=False), (3, 5, 6, 6)),
    "one axis": (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2, bias=False), (2, 3, 11)),
    "three axes": (lambda: nn.Conv3d(2, 4, 2, bias=False), (1, 2, 4, 5, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_its_products(name):
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[name]
    module, x = make(), torch.randn(shape)
    node, weight = conv_node(module), module.weight.detach().numpy()
    W = matrix(node, weight)
    rows = inputs(node, x.numpy(), 10**9)
    y = module(x).detach()
    expected = y.reshape(y.shape[0], W.shape[0], W.shape[1], -1).permute(1, 0, 3, 2).reshape(W.shape[0], -1, W.shape[1])
    assert np.allclose(rows @ W.transpose(0, 2, 1), expected, atol=1e-5)
    assert (weight_of(node, W, weight.shape) == weight).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_spreads_its_products(groups):
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=groups, bias=False)  # patches that do not overlap
    x = torch.randn(2, 4, 3, 5)
    node, weight = conv_node(module), module.weight.detach().numpy()
    W = matrix(node, weight)
    products = inputs(node, x.numpy(), 10**9) @ W.transpose(0, 2, 1)
    y = module(x).detach().reshape(2, groups, 6 // groups, 3, 2, 5, 2).permute(1, 0, 3, 5, 2, 4, 6)
    assert np.allclose(products, y.reshape(groups, 30, -1), atol=1e-5)
    assert (weight_of(node, W, weight.shape) == weight).all()


def test_rows_are_limited_evenly():
    module = nn.Conv2d(4, 6, 3, padding=1)
    rows = inputs(conv_node(module), np.zeros((3, 4, 32, 32), np.float32), 300)
    assert 150 <= rows.shape[1] <= 300 and rows.shape[2] == 36


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_both_formats_tell_the_padding(zoo, family):
    from modelkit.models.opening import open_model

    model = open_model(getattr(zoo, family)("mobilenet"))
    for layer in model.graph.layers():
        if layer.kind != "conv":
            continue
        (edge,) = layer.inputs
        x = np.zeros(model.graph.shape(edge), np.float32)
        out = model.graph.shape(layer.outputs[0])
        assert inputs(layer, x, 10**9).shape[1] == out[0] * out[2] * out[3], layer.name
