"""Keep the length of a sequence symbolic through torch's recurrent operators while a model is exported.

For tracing, torch unrolls LSTM, GRU and RNN step by step only to learn the shapes of their results, which fixes the length
(and takes seconds). Their shapes are known without that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


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


@contextmanager
def symbolic_recurrent_lengths() -> Iterator[None]:
    """Inside, tracing an LSTM, GRU or RNN does not fix the number of steps. The operators' real kernels are untouched."""
    aten = torch.ops.aten
    replaced: list[tuple[Any, dict[Any, Any]]] = []
    for operator in (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input):
        replaced.append((operator, dict(operator.py_kernels)))
        operator.py_kernels.update(dict.fromkeys(operator.py_kernels, _shapes))
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for operator, kernels in replaced:
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()
