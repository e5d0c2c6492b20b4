"""Keep the length of a sequence symbolic through torch's recurrent operators while a program is traced.

For tracing, torch unrolls LSTM, GRU and RNN step by step only to learn the shapes of their results, which fixes the length
(and takes seconds). Their shapes are known without that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._decomp import decomposition_table


def _shapes(
    x: torch.Tensor,
    hidden: Any,
    _params: Any,
    _biases: bool,
    _layers: int,
    _dropout: float,
    _train: bool,
    both: bool,
    first: bool,
) -> Any:
    """(…, directions · hidden) outputs, and final states shaped as the initial ones; aten's argument order."""
    states = list(hidden) if isinstance(hidden, (list, tuple)) else [hidden]
    outputs = x.new_empty((x.shape[0], x.shape[1], states[0].shape[-1] * (2 if both else 1)))
    return (outputs, *[torch.empty_like(state) for state in states])


KEPT_BY_ONNX = (torch.ops.aten.lstm.input, torch.ops.aten.gru.input)  # that torch's ONNX exporter knows as they are
RECURRENT = (*KEPT_BY_ONNX, torch.ops.aten.rnn_tanh.input, torch.ops.aten.rnn_relu.input)


@contextmanager
def symbolic_recurrent_lengths(operators: Sequence[Any] = RECURRENT) -> Iterator[None]:
    """Inside, tracing `operators` does not fix the number of steps. Their real kernels are untouched; they must stay as they are
    in what is traced, for whatever they would be decomposed into computes nothing here."""
    kernels = {operator: dict(operator.py_kernels) for operator in operators}
    decompositions: dict[Any, Any] = {
        operator: decomposition_table[operator] for operator in operators if operator in decomposition_table
    }
    for operator in operators:  # export asks the kernels, and decomposing an exported program the table
        operator.py_kernels.update(dict.fromkeys(operator.py_kernels, _shapes))
        operator._dispatch_cache.clear()
    decomposition_table.update(dict.fromkeys(decompositions, _shapes))
    try:
        yield
    finally:
        decomposition_table.update(decompositions)
        for operator in operators:
            operator.py_kernels.update(kernels[operator])
            operator._dispatch_cache.clear()
