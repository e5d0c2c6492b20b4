"""Convolutions as products: the patch of the input that each position of the output reads, as a row (im2col).

K. Chellapilla et al., "High performance convolutional neural networks for document processing", IWFHR 2006. Channels come last in
a row, so that patches are copied in runs of memory, and the product's result is an image with channels last, as the next one
reads it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ...analysis.products import is_one_window
from .operators import attributes_of, base_name
from .program import Program, arguments

aten = torch.ops.aten
Window = dict[str, list[Any]]  # kernel, stride, dilation: a number for each axis; padding: a pair
Steps = list[tuple[Any, tuple[Any, ...]]]  # operators, each with its arguments after the value
CONVOLUTIONS = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
_END = 2**63 - 1


def window_of(node: fx.Node) -> Window | None:
    """What a convolution reads for each of its outputs; None for other operators, and where that differs between channels."""
    if base_name(node) not in ("conv1d", "conv2d", "conv3d", "convolution"):
        return None
    values = arguments(node)
    x, weight = (values[name].meta["val"] for name in ("input", "weight"))
    found = attributes_of("conv", node, values)
    if x.dim() != weight.dim() or x.dim() - 2 not in CONVOLUTIONS or not is_one_window(found):
        return None
    padding, stride, dilation = [list(pair) for pair in found["padding"]], list(found["stride"]), list(found["dilation"])
    return {"kernel": list(weight.shape[2:]), "stride": stride, "dilation": dilation, "padding": padding}


def patch_steps(window: Window, fill: int) -> Steps:
    """From an input (N, C, *size), padded with `fill`, to patches (N, *positions, *kernel, C); without it where all is 1."""
    kernel, rank = window["kernel"], len(window["kernel"])
    steps: Steps = [(aten.permute.default, ([0, *range(2, rank + 2), 1],))]
    if any(after for _, after in window["padding"]):
        sides = [side for pair in reversed(window["padding"]) for side in pair]
        steps.append((aten.constant_pad_nd.default, ([0, 0, *sides], fill)))
    if max(kernel) == 1:
        strides = enumerate(window["stride"], 1)
        return steps + [(aten.slice.Tensor, (axis, 0, _END, stride)) for axis, stride in strides if stride > 1]
    for i, (size, stride, dilation) in enumerate(zip(kernel, window["stride"], window["dilation"], strict=True)):
        steps.append((aten.unfold.default, (1 + i, (size - 1) * dilation + 1, stride)))
        if dilation > 1:
            steps.append((aten.slice.Tensor, (rank + 2 + i, 0, _END, dilation)))
    return [*steps, (aten.permute.default, ([*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1],))]


def apply(program: Program, x: fx.Node, steps: Steps) -> fx.Node:
    """Call the operators one after the other, where the graph inserts now."""
    for target, args in steps:
        x = program.call(target, x, *args)
    return x


def source_of(node: fx.Node, steps: Steps) -> fx.Node:
    """What `apply` started from. Raises AssertionError where the node is not what it gave."""
    for target, args in reversed(steps):
        assert node.target is target and _plain(node.args[1:]) == _plain(args)
        assert isinstance(node.args[0], fx.Node)
        node = node.args[0]
    return node


def in_rows(weight: torch.Tensor) -> torch.Tensor:
    """(out, in, *kernel) → (out, K), in the order of patches."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1).contiguous()


def from_rows(rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Back to (out, in, *kernel)."""
    return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()


def channels_second(rank: int) -> list[int]:
    """The permutation that takes (N, *size, C) to (N, C, *size): a view, whose channels come last in memory."""
    return [0, rank, *range(1, rank)]


def allow_any_strides(program: Program) -> None:
    """Let operators that expect an image's channels first in memory copy it where they come last."""
    for node in program.graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
