"""Resize in all its coordinate conventions, and sampling on a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..node import Node
from ..registry import translates
from .shape import entries

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@translates("Resize", host=(1, 2, 3))
def resize(
    node: Node, x: torch.Tensor, roi: np.ndarray | None = None, scales: np.ndarray | None = None, sizes: np.ndarray | None = None
) -> torch.Tensor:
    axes = [axis % x.ndim for axis in node.integers("axes") or range(x.ndim)]
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("with a kept aspect ratio")
    factors: list[Any] = [1.0] * x.ndim
    lengths: list[Any] = list(x.shape)
    given = sizes is None or not sizes.size
    for axis, value in zip(axes, entries_of(scales) if given else entries(sizes), strict=True):
        if given:
            factors[axis] = value
            lengths[axis] = x.shape[axis] if value == 1 else math.floor(x.shape[axis] * value)
        else:
            lengths[axis] = value
            factors[axis] = 1.0 if value is x.shape[axis] else value / x.shape[axis]
    if given:
        changed = [d for d in range(x.ndim) if factors[d] != 1.0]
    else:
        changed = [d for d in range(2, x.ndim) if d in axes] if _keeps_channels(x, lengths) else axes
    if set(changed) <= set(range(2, x.ndim)) and x.ndim in _LINEAR:
        fast = _by_torch(node, x, [factors[d] for d in range(2, x.ndim)] if given else None, lengths[2:])
        if fast is not None:
            return fast
    if node.integer("antialias", 0):
        raise node.refuse("antialiased in this mode")
    corners = entries_of(roi) if roi is not None and roi.size else [0.0] * len(axes) + [1.0] * len(axes)
    boxes = {axis: (corners[i], corners[i + len(axes)]) for i, axis in enumerate(axes)}
    for d in changed:
        x = _along(node, x, d, lengths[d], factors[d], boxes.get(d, (0.0, 1.0)))
    return x


def entries_of(array: np.ndarray | None) -> list[Any]:
    """A host value of one dimension as Python numbers."""
    return [] if array is None else list(array.reshape(-1).tolist())


def _keeps_channels(x: torch.Tensor, lengths: list[Any]) -> bool:
    return all(bool(a == b) for a, b in zip(x.shape[:2], lengths[:2], strict=True))


def _by_torch(node: Node, x: torch.Tensor, factors: list[Any] | None, lengths: list[Any]) -> torch.Tensor | None:
    """torch's own interpolation where it has the same coordinates, else None."""
    mode, coordinates = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    half = coordinates == "half_pixel" or (
        coordinates == "pytorch_half_pixel" and all(isinstance(n, int) and n > 1 for n in lengths)
    )
    target: dict[str, Any] = {"scale_factor": factors} if factors else {"size": lengths}
    antialias = bool(node.integer("antialias", 0))
    if mode == "nearest":
        rounding = node.text("nearest_mode", "round_prefer_floor")
        whole = factors is not None and all(float(factor).is_integer() for factor in factors)
        if (coordinates == "asymmetric" and rounding == "floor") or (whole and half and rounding.startswith("round")):
            return F.interpolate(x, mode="nearest", **target)
        return None
    if node.integer("exclude_outside", 0) or not (half or coordinates == "align_corners"):
        return None
    if mode == "cubic" and (x.ndim != 4 or antialias or abs(node.real("cubic_coeff_a", -0.75) + 0.75) > 1e-6):
        return None
    if antialias and x.ndim != 4:
        return None
    kind = "bicubic" if mode == "cubic" else _LINEAR[x.ndim]
    if coordinates == "align_corners":
        return F.interpolate(x, mode=kind, align_corners=True, antialias=antialias, size=lengths)
    return F.interpolate(x, mode=kind, align_corners=False, antialias=antialias, **target)


def _coordinates(node: Node, size: Any, length: Any, factor: Any, box: tuple[float, float]) -> torch.Tensor:
    """Where in the input (0 … size − 1) each of `length` output places lies."""
    place = torch.arange(length, dtype=torch.float32)
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return place / factor
    if mode == "align_corners":
        return place * ((size - 1) / torch.sym_max(length - 1, 1))
    if mode == "tf_half_pixel_for_nn":
        return (place + 0.5) / factor
    if mode == "tf_crop_and_resize":
        first, last = box
        step = (last - first) * (size - 1) / torch.sym_max(length - 1, 1)
        return place * step + first * (size - 1)
    half = (place + 0.5) / factor - 0.5
    if mode == "half_pixel_symmetric":
        return half + size / 2 * (1 - length / (factor * size))
    if mode == "pytorch_half_pixel" and isinstance(length, int) and length == 1:
        return torch.zeros_like(place)
    return half


def _along(node: Node, x: torch.Tensor, axis: int, length: Any, factor: Any, box: tuple[float, float]) -> torch.Tensor:
    """Resize one dimension: a weighted sum of neighbours."""
    size = x.shape[axis]
    where = _coordinates(node, size, length, factor, box)
    broadcast = [-1 if d == axis else 1 for d in range(x.ndim)]
    y = torch.zeros_like(x.narrow(axis, 0, 1))
    total = torch.zeros_like(where)
    for place, weight in _taps(node, where):
        if node.integer("exclude_outside", 0):
            weight = torch.where((place >= 0) & (place < size), weight, torch.zeros_like(weight))
        total = total + weight
        y = y + x.index_select(axis, place.clamp(0, size - 1).to(torch.int64)) * weight.reshape(broadcast).to(x.dtype)
    if node.integer("exclude_outside", 0):
        y = y / total.reshape(broadcast)
    if node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        inside = ((where >= 0) & (where <= size - 1)).reshape(broadcast)
        y = torch.where(inside, y, node.real("extrapolation_value", 0.0))
    return y


def _taps(node: Node, where: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The input places that contribute to each output, and their weights."""
    mode = node.text("mode", "nearest")
    if mode == "nearest":
        rounding = node.text("nearest_mode", "round_prefer_floor")
        rounded = {
            "floor": torch.floor,
            "ceil": torch.ceil,
            "round_prefer_floor": lambda t: torch.ceil(t - 0.5),
            "round_prefer_ceil": lambda t: torch.floor(t + 0.5),
        }[rounding](where)
        return [(rounded, torch.ones_like(where))]
    below = torch.floor(where)
    t = where - below
    if mode == "linear":
        return [(below, 1 - t), (below + 1, t)]
    a = node.real("cubic_coeff_a", -0.75)

    def near(s: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * s - (a + 3)) * s * s + 1

    def far(s: torch.Tensor) -> torch.Tensor:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    return [(below - 1, far(t + 1)), (below, near(t)), (below + 1, near(1 - t)), (below + 2, far(2 - t))]


@translates("GridSample")
def grid_sample(node: Node, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.text("mode", "linear"), node.text("mode", "linear"))
    return F.grid_sample(x, grid, mode, node.text("padding_mode", "zeros"), bool(node.integer("align_corners", 0)))


@translates("AffineGrid", host=(1,))
def affine_grid(node: Node, theta: torch.Tensor, sizes: np.ndarray) -> torch.Tensor:
    return F.affine_grid(theta, entries(sizes), bool(node.integer("align_corners", 0)))


@translates("Col2Im", host=(1, 2))
def col_to_im(node: Node, x: torch.Tensor, image: np.ndarray, block: np.ndarray) -> torch.Tensor:
    spatial = len(entries(block))
    pads = node.integers("pads") or [0] * (2 * spatial)
    if spatial != 2 or pads[:2] != pads[2:]:
        raise node.refuse("other than over two dimensions with equal padding")
    dilations, strides = node.integers("dilations") or [1, 1], node.integers("strides") or [1, 1]
    return F.fold(x, tuple(entries(image)), tuple(entries(block)), tuple(dilations), tuple(pads[:2]), tuple(strides))
