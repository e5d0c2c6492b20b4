"""Linear layers and convolutions with 8-bit weights and activations as integer products (aten._int_mm, which CPUs and CUDA have
kernels for).

`to_integers` takes what `lower` decodes and fake-quantises, and computes the same number from a sum of integers,
    y = (q Wᵀ + c) · (s_x · s_w),   q = clamp(round(x / s_x) + z, −128, 127),   c = b / (s_x · s_w) − z · Σ_k W,
where b is on the grid of the products; unsigned codes are shifted by −128 into the signed ones that the kernels read. Of a
convolution, q holds the patch of the input that each position of the output reads (`patches`).
`from_integers` finds such layers in a file again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx

from ...core import saturation
from ...core.targets import Target
from .forms import to_array
from .grids import dequantised, grid_parts, uncast
from .in_place import reuse_memory
from .patches import (
    CONVOLUTIONS,
    Window,
    allow_any_strides,
    apply,
    channels_second,
    from_rows,
    in_rows,
    patch_steps,
    source_of,
    window_of,
)
from .program import Program, arguments, rename
from .weights import scaled

aten = torch.ops.aten
_ROWS, _BLOCK = 17, 8  # CUDA's kernel wants at least so many rows, and widths that are multiples
_SHIFT = 128  # from unsigned codes to signed ones


@dataclass(frozen=True)
class _Layer:
    """A layer in its two writings. `codes` (N, K) or (N, C, *kernel) int8 and `scale` are placeholders; the input's grid divides
    by `step`, rounds, and adds `zero`: numbers, or nodes where the grid is found at run time. `window`: a convolution's."""

    codes: fx.Node
    scale: fx.Node
    rounded: fx.Node
    step: Any
    zero: Any
    signed: bool
    bias: fx.Node | None
    window: Window | None


def to_integers(
    program: Program, records: list[dict[str, Any]], target: Target | None, observed: Container[str] = ()
) -> tuple[Program, list[dict[str, Any]]]:
    """A copy of a lowered program with its layers of that kind as integer products, and its records, which say of those layers
    whether their activations are signed; both as they were where there is no such layer.

    target: the processor that they are for. Where it is not known to add the products of any 8-bit codes exactly, only weights
    with which every processor does are taken. observed: nodes whose values must not be overwritten by what reads them.
    """
    # Integer convolutions give images with channels last in memory, which operators on memory itself would misread.
    images = all(node.target is not aten.as_strided.default for node in program.graph.nodes)
    if not any(_suited(program, node, target, images) for node in program.graph.nodes):
        return program, records
    program = program.copy()
    said: dict[str, dict[str, Any]] = {}
    shared: dict[Any, fx.Node] = {}
    padded = target is not None and target.padded
    for node in list(program.graph.nodes):
        layer = _suited(program, node, target, images)
        if layer is not None:
            said[node.name] = {"signed_activations": layer.signed} | ({"window": layer.window} if layer.window else {})
            _write(program, node, layer, padded, shared)
    if any("window" in it for it in said.values()):
        allow_any_strides(program)
    program.prune()
    reuse_memory(program, observed)
    return program, [it | said.get(it["operator"], {}) for it in records]


def from_integers(program: Program, layers: Iterable[dict[str, Any]]) -> None:
    """Put layers back as they were before `to_integers`, each given by what the note says of its weight and its bias. What does
    not look as `to_integers` writes it stays."""
    nodes = program.nodes()
    for records in layers:
        try:
            _read(program, nodes[records["weight"]["operator"]], records)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError, RuntimeError):
            continue  # The note does not fit the program.
    program.prune()


def _suited(program: Program, node: fx.Node, target: Target | None, images: bool) -> _Layer | None:
    """The layer that a node is, where it can be a product of integers for that target. images: whether convolutions can."""
    layer = _fake_quantised(program, node, images)
    if layer is None or not (target is not None and target.exact or _never_saturates(program, layer.codes)):
        return None
    return None if target is not None and target.padded and _fixed(layer.codes) else layer


def _fake_quantised(program: Program, node: fx.Node, images: bool) -> _Layer | None:
    window = window_of(node) if images else None
    if node.target is not aten.linear.default and window is None:
        return None
    x, weight, bias = (arguments(node)[name] for name in ("input", "weight", "bias"))
    decoded, grid = _decoded(program, weight), grid_parts(x) if isinstance(x, fx.Node) else None
    if decoded is None or grid is None or decoded[0].meta["val"].dtype is not torch.int8:
        return None
    if decoded[0].meta["val"].dim() != (2 if window is None else 2 + len(window["kernel"])):
        return None
    if window is not None and (isinstance(grid[2], fx.Node) or len(decoded[0].users) > 1):
        return None
    return _Layer(*decoded, *grid, bias, window)


def _decoded(program: Program, node: Any) -> tuple[fx.Node, fx.Node] | None:
    """(codes, scale) of a constant that is nothing but the one times the other."""
    product = uncast(node) if isinstance(node, fx.Node) else None
    if product is None or product.target is not aten.mul.Tensor:
        return None
    cast, scale = product.args
    if not isinstance(cast, fx.Node) or cast.target is not aten.to.dtype or not isinstance(scale, fx.Node):
        return None
    codes = cast.args[0]
    if not isinstance(codes, fx.Node) or program.value(codes) is None or program.value(scale) is None:
        return None
    return codes, scale


def _never_saturates(program: Program, codes: fx.Node) -> bool:
    return saturation.fits(to_array(program.tensors[str(program.target(codes))]))


def _fixed(codes: fx.Node) -> bool:
    """Whether codes can't be made wider, as they are a table that others read too."""
    return len(codes.users) > 1 and any(size % _BLOCK for size in codes.meta["val"].shape)


# From the decoded weight and the fake-quantised input to a sum of integers.


def _write(program: Program, node: fx.Node, layer: _Layer, padded: bool, shared: dict[Any, fx.Node]) -> None:
    call, before = program.call, set(program.graph.nodes)
    shift = 0 if layer.signed else _SHIFT
    outputs = node.meta["val"].shape[-1 if layer.window is None else 1]
    with program.graph.inserting_before(node):
        zero = layer.zero
        if isinstance(zero, fx.Node):
            key = (layer.rounded, "zero")
            zero = shared[key] if key in shared else call(aten.sub.Tensor, zero, shift)
            shared[key] = zero
        else:
            zero = zero - shift
        q = _codes_of_input(program, layer.rounded, zero, shared)
        rows = q
        if layer.window is not None:
            q = apply(program, q, patch_steps(layer.window, zero))
            codes = in_rows(program.tensors[str(program.target(layer.codes))])
            _set(program, layer.codes, codes)
            rows = call(aten.reshape.default, q, [-1, codes.shape[1]])
            rows = call(aten.contiguous.default, rows)  # patches may overlap in memory, which the kernel does not expect
        leading = node.meta["val"].dim() - 1
        sizes = [n if isinstance(n, int) else call(aten.sym_size.int, q, i) for i, n in enumerate(q.meta["val"].shape[:leading])]
        offset, bias = _offset(program, layer, zero, outputs, rows.meta["val"].shape[-1])
        y = _product(program, rows, layer.codes, outputs, padded)
        y = y if offset is None else call(aten.add.Tensor, y, offset)
        scale = call(aten.mul.Tensor, call(aten.reshape.default, layer.scale, [-1]), layer.step)
        y = call(aten.mul.Tensor, y, scale)
        y = y if bias is None else call(aten.add.Tensor, y, bias)
        y = y if len(sizes) == 1 else call(aten.reshape.default, y, [*sizes, outputs])
        if layer.window is not None:
            y = call(aten.permute.default, y, channels_second(len(sizes)))
        dtype = node.meta["val"].dtype
        y = y if y.meta["val"].dtype is dtype else call(aten.to.dtype, y, dtype)
    for made in program.graph.nodes:
        if made not in before and "nn_module_stack" in node.meta:
            made.meta["nn_module_stack"] = node.meta["nn_module_stack"]
    _replace(program, node, y)


def _offset(program: Program, layer: _Layer, zero: Any, outputs: int, inputs: int) -> tuple[fx.Node | None, fx.Node | None]:
    """What is added to the sums of integers, and the bias that is still to be added to the result."""
    target = str(program.target(layer.codes))
    name = target.removesuffix("_codes")
    sums = program.tensors[target][:outputs, :inputs].sum(1, dtype=torch.int32)
    if isinstance(zero, fx.Node):
        less = program.call(aten.neg.default, program.call(aten.to.dtype, zero, torch.int32))
        return program.call(aten.mul.Tensor, program.add_tensor(f"{name}_sums", sums), less), layer.bias
    added = -int(zero) * sums
    of_bias = _on_product_grid(program, layer)
    if of_bias is not None:
        _set(program, of_bias, program.tensors[str(program.target(of_bias))] + added)
        return of_bias, None
    return program.add_tensor(f"{name}_offset", added) if added.any() else None, layer.bias


def _codes_of_input(program: Program, rounded: fx.Node, zero: Any, shared: dict[Any, fx.Node]) -> fx.Node:
    """The int8 codes, once for all the layers that read them."""
    if (rounded, zero) not in shared:
        with program.graph.inserting_before(zero.next if isinstance(zero, fx.Node) else rounded.next):
            q = program.call(aten.clamp.default, program.call(aten.add.Tensor, rounded, zero), -128, 127)
            shared[rounded, zero] = program.call(aten.to.dtype, q, torch.int8)
    return shared[rounded, zero]


def _product(program: Program, q: fx.Node, codes: fx.Node, outputs: int, padded: bool) -> fx.Node:
    """q (…, K) times the codes, transposed: (rows, outputs) int32."""
    call = program.call
    *leading, inputs = q.meta["val"].shape
    flat = q if len(leading) == 1 else call(aten.reshape.default, q, [-1, inputs])
    if not padded:
        return call(aten._int_mm.default, flat, call(aten.t.default, codes))
    rows = flat.meta["val"].shape[0]
    more = max(_ROWS - rows, 0) if isinstance(rows, int) else _ROWS - 1
    beside = -inputs % _BLOCK
    target = str(program.target(codes))
    if program.tensors[target].shape == (outputs, inputs):
        _set(program, codes, torch.nn.functional.pad(program.tensors[target], (0, beside, 0, -outputs % _BLOCK)))
    given = call(aten.constant_pad_nd.default, flat, [0, beside, 0, more]) if beside or more else flat
    y = call(aten._int_mm.default, given, call(aten.t.default, codes))
    y = call(aten.slice.Tensor, y, 1, 0, outputs) if outputs % _BLOCK else y
    if more:
        y = call(aten.slice.Tensor, y, 0, 0, rows if isinstance(rows, int) else call(aten.sym_size.int, flat, 0))
    return y


def _on_product_grid(program: Program, layer: _Layer) -> fx.Node | None:
    """The codes of a bias, where its grid is that of the products and nothing else reads them."""
    found = _decoded(program, layer.bias) if layer.bias is not None else None
    if found is None or found[0].meta["val"].dtype is not torch.int32 or len(found[0].users) > 1:
        return None
    of_weight, own = program.value(layer.scale), program.value(found[1])
    assert of_weight is not None and own is not None
    size = found[0].meta["val"].shape
    return found[0] if torch.equal(own.expand(size), (of_weight.reshape(-1) * layer.step).expand(size)) else None


# And back.


def _read(program: Program, last: fx.Node, records: dict[str, Any]) -> None:
    record, of_bias, window = records["weight"], records.get("bias"), records["weight"].get("window")
    shape = tuple(int(n) for n in record["shape"])
    outputs, inputs = shape[0], prod(shape[1:])
    shift = 0 if record["signed_activations"] else _SHIFT
    y = uncast(last)
    if window is not None:
        (y, _) = _arguments(y, aten.permute.default)
    y = _through(y, aten.reshape.default)
    bias: fx.Node | None = None
    if y.target is aten.add.Tensor:
        y, bias = y.args  # type: ignore[assignment]
    y, factor = _arguments(y, aten.mul.Tensor)
    flat, step = _arguments(factor, aten.mul.Tensor)
    (scale, _) = _arguments(flat, aten.reshape.default)
    offset: Any = None
    if y.target is aten.add.Tensor:
        y, offset = y.args  # type: ignore[assignment]
    given, transposed = _arguments(_through(_through(y, aten.slice.Tensor), aten.slice.Tensor), aten._int_mm.default)
    (codes,) = _arguments(transposed, aten.t.default)
    rows = _through(_through(_through(given, aten.constant_pad_nd.default), aten.contiguous.default), aten.reshape.default)
    q: Any = rows
    for _ in [] if window is None else patch_steps(window, 0):
        q = q.args[0]
    clamped = _arguments(_arguments(q, aten.to.dtype)[0], aten.clamp.default)[0]
    rounded, zero = _arguments(clamped, aten.add.Tensor)
    axis = -1 if window is None else 1
    assert (outputs, shape[1]) == (last.meta["val"].shape[axis], rounded.meta["val"].shape[axis])
    if window is not None:
        assert source_of(rows, patch_steps(window, zero)) is q and window["kernel"] == list(shape[2:])
    target = str(program.target(codes))
    own = program.tensors[target][:outputs, :inputs].contiguous()
    sums = own.sum(1, dtype=torch.int32)
    if isinstance(zero, fx.Node):
        zero, of_offset = zero.args[0], _arguments(offset, aten.mul.Tensor)[0]
        assert torch.equal(program.tensors[str(program.target(of_offset))], sums)
    else:
        added, zero = -int(zero) * sums, zero + shift
        known = "" if offset is None else str(program.target(offset))
        if of_bias is not None and known == of_bias["codes"]:
            scales = program.tensors[str(program.target(scale))] * step
            bias = _bias(program, last, offset, program.tensors[known] - added, scales, of_bias)
        else:
            assert torch.equal(added, program.tensors[known] if known else torch.zeros_like(sums))
    held = program.tensors[target]
    _set(program, codes, own if window is None else from_rows(own, shape))
    try:
        with program.graph.inserting_before(last):
            x = _on_grid(program, rounded, step, zero, not shift, last.meta["val"].dtype)
            weight = scaled(program, codes, scale, str(record["dtype"]))
            if window is None:
                layer = program.call(aten.linear.default, x, weight, *([] if bias is None else [bias]))
            else:
                padding = [after for _, after in window["padding"]]
                sizes = (window["stride"], padding, window["dilation"])
                layer = program.call(CONVOLUTIONS[len(padding)], x, weight, bias, *sizes)
    except Exception:
        _set(program, codes, held)
        raise
    _replace(program, last, layer)


def _on_grid(program: Program, rounded: fx.Node, step: Any, zero: Any, signed: bool, dtype: torch.dtype) -> fx.Node:
    """The value that `grids.dequantised` computes from the codes, with the nodes that do so already where there are some."""
    for user in rounded.users:
        end: Any = user
        for _ in range(3 if dtype is torch.float32 else 4):
            end = next((node for node in end.users if node.target is not aten.to.dtype or node.args[1] is not torch.int8), None)
            if end is None:
                break
        if end is not None and grid_parts(end) == (rounded, step, zero, signed):
            return end
    with program.graph.inserting_before(rounded.next):
        value = dequantised(program, rounded, step, zero, signed)
        return value if dtype is torch.float32 else program.call(aten.to.dtype, value, dtype)


def _bias(
    program: Program, last: fx.Node, codes: fx.Node, values: torch.Tensor, scales: torch.Tensor, record: dict[str, Any]
) -> fx.Node:
    """The bias that was added to the sum of integers, decoded; its scales are those of the products."""
    _set(program, codes, values)
    shape = values.shape if scales.numel() > 1 else ()
    scale = program.add_tensor(str(record["scale"]), scales.reshape(shape).contiguous())
    with program.graph.inserting_before(last):
        return scaled(program, codes, scale, str(record["dtype"]))


def _arguments(node: Any, target: Any) -> tuple[Any, ...]:
    assert isinstance(node, fx.Node) and node.target is target
    return node.args


def _through(node: fx.Node, target: Any) -> fx.Node:
    """What a node of that kind reads; another node itself."""
    source = node.args[0] if node.target is target else node
    assert isinstance(source, fx.Node)
    return source


def _set(program: Program, node: fx.Node, tensor: torch.Tensor) -> None:
    """Put another tensor behind a placeholder."""
    program.tensors[str(program.target(node))] = tensor
    with program.computing_shapes():
        node.meta["val"] = torch.empty(tuple(tensor.shape), dtype=tensor.dtype)


def _replace(program: Program, old: fx.Node, new: fx.Node) -> None:
    """`new` takes the place of `old`, its readers and its name."""
    name = old.name
    program.replace_uses(old, new)
    program.graph.erase_node(old)
    rename(program, new, name)
