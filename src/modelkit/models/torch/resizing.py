"""Operators that state sizes, rewritten for tensors whose axes got shorter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from ...core.channels import Cut, new_places, padding
from ...core.errors import ModelkitError
from ...core.forms import Array
from ...core.graph import Shape
from .graph import View
from .operators import base_name
from .program import Program, arguments, is_getitem, set_argument
from .shapes import Shapes

aten = torch.ops.aten


class Resizer:
    """Changes operators in place, one at a time."""

    def __init__(self, program: Program, view: View, shapes: Shapes, cut: Cut) -> None:
        self.program, self.graph, self.cut = program, view.graph, cut
        self._shapes = shapes
        self._rules: dict[str, Callable[[fx.Node], None]] = {
            "unflatten": self._unflatten,
            "split": self._split,
            "split_with_sizes": self._split,
            "chunk": self._split,
            "slice": self._slice,
            "narrow": self._slice,
            "select": self._select,
            "index_select": self._index_select,
            "index": self._index,
            "pad": self._pad,
            "constant_pad_nd": self._pad,
            "layer_norm": self._normalized,
            "native_layer_norm": self._normalized,
            "rms_norm": self._normalized,
            "_fused_rms_norm": self._normalized,
            "native_group_norm": self._group_norm,
        }

    def state(self, node: fx.Node, names: Sequence[str], value: int) -> None:
        """Let an operator state a count, under whichever of these names it has."""
        name = next((name for name in names if name in arguments(node)), None)
        if name is not None:
            set_argument(node, name, value)

    def restate(self, node: fx.Node) -> None:
        """Let an operator whose inputs or outputs get shorter state the new sizes."""
        touched = [
            node.name,
            *(item.name for item in node.all_input_nodes),
            *(user.name for user in node.users if is_getitem(user)),
        ]
        if not any(name in self.cut.edges for name in touched):
            return
        rule = self._rules.get(base_name(node))
        if rule is not None:
            rule(node)
            return
        if node.name in self.cut.edges:
            for name in ("size", "shape"):
                if isinstance(arguments(node).get(name), list | tuple):
                    self._sizes(node, name)

    def _old(self, node: fx.Node) -> Shape:
        return self.graph.shape(node.name) or ()

    def _new(self, node: fx.Node) -> Shape:
        return self.cut.shape(node.name, self._old(node))

    def _sizes(self, node: fx.Node, name: str) -> None:
        """A list that is the shape of the output; of an expand, its −1 keep."""
        old, new = self._old(node), self._new(node)
        sizes = list(arguments(node)[name])
        for axis, entry in enumerate(sizes):
            if entry == -1 or old[axis] == new[axis] and isinstance(entry, int):
                continue
            if isinstance(entry, int):
                sizes[axis] = new[axis]
            elif old[axis] != new[axis]:
                sizes[axis] = self._scaled(node, entry, new[axis], old[axis])
        set_argument(node, name, sizes)

    def _scaled(self, node: fx.Node, entry: fx.Node, new: int, old: int) -> Any:
        """A computed size times new / old: the batch may be in it."""
        common = int(np.gcd(new, old))
        with self.program.graph.inserting_before(node):
            up = self.program.call(operator.mul, entry, new // common)
            return self.program.call(operator.floordiv, up, old // common)

    def _unflatten(self, node: fx.Node) -> None:
        values = arguments(node)
        source = values["self"]
        axis = values["dim"] % len(self._old(source))
        sizes = list(values["sizes"])
        for i, entry in enumerate(sizes):
            if isinstance(entry, int) and entry != -1:
                sizes[i] = self._new(node)[axis + i]
        set_argument(node, "sizes", sizes)

    def _split(self, node: fx.Node) -> None:
        values = arguments(node)
        source = values["self"]
        axis = values["dim"] % len(self._old(source))
        if axis not in self.cut.edges.get(source.name, {}):
            return
        parts = {int(user.args[1]): self._new(user)[axis] for user in node.users if is_getitem(user)}  # type: ignore[arg-type]
        whole = self._old(source)[axis]
        step = values.get("split_size", -(-whole // values["chunks"]) if "chunks" in values else 0)
        starts = np.cumsum([0, *values["split_sizes"]]) if "split_sizes" in values else np.arange(0, whole + step, step)
        kept = self.cut.edges[source.name][axis]
        sizes = [
            parts.get(i, int(((kept >= start) & (kept < end)).sum()))
            for i, (start, end) in enumerate(zip(starts, starts[1:], strict=False))
        ]
        node.target = aten.split_with_sizes.default
        node.args, node.kwargs = (source, sizes, axis), {}

    def _slice(self, node: fx.Node) -> None:
        """Bounds among the positions that are left; a look-up of positions where those lie no longer at even distances."""
        values = arguments(node)
        source = values["self"]
        axis = values["dim"] % len(self._old(source))
        kept = self.cut.edges.get(source.name, {}).get(axis)
        if kept is None:
            return
        size = self._old(source)[axis]
        if "length" in values:
            start, end, step = values["start"], values["start"] + values["length"], 1
        else:
            start, end, step = values["start"] or 0, size if values["end"] is None else values["end"], values["step"]
        start, end = self._number(node, start), self._number(node, end)
        places = new_places(kept, np.arange(size)[slice(start, end, step)])
        if len(places) and (np.diff(places) == 1).all():
            node.target = aten.slice.Tensor
            node.args, node.kwargs = (source, axis, int(places[0]), int(places[-1]) + 1), {}
        else:
            self._look_up(node, source, axis, places)

    def _number(self, node: fx.Node, value: Any) -> int:
        size = value if isinstance(value, int) else self._shapes.size(value.meta["val"])
        if size is None:
            raise _unsupported(node)
        return size

    def _look_up(self, node: fx.Node, source: fx.Node, axis: int, places: Array) -> None:
        index = self.program.add_tensor(f"{node.name}_places", torch.from_numpy(places.astype(np.int64)))
        node.target = aten.index_select.default
        node.args, node.kwargs = (source, axis, index), {}

    def _select(self, node: fx.Node) -> None:
        values = arguments(node)
        axis = values["dim"] % len(self._old(values["self"]))
        kept = self.cut.edges.get(values["self"].name, {}).get(axis)
        if kept is not None:
            index = self._number(node, values["index"]) % self._old(values["self"])[axis]
            set_argument(node, "index", int(np.searchsorted(kept, index)))

    def _index_select(self, node: fx.Node) -> None:
        values = arguments(node)
        axis = values["dim"] % len(self._old(values["self"]))
        kept = self.cut.edges.get(values["self"].name, {}).get(axis)
        if kept is not None:
            self._look_up(node, values["self"], axis, new_places(kept, self._index_value(node, values["index"])))

    def _index(self, node: fx.Node) -> None:
        """x[:, index]: one constant vector along the axis that gets shorter."""
        values = arguments(node)
        source, indices = values["self"], list(values["indices"])
        for axis, kept in self.cut.edges.get(source.name, {}).items():
            if axis >= len(indices) or indices[axis] is None:
                continue
            if sum(index is not None for index in indices) > 1:
                raise _unsupported(node)
            places = new_places(kept, self._index_value(node, indices[axis]))
            with self.program.graph.inserting_before(node):
                indices[axis] = self.program.add_tensor(f"{node.name}_places", torch.from_numpy(places.astype(np.int64)))
            set_argument(node, "indices", indices)

    def _index_value(self, node: fx.Node, index: fx.Node) -> Array:
        from .constants import Constants

        constants = Constants(self.program)
        if not constants.holds(index):
            raise _unsupported(node)
        return constants.value(index).numpy()

    def _pad(self, node: fx.Node) -> None:
        values = arguments(node)
        source, pads = values["self"], list(values["pad"])
        old, out, rank = self._old(source), self._old(node), len(self._old(source))
        for i in range(len(pads) // 2):
            axis = rank - 1 - i
            pads[2 * i], pads[2 * i + 1] = padding(
                pads[2 * i], pads[2 * i + 1], old[axis], self.cut.edges.get(source.name, {}).get(axis),
                out[axis], self.cut.edges.get(node.name, {}).get(axis),
            )  # fmt: skip
        set_argument(node, "pad", pads)

    def _normalized(self, node: fx.Node) -> None:
        count = len(arguments(node)["normalized_shape"])
        set_argument(node, "normalized_shape", list(self._new(node.all_input_nodes[0])[-count:]))

    def _group_norm(self, node: fx.Node) -> None:
        set_argument(node, "C", self._new(node.all_input_nodes[0])[1])


def _unsupported(node: fx.Node) -> ModelkitError:
    return ModelkitError(
        f"The sizes that {base_name(node)} {node.name} states can't be restated for fewer channels.",
        f"Leave the layers around {node.name} out with --ignore.",
    )
