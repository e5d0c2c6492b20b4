"""What each ONNX operator is in the neutral graph: its kind, and its function where one kind has several."""

from __future__ import annotations

import re

from modelkit.core.graph import Kind


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _table(kind: Kind, names: str, **functions: str) -> dict[str, tuple[Kind, str]]:
    """Operators whose function is their own name in small letters, and those where it is another."""
    return {**{name: (kind, _snake(name)) for name in names.split()}, **{name: (kind, f) for name, f in functions.items()}}


KINDS: dict[str, tuple[Kind, str]] = {
    **_table(
        "norm",
        "",
        BatchNormalization="batch",
        LayerNormalization="layer",
        SkipLayerNormalization="layer",
        EmbedLayerNormalization="layer",
        InstanceNormalization="instance",
        GroupNormalization="group",
        GroupNorm="group",
        SkipGroupNorm="group",
        RMSNormalization="rms",
        SimplifiedLayerNormalization="rms",
        SkipSimplifiedLayerNormalization="rms",
        MeanVarianceNormalization="instance",
        LpNormalization="lp",
        LRN="local_response",
    ),
    **_table(
        "activation",
        "Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Erf Exp Log Sqrt Abs Neg"
        " Softplus Softsign Mish Swish Reciprocal Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh Cosh"
        " Asinh Acosh Atanh Not BitwiseNot IsNaN"
        " IsInf ThresholdedRelu Shrink",
        FastGelu="gelu",
        QuickGelu="quick_gelu",
        BiasGelu="gelu",
    ),
    **_table(
        "elementwise",
        "Add Sub Mul Div Pow Min Max Where Equal Greater Less And Or Xor Mod BitShift BitwiseAnd BitwiseOr BitwiseXor Mean",
        Sum="add",
        GreaterOrEqual="greater_or_equal",
        LessOrEqual="less_or_equal",
    ),
    **_table("softmax", "Softmax LogSoftmax Hardmax"),
    **_table(
        "pool",
        "",
        MaxPool="max",
        GlobalMaxPool="max",
        AveragePool="average",
        GlobalAveragePool="average",
        LpPool="lp",
        GlobalLpPool="lp",
    ),
    **_table(
        "reduce",
        "ArgMax ArgMin CumSum TopK",
        ReduceMean="mean",
        ReduceSum="sum",
        ReduceMax="max",
        ReduceMin="min",
        ReduceProd="prod",
        ReduceL1="l1",
        ReduceL2="l2",
        ReduceLogSum="log_sum",
        ReduceLogSumExp="log_sum_exp",
        ReduceSumSquare="sum_square",
    ),
    **_table("concat", "Concat ConcatFromSequence"),
    **_table(
        "reshape",
        "Reshape Flatten Transpose Slice Split Squeeze Unsqueeze Expand Gather GatherElements Identity Dropout DepthToSpace"
        " SpaceToDepth Tile Pad ReverseSequence Compress Trilu",
        GatherND="gather_nd",
        QuantizeLinear="quantize",
        DequantizeLinear="quantize",
        DynamicQuantizeLinear="quantize",
    ),
    **_table(
        "matmul", "MatMul Gemm Einsum", MatMulInteger="matmul", QLinearMatMul="matmul", FusedMatMul="matmul", QGemm="matmul"
    ),
    **_table("conv", "Conv", ConvTranspose="conv", ConvInteger="conv", QLinearConv="conv", FusedConv="conv", DeformConv="conv"),
    **_table("recurrent", "LSTM GRU RNN"),
    **_table("attention", "Attention MultiHeadAttention GroupQueryAttention", PackedMultiHeadAttention="attention"),
    **_table("control", "If Loop Scan SequenceMap"),
    **_table("other", "Shape Size Cast CastLike Range NonZero ConstantOfShape OneHot ScatterND ScatterElements Resize Upsample"),
}


def kind_of(op_type: str) -> tuple[Kind, str]:
    return KINDS.get(op_type, ("other", _snake(op_type)))
