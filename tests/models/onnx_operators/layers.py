"""What networks are made of: activations, convolutions, norms, recurrence, attention, quantised operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import MS, C, Case, S, c, f, i, s8, u8


def activations() -> Iterator[Case]:
    x = f(3, 4, 5)
    for operator in (
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "Softsign",
        "ThresholdedRelu",
    ):
        yield c(operator, x)
    yield c("LeakyRelu", x, alpha=0.3)
    yield c("Celu", x, alpha=2.0)
    yield c("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    yield c("Mish", x, opset=18)
    yield c("Gelu", x, opset=20)
    yield c("Gelu", x, opset=20, approximate="tanh")
    yield c("Gelu", x, domain=MS)
    yield c("FastGelu", x, C(f(5)), domain=MS)
    yield c("BiasGelu", x, C(f(5)), domain=MS)
    yield c("QuickGelu", x, domain=MS)
    yield c("PRelu", x, C(f(4, 1)))
    yield c("PRelu", x, C(f(5)))
    yield c("Shrink", x, lambd=0.5, bias=0.2)
    for axis in (-1, 1):
        yield c("Softmax", x, axis=axis)
        yield c("LogSoftmax", x, axis=axis)
        yield c("Hardmax", x, axis=axis)
    yield c("Clip", x, S(-1), S(1))
    yield c("Clip", x, None, S(1))
    yield c("Clip", x, S(0))
    yield c("Clip", x, f())


def convolution() -> Iterator[Case]:
    yield c("Conv", f(2, 3, 9), C(f(4, 3, 3)), C(f(4)), pads=[1, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(6, 4, 3, 3)), C(f(6)), strides=[2, 1], pads=[1, 1, 1, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(4, 1, 3, 3)), group=4, dilations=[2, 1])
    yield c("Conv", f(2, 4, 9, 8), C(f(6, 2, 3, 3)), group=2, pads=[0, 1, 2, 1])
    yield c("Conv", f(2, 2, 5, 6, 7), C(f(3, 2, 2, 3, 2)), strides=[1, 2, 1])
    yield c("Conv", f(2, 3, 9, 8), f(4, 3, 3, 3))
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for stride in (1, 2):
            yield c("Conv", f(2, 3, 9, 8), C(f(4, 3, 2, 3)), auto_pad=mode, strides=[stride, stride])
    yield c("ConvTranspose", f(2, 3, 5), C(f(3, 4, 3)), C(f(4)), strides=[2])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], pads=[0, 1, 1, 1])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), group=2, dilations=[2, 2])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], output_shape=[10, 12])
    yield c("ConvTranspose", f(2, 4, 5, 6), C(f(4, 3, 3, 3)), strides=[2, 2], auto_pad="SAME_UPPER")
    yield c("ConvTranspose", f(2, 2, 3, 4, 3), C(f(2, 3, 2, 2, 2)), strides=[2, 2, 2])


def pooling() -> Iterator[Case]:
    x = f(2, 3, 9, 8)
    for operator in ("MaxPool", "AveragePool"):
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2])
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        yield c(operator, x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
        yield c(operator, x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        yield c(operator, x, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        yield c(operator, x, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
        yield c(operator, f(2, 3, 9), kernel_shape=[3], strides=[2])
        yield c(operator, f(2, 3, 6, 7, 8), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    yield c("MaxPool", x, kernel_shape=[3, 3], dilations=[2, 2])
    yield c("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], outputs=2)
    yield c("MaxPool", np.asarray(f(2, 3, 8, 8) * 50 + 120, np.uint8), kernel_shape=[2, 2], strides=[2, 2])
    yield c("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    yield c("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 1], count_include_pad=1)
    yield c("AveragePool", x, kernel_shape=[2, 2], dilations=[2, 2], opset=19)
    for operator in ("GlobalAveragePool", "GlobalMaxPool"):
        yield c(operator, x)
        yield c(operator, f(2, 3, 5))
    yield c("LpPool", x, kernel_shape=[2, 2], strides=[2, 2], p=2)


def normalization() -> Iterator[Case]:
    x = f(2, 6, 5, 4)
    yield c("BatchNormalization", x, C(f(6)), C(f(6)), C(f(6)), C(f(6, low=0.1)), epsilon=1e-3)
    yield c("BatchNormalization", f(3, 6), C(f(6)), C(f(6)), C(f(6)), C(f(6, low=0.1)))
    yield c("InstanceNormalization", x, C(f(6)), C(f(6)))
    yield c("GroupNormalization", x, C(f(3)), C(f(3)), opset=18, num_groups=3)
    yield c("GroupNormalization", x, C(f(6)), C(f(6)), opset=21, num_groups=3)
    yield c("LayerNormalization", x, C(f(4)), C(f(4)))
    yield c("LayerNormalization", x, C(f(5, 4)), axis=2)
    yield c("LayerNormalization", x, C(f(4)), C(f(4)), outputs=3)
    yield c("RMSNormalization", x, C(f(4)), opset=23)
    yield c("SimplifiedLayerNormalization", x, C(f(4)), axis=-1, epsilon=1e-5)
    yield c("SkipLayerNormalization", f(2, 3, 8), f(2, 3, 8), C(f(8)), C(f(8)), domain=MS)
    yield c("SkipSimplifiedLayerNormalization", f(2, 3, 8), f(2, 3, 8), C(f(8)), domain=MS)
    yield c("LRN", x, size=3, alpha=0.01)
    yield c("LpNormalization", x, axis=1, p=2)
    yield c("LpNormalization", x, axis=-1, p=1)
    yield c("MeanVarianceNormalization", x)


def resizing() -> Iterator[Case]:
    x = f(1, 2, 4, 5)
    none, scales = C(np.zeros(0, np.float32)), C(np.array([1, 1, 2, 1.6], np.float32))
    whole = C(np.array([1, 1, 2, 3], np.float32))
    down = C(np.array([1, 1, 0.5, 0.6], np.float32))
    for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for mode in ("nearest", "linear", "cubic"):
            for scale in (scales, whole, down):
                yield c("Resize", x, none, scale, opset=19, mode=mode, coordinate_transformation_mode=transformation, fixed=True)
    for rounding in ("floor", "ceil", "round_prefer_ceil"):
        yield c("Resize", x, none, scales, opset=19, mode="nearest", nearest_mode=rounding, fixed=True)
        yield c(
            "Resize",
            x,
            None,
            None,
            C([1, 2, 7, 5]),
            opset=19,
            coordinate_transformation_mode="asymmetric",
            nearest_mode=rounding,
            fixed=True,
        )
    yield c("Resize", x, None, None, C([1, 2, 7, 9]), opset=19, mode="linear", fixed=True)
    yield c("Resize", x, None, None, C([7, 9]), opset=19, mode="linear", axes=[2, 3], fixed=True)
    yield c("Resize", x, none, scales, opset=19, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5, fixed=True)
    yield c("Resize", x, none, scales, opset=19, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", fixed=True)
    box = C(np.array([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2], np.float32))
    yield c("Resize", x, box, scales, opset=19, mode="linear", coordinate_transformation_mode="tf_crop_and_resize", fixed=True)
    yield c("GridSample", f(2, 3, 4, 5), f(2, 6, 7, 2, low=-1.1, high=1.1))
    yield c("GridSample", f(2, 3, 4, 5), f(2, 6, 7, 2), mode="nearest", padding_mode="border", align_corners=1)


def recurrence() -> Iterator[Case]:
    for direction, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        x, h = f(6, 3, 4), 5
        yield c("LSTM", x, C(f(d, 4 * h, 4)), C(f(d, 4 * h, h)), C(f(d, 8 * h)), outputs=3, direction=direction, hidden_size=h)
        yield c(
            "GRU",
            x,
            C(f(d, 3 * h, 4)),
            C(f(d, 3 * h, h)),
            C(f(d, 6 * h)),
            outputs=2,
            direction=direction,
            hidden_size=h,
            linear_before_reset=1,
        )
        activations = ["Tanh"] * d
        yield c(
            "RNN",
            x,
            C(f(d, h, 4)),
            C(f(d, h, h)),
            C(f(d, 2 * h)),
            outputs=2,
            direction=direction,
            hidden_size=h,
            activations=activations,
        )
    states = (f(1, 3, 5), f(1, 3, 5))
    yield c(
        "LSTM",
        f(6, 3, 4),
        C(f(1, 20, 4)),
        C(f(1, 20, 5)),
        None,
        C(i(6, 6, 6, dtype=np.int32)),
        *states,
        outputs=3,
        hidden_size=5,
        fixed=True,
    )
    yield c("GRU", f(6, 3, 4), f(1, 15, 4), C(f(1, 15, 5)), outputs=2, hidden_size=5, linear_before_reset=1)
    yield c("RNN", f(6, 3, 4), C(f(1, 5, 4)), C(f(1, 5, 5)), hidden_size=5, activations=["Relu"])
    w, r = C(f(1, 15, 4)), C(f(1, 15, 5))
    yield c("GRU", f(3, 3, 4), w, r, C(f(1, 30)), outputs=2, hidden_size=5, fixed=True)
    lengths = C(i(3, 1, 2, dtype=np.int32))
    yield c(
        "GRU",
        f(3, 3, 4),
        w,
        r,
        C(f(1, 30)),
        lengths,
        outputs=2,
        hidden_size=5,
        linear_before_reset=1,
        direction="reverse",
        fixed=True,
    )
    w, r = C(f(2, 20, 4)), C(f(2, 20, 5))
    both = {"direction": "bidirectional", "hidden_size": 5, "outputs": 3, "fixed": True}
    yield c("LSTM", f(3, 3, 4), w, r, C(f(2, 40)), lengths, None, None, C(f(2, 15)), **both)
    yield c("LSTM", f(3, 3, 4), w, r, C(f(2, 40)), input_forget=1, clip=0.7, **both)


def attention() -> Iterator[Case]:
    q, k, v = f(2, 4, 6, 8), f(2, 4, 7, 8), f(2, 4, 7, 8)
    yield c("Attention", q, k, v, opset=23, fixed=True)
    yield c("Attention", q, k, v, f(6, 7), opset=23, scale=0.2, fixed=True)
    yield c("Attention", q, f(2, 4, 6, 8), f(2, 4, 6, 8), opset=23, is_causal=1, fixed=True)
    yield c("Attention", f(2, 6, 32), f(2, 7, 32), f(2, 7, 32), opset=23, q_num_heads=4, kv_num_heads=4, fixed=True)
    yield c("Attention", q, k, v, None, f(2, 4, 3, 8), f(2, 4, 3, 8), opset=23, outputs=3, fixed=True)
    yield c("MultiHeadAttention", f(2, 6, 32), f(2, 7, 32), f(2, 7, 32), C(f(96)), domain=MS, num_heads=4, fixed=True)
    positions = i([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    for interleaved in (0, 1):
        yield c("RotaryEmbedding", q, C(f(10, 4)), C(f(10, 4)), positions, opset=23, interleaved=interleaved, fixed=True)
        yield c("RotaryEmbedding", q, positions, C(f(10, 4)), C(f(10, 4)), domain=MS, interleaved=interleaved, fixed=True)


def quantization() -> Iterator[Case]:
    x = f(3, 4, 5)
    yield c("QuantizeLinear", x, S(0.03), S(128, np.uint8))
    yield c("QuantizeLinear", x, S(0.01), S(3, np.int8))
    yield c("QuantizeLinear", x, S(0.01))
    yield c("QuantizeLinear", x, C(f(4, low=0.01, high=0.1)), C(u8(4)), axis=1)
    yield c("QuantizeLinear", x, S(1e-4), S(0, np.int16), opset=21)
    yield c("QuantizeLinear", f(2, 8), C(f(2, 2, low=0.01, high=0.1)), C(s8(2, 2)), opset=21, axis=1, block_size=4, fixed=True)
    yield c("DequantizeLinear", u8(3, 4), S(0.1), S(7, np.uint8))
    yield c("DequantizeLinear", i(5, -3, dtype=np.int32), S(0.1))
    yield c("DequantizeLinear", C(s8(3, 4)), C(f(4, low=0.01, high=0.1)), C(s8(4)), axis=1)
    yield c("DequantizeLinear", s8(2, 8), C(f(2, 2, low=0.01, high=0.1)), opset=21, axis=1, block_size=4, fixed=True)
    yield c("DynamicQuantizeLinear", x, outputs=3)
    yield c("MatMulInteger", u8(3, 4), C(s8(4, 5)), S(100, np.uint8), C(s8(5)))
    yield c("MatMulInteger", u8(3, 4), u8(4, 5))
    yield c("ConvInteger", u8(2, 3, 6, 6), C(u8(4, 3, 3, 3)), S(100, np.uint8), S(120, np.uint8), pads=[1, 1, 1, 1])
    scale = (S(0.02), S(120, np.uint8))
    yield c("QLinearMatMul", u8(3, 4), *scale, C(s8(4, 5)), C(f(5, low=0.01, high=0.02)), C(s8(5) * 0), S(0.1), S(128, np.uint8))
    bias = C(i(10, -500, 30, 7, dtype=np.int32))
    weight = (C(s8(4, 3, 3, 3)), C(f(4, low=0.01, high=0.02)), C(s8(4) * 0))
    yield c("QLinearConv", u8(2, 3, 6, 6), *scale, *weight, S(0.3), S(128, np.uint8), bias, pads=[1, 1, 1, 1])
    for operator in ("QLinearAdd", "QLinearMul"):
        yield c(operator, u8(3, 4), *scale, u8(3, 4), S(0.0313), S(100, np.uint8), S(0.0617), S(110, np.uint8), domain=MS)
    yield c("QLinearSigmoid", u8(3, 4), *scale, S(1 / 256), S(0, np.uint8), domain=MS)
    yield c("QLinearGlobalAveragePool", u8(2, 3, 4, 4), *scale, *scale, domain=MS, channels_last=0)
    yield c("QLinearConcat", *scale, u8(3, 4), S(0.03), S(100, np.uint8), u8(3, 2), *scale, domain=MS, axis=1)
    yield c(
        "QGemm", u8(3, 4), *scale, C(s8(5, 4)), S(0.01), S(0, np.int8), C(i(1, 2, 3, 4, 5, dtype=np.int32)), domain=MS, transB=1
    )
    yield c("DynamicQuantizeMatMul", f(3, 4), C(s8(4, 5)), C(f(5, low=0.01, high=0.02)), None, C(f(5)), domain=MS)
    yield c("MatMulNBits", f(3, 64), C(u8(6, 2, 16)), C(f(12)), domain=MS, K=64, N=6, bits=4, block_size=32)
    yield c("MatMulNBits", f(3, 96), C(u8(6, 3, 16)), C(f(18)), C(u8(6 * 2)), domain=MS, K=96, N=6, bits=4, block_size=32)
    yield c("MatMulNBits", f(3, 64), C(u8(6, 2, 32)), C(f(12)), domain=MS, K=64, N=6, bits=8, block_size=32)
