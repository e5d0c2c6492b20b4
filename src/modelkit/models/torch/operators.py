"""What each ATen operator is in the neutral graph: its kind and, where the kind has several, its function."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ...core.graph import Kind

_CONVOLUTIONS = ("convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_RESHAPES = (
    "view _unsafe_view reshape _reshape_alias flatten unflatten permute transpose t mT numpy_T swapaxes movedim squeeze "
    "unsqueeze expand expand_as repeat tile broadcast_to slice select narrow split split_with_sizes chunk unbind index "
    "index_select gather take flip roll clone contiguous detach alias lift_fresh_copy to _to_copy type_as dropout "
    "feature_dropout alpha_dropout native_dropout identity pixel_shuffle pixel_unshuffle channel_shuffle view_as reshape_as "
    "unfold as_strided diagonal constant_pad_nd pad repeat_interleave detach_ tril triu"
).split()
_ACTIVATION_NAMES = (
    "relu gelu sigmoid silu tanh leaky_relu elu selu celu hardswish hardsigmoid softplus mish log_sigmoid softsign exp log "
    "log1p sqrt rsqrt neg abs erf sin cos reciprocal square sign floor ceil round logical_not bitwise_not isnan cumsum "
    "prelu expm1 tan atan exp2 log2 log10"
).split()
_CLIPS = ("relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max")
_ACTIVATIONS = {name: name for name in _ACTIVATION_NAMES} | dict.fromkeys(_CLIPS, "clip") | {"swish": "silu", "threshold": "relu"}
_ELEMENTWISE_NAMES = (
    "add sub mul div pow where remainder fmod atan2 eq ne lt le gt ge masked_fill logical_and logical_or logical_xor "
    "addcmul addcdiv lerp"
).split()
_ELEMENTWISE = {name: name for name in _ELEMENTWISE_NAMES} | {
    "rsub": "sub",
    "__and__": "and",
    "bitwise_and": "and",
    "__or__": "or",
    "bitwise_or": "or",
    "maximum": "max",
    "minimum": "min",
    "floor_divide": "div",
    "true_divide": "div",
    "xor": "xor",
}
_NORMS = (
    dict.fromkeys("batch_norm native_batch_norm _native_batch_norm_legit cudnn_batch_norm".split(), "batch")
    | {"_native_batch_norm_legit_no_training": "batch", "instance_norm": "instance"}
    | dict.fromkeys(("layer_norm", "native_layer_norm"), "layer")
    | dict.fromkeys(("group_norm", "native_group_norm"), "group")
    | dict.fromkeys(("rms_norm", "_fused_rms_norm"), "rms")
)
_REDUCTIONS = {name: name for name in "mean sum max min prod var std argmax argmin any all logsumexp norm topk".split()} | {
    "amax": "max",
    "amin": "min",
    "var_mean": "var",
    "linalg_vector_norm": "norm",
}
_LAYERS: dict[Kind, str] = {
    "linear": "linear",
    "conv": " ".join(_CONVOLUTIONS),
    "embedding": "embedding embedding_bag _embedding_bag _embedding_bag_forward_only",
    "recurrent": "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell mkldnn_rnn_layer",
    "matmul": "mm bmm matmul addmm baddbmm mv dot einsum bilinear",
    "attention": "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention",
    "softmax": "softmax _softmax _safe_softmax log_softmax _log_softmax",
    "concat": "cat concat concatenate stack hstack vstack",
    "reshape": " ".join(_RESHAPES),
}
_PADS = ("pad", "constant_pad_nd")
_MAX_POOLS = "max_pool1d max_pool2d max_pool3d adaptive_max_pool2d max_pool2d_with_indices".split()
_AVERAGE_POOLS = "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d".split()


def _table() -> dict[str, tuple[Kind, str | None]]:
    table: dict[str, tuple[Kind, str | None]] = {name: (kind, None) for kind, names in _LAYERS.items() for name in names.split()}
    functions: tuple[tuple[Kind, dict[str, str]], ...] = (
        ("norm", _NORMS),
        ("reshape", dict.fromkeys(_PADS, "pad")),
        ("activation", _ACTIVATIONS),
        ("elementwise", _ELEMENTWISE),
        ("reduce", _REDUCTIONS),
        ("pool", dict.fromkeys(_MAX_POOLS, "max")),
        ("pool", dict.fromkeys((*_AVERAGE_POOLS, *(name.removeprefix("_") for name in _AVERAGE_POOLS)), "average")),
    )
    for kind, by_name in functions:
        table |= {name: (kind, function) for name, function in by_name.items()}
    return table


_KINDS = _table()


def base_name(node: fx.Node) -> str:
    """The operator's name without namespace and overload: "conv2d" of aten.conv2d.padding."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[-1]
    return getattr(target, "__name__", str(target))


def operator_name(node: fx.Node) -> str:
    """The name users see: "aten.conv2d"."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.replace("::", ".")
    return base_name(node)


def kind_of(node: fx.Node) -> tuple[Kind, str | None]:
    """The kind of an operator and its function."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return "control", None
    name = base_name(node)
    kind, function = _KINDS.get(name, ("other", None))
    if name == "threshold" and node.args[1:] != (0, 0):
        function = "threshold"
    if name == "div" and node.kwargs.get("rounding_mode") is not None:
        function = "floor_div"
    return kind, function


def attributes_of(kind: Kind, node: fx.Node, values: dict[str, Any]) -> dict[str, Any]:
    """The attributes that the neutral graph documents for this kind; `values` are the operator's arguments by name."""
    if kind == "conv":
        spatial = len(node.meta["val"].shape) - 2 if isinstance(node.meta.get("val"), torch.Tensor) else 1
        transposed = bool(values.get("transposed")) or base_name(node).startswith("conv_transpose")
        stride, dilation = (_per_axis(values.get(name) or 1, spatial) for name in ("stride", "dilation"))
        padding = _padding(node, values.get("padding") or 0, dilation, spatial)
        found = {"stride": stride, "dilation": dilation, "padding": padding, "transposed": transposed}
        return {"groups": values.get("groups", 1), **found}
    if kind == "norm":
        axis = -len(values["normalized_shape"]) if isinstance(values.get("normalized_shape"), list | tuple) else 1
        groups = values.get("num_groups", values.get("group"))
        return {"epsilon": values.get("eps"), "axis": axis} | ({} if groups is None else {"groups": groups})
    if base_name(node) == "relu6":
        return {"low": 0.0, "high": 6.0}
    if base_name(node) in _CLIPS:
        given = {"low": values.get("min", values.get("min_val")), "high": values.get("max", values.get("max_val"))}
        return {bound: float(value) for bound, value in given.items() if isinstance(value, int | float)}
    if kind in ("softmax", "concat"):
        return {"axis": values.get("dim", 0)}
    first = next(iter(values.values()), None)
    rank = first.meta["val"].dim() if isinstance(first, fx.Node) and isinstance(first.meta.get("val"), torch.Tensor) else 0
    if base_name(node) == "einsum":
        return {"equation": values["equation"]}
    if kind == "reduce":
        axes = values.get("dim")
        chosen = range(rank) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
        return {"axes": tuple(sorted(axis % max(rank, 1) for axis in chosen))}
    if base_name(node) in _PADS and all(isinstance(n, int) for n in values["pad"]):
        pads = [(0, 0)] * rank
        for i in range(len(values["pad"]) // 2):  # from the last axis on
            pads[rank - 1 - i] = (values["pad"][2 * i], values["pad"][2 * i + 1])
        return {"pads": tuple(pads)}
    return {}


def _per_axis(value: int | list[int], axes: int) -> tuple[int, ...]:
    given = [value] if isinstance(value, int) else list(value)
    return tuple(given * axes if len(given) == 1 else given)


def _padding(node: fx.Node, value: Any, dilation: tuple[int, ...], axes: int) -> tuple[tuple[int, int], ...]:
    """What a convolution pads each axis of its input with, before and after."""
    if not isinstance(value, str):
        return tuple((n, n) for n in _per_axis(value, axes))
    weight = node.args[1].meta["val"].shape  # type: ignore[union-attr]
    totals = [d * (k - 1) if value == "same" else 0 for d, k in zip(dilation, weight[2:], strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)
