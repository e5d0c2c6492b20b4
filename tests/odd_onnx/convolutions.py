"""Convolutions other than the square, symmetric, two-dimensional one."""

from __future__ import annotations

from onnx import helper

from .case import Case, floats, model, odd, random

node = helper.make_node


@odd
def conv1d() -> Case:
    nodes = [node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[2, 2], strides=[2])]
    return model(nodes, floats(x=(2, 4, 16)), floats(y=(2, 6, 8)), random(w=(6, 4, 5), b=(6,))), random(x=(2, 4, 16))


@odd
def conv3d() -> Case:
    nodes = [node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[2, 3, 3], pads=[0, 1, 1, 1, 1, 1])]
    return model(nodes, floats(x=(1, 2, 4, 6, 6)), floats(y=(1, 4, 4, 6, 6)), random(w=(4, 2, 2, 3, 3))), random(
        x=(1, 2, 4, 6, 6)
    )


@odd
def conv_transpose() -> Case:
    """Weight (in, out / groups, *kernel); the second is grouped and gives its output shape."""
    nodes = [
        node("ConvTranspose", ["x", "w1", "b1"], ["h"], name="up1", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        node("ConvTranspose", ["h", "w2"], ["y"], name="up2", strides=[2, 2], group=2, output_shape=[16, 16]),
    ]
    weights = random(w1=(4, 6, 3, 3), b1=(6,), w2=(6, 2, 2, 2))
    return model(nodes, floats(x=(2, 4, 4, 4)), floats(y=(2, 4, 16, 16)), weights), random(x=(2, 4, 4, 4))


@odd
def grouped_conv() -> Case:
    """Groups, then depthwise with a multiplier of 2, then pointwise."""
    nodes = [
        node("Conv", ["x", "w1"], ["h1"], name="grouped", group=2, pads=[1, 1, 1, 1]),
        node("Conv", ["h1", "w2"], ["h2"], name="depthwise", group=6, pads=[1, 1, 1, 1]),
        node("Conv", ["h2", "w3"], ["y"], name="pointwise"),
    ]
    weights = random(w1=(6, 2, 3, 3), w2=(12, 1, 3, 3), w3=(5, 12, 1, 1))
    return model(nodes, floats(x=(2, 4, 6, 6)), floats(y=(2, 5, 6, 6)), weights), random(x=(2, 4, 6, 6))


@odd
def auto_pad() -> Case:
    """Padding by name, as TensorFlow's converter writes it: SAME_UPPER, SAME_LOWER with stride, VALID; dilation in the last."""
    nodes = [
        node("Conv", ["x", "w1"], ["h1"], name="upper", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Conv", ["h1", "w2"], ["h2"], name="lower", auto_pad="SAME_LOWER"),
        node("MaxPool", ["h2"], ["h3"], name="pool", auto_pad="SAME_UPPER", kernel_shape=[2, 2], strides=[1, 1]),
        node("Conv", ["h3", "w3"], ["y"], name="valid", auto_pad="VALID", dilations=[2, 2]),
    ]
    weights = random(w1=(4, 3, 3, 3), w2=(4, 4, 2, 2), w3=(2, 4, 2, 2))
    return model(nodes, floats(x=(2, 3, 9, 9)), floats(y=(2, 2, 3, 3)), weights), random(x=(2, 3, 9, 9))


@odd
def uneven_conv() -> Case:
    """Kernel, stride and padding all differ by side."""
    nodes = [node("Conv", ["x", "w", "b"], ["y"], name="conv", kernel_shape=[1, 5], strides=[1, 3], pads=[0, 1, 2, 4])]
    return model(nodes, floats(x=(2, 3, 4, 10)), floats(y=(2, 4, 6, 4)), random(w=(4, 3, 1, 5), b=(4,))), random(x=(2, 3, 4, 10))


@odd
def conv_on_channels_last_input() -> Case:
    """An NHWC input, turned inside the model."""
    nodes = [
        node("Transpose", ["image"], ["nchw"], name="to_nchw", perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", "w"], ["c"], name="conv"),
        node("Transpose", ["c"], ["y"], name="to_nhwc", perm=[0, 2, 3, 1]),
    ]
    return model(nodes, floats(image=(2, 6, 6, 3)), floats(y=(2, 4, 4, 5)), random(w=(5, 3, 3, 3))), random(image=(2, 6, 6, 3))


@odd
def conv_bias_by_add() -> Case:
    """A bias added after the convolution (1, C, 1, 1), and a batch norm after that: both fold."""
    weights = random(w=(4, 3, 3, 3), b=(1, 4, 1, 1), scale=(4,), shift=(4,), mean=(4,))
    weights["variance"] = abs(random(variance=(4,))["variance"]) + 0.5
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("Add", ["b", "c"], ["biased"], name="bias"),
        node("BatchNormalization", ["biased", "scale", "shift", "mean", "variance"], ["n"], name="bn"),
        node("Relu", ["n"], ["y"], name="relu"),
    ]
    return model(nodes, floats(x=(2, 3, 6, 6)), floats(y=(2, 4, 4, 4)), weights), random(x=(2, 3, 6, 6))


@odd
def batch_norm_that_cannot_fold() -> Case:
    """The convolution's output is used before and after the batch norm."""
    weights = random(w=(4, 3, 3, 3), scale=(4,), shift=(4,), mean=(4,))
    weights["variance"] = abs(random(variance=(4,))["variance"]) + 0.5
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], name="bn"),
        node("Add", ["n", "c"], ["y"], name="add"),
    ]
    return model(nodes, floats(x=(2, 3, 6, 6)), floats(y=(2, 4, 4, 4)), weights), random(x=(2, 3, 6, 6))
