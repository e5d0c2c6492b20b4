"""Concrete shapes, for one sample, out of the symbolic ones that torch.export records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch
from torch import fx

from ...core.graph import Input, Shape
from .forms import dtype_name
from .program import Program

Bindings = Mapping[str, tuple[str, tuple[int, ...]]]  # input name → (dtype, dims)


class Shapes:
    """Every symbol's value: 1 for an input's first dimension, else the bound size, else the exported example's."""

    def __init__(self, program: Program, bindings: Bindings | None = None) -> None:
        self._values: dict[Any, int] = {}
        self._names: dict[Any, str] = {}
        for node in program.user_inputs():
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                continue
            bound = (bindings or {}).get(node.name, ("", ()))[1]
            for i, size in enumerate(value.shape):
                if not isinstance(size, torch.SymInt) or not size.node.expr.is_Symbol:
                    continue
                symbol = size.node.expr
                if i == 0:
                    self._names[symbol] = "batch"  # One sample of each input: they are of one size whatever the symbols say.
                    self._values[symbol] = 1
                elif len(bound) == value.dim() and bound[i] > 0:
                    self._values[symbol] = bound[i]
                else:
                    self._values.setdefault(symbol, _hint(size))

    def size(self, size: int | torch.SymInt) -> int | None:
        if not isinstance(size, torch.SymInt):
            return int(size)
        expression = size.node.expr.xreplace({symbol: sympy.Integer(value) for symbol, value in self._values.items()})
        return int(expression) if expression.is_number else None

    def concrete(self, value: Any) -> Shape | None:
        """The shape of a tensor for one sample; None if it depends on data."""
        if not isinstance(value, torch.Tensor):
            return None
        sizes = [self.size(size) for size in value.shape]
        return None if None in sizes else tuple(size for size in sizes if size is not None)

    def input(self, node: fx.Node) -> Input:
        """An input as users give it."""
        value = node.meta["val"]
        dims = tuple(self._dim(size) for size in value.shape)
        return Input(node.name, dtype_name(value.dtype), dims)

    def symbols(self) -> dict[str, str]:
        """The names of symbolic sizes that users see, by torch's."""
        return {str(symbol): name for symbol, name in self._names.items()}

    def _dim(self, size: int | torch.SymInt) -> int | str:
        if not isinstance(size, torch.SymInt):
            return int(size)
        return self._names.get(size.node.expr, str(size.node.expr))


def _hint(size: torch.SymInt) -> int:
    try:
        hint = size.node.hint
    except Exception:  # No hint travels with some loaded programs; torch has no narrower error for it.
        hint = None
    return int(hint) if hint is not None else 1
