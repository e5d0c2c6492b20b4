"""Random networks as torch modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .writer import Value


class TorchWriter(nn.Module):
    """Collects steps, and runs them as a module."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.steps: list[Callable[[list[Tensor]], Tensor | tuple[Tensor, ...]]] = []
        self.input = Value(0, shape)
        self.output = self.input
        self.count = 1  # values so far
        self.held = nn.ParameterList()
        self._known: dict[tuple, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            made = step(values)
            values.extend(made if isinstance(made, tuple) else (made,))
        return values[self.output.key]

    def tensor(self, array) -> int:
        key = (array.tobytes(), array.shape)
        if key not in self._known:
            self._known[key] = len(self.held)
            self.held.append(nn.Parameter(torch.from_numpy(array.copy())))
        return self._known[key]

    def step(self, shape: tuple[int, ...], run) -> Value:
        self.steps.append(run)
        self.count += 1
        return Value(self.count - 1, shape)

    def conv(self, x, weight, bias, groups):
        w, b, pad = self.tensor(weight), None if bias is None else self.tensor(bias), weight.shape[2] // 2
        return self.step(
            (weight.shape[0], *x.shape[1:]),
            lambda v: F.conv2d(v[x.key], self.held[w], None if b is None else self.held[b], padding=pad, groups=groups),
        )

    def transposed_conv(self, x, weight, groups):
        w = self.tensor(weight)
        shape = (weight.shape[1] * groups, *(2 * n for n in x.shape[1:]))
        return self.step(shape, lambda v: F.conv_transpose2d(v[x.key], self.held[w], stride=2, groups=groups))

    def linear(self, x, weight, bias):
        w, b = self.tensor(weight), None if bias is None else self.tensor(bias)
        return self.step(
            (*x.shape[:-1], len(weight)), lambda v: F.linear(v[x.key], self.held[w], None if b is None else self.held[b])
        )

    def batch_norm(self, x, weight, bias, mean, variance):
        w, b, m, s = (self.tensor(array) for array in (weight, bias, mean, variance))
        held = self.held
        return self.step(x.shape, lambda v: F.batch_norm(v[x.key], held[m], held[s], held[w], held[b]))

    def activation(self, x, name):
        return self.step(x.shape, lambda v: getattr(torch, name)(v[x.key]))

    def add(self, a, b):
        return self.step(tuple(torch.broadcast_shapes(a.shape, b.shape)), lambda v: v[a.key] + v[b.key])

    def mul(self, a, b):
        return self.step(tuple(torch.broadcast_shapes(a.shape, b.shape)), lambda v: v[a.key] * v[b.key])

    def scale(self, x, factor):
        f = self.tensor(factor)
        return self.step(x.shape, lambda v: v[x.key] * self.held[f])

    def concat(self, values, axis):
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.step(tuple(shape), lambda v: torch.cat([v[value.key] for value in values], axis + 1))

    def split(self, x, sizes, axis):
        self.steps.append(lambda v: tuple(torch.split(v[x.key], sizes, axis + 1)))
        self.count += len(sizes)
        keys = range(self.count - len(sizes), self.count)
        return [Value(key, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for key, size in zip(keys, sizes, strict=True)]

    def reshape(self, x, shape):
        return self.step(shape, lambda v: v[x.key].reshape(v[x.key].shape[0], *shape))

    def transpose(self, x, order):
        return self.step(tuple(x.shape[i] for i in order), lambda v: v[x.key].permute(0, *(i + 1 for i in order)))

    def matmul(self, a, b):
        return self.step((*a.shape[:-1], b.shape[-1]), lambda v: v[a.key] @ v[b.key])

    def softmax(self, x):
        return self.step(x.shape, lambda v: v[x.key].softmax(-1))

    def mean(self, x, axes, keep):
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
        return self.step(shape, lambda v: v[x.key].mean([i + 1 for i in axes], keepdim=keep))

    def slice(self, x, axis, start, end, step):
        index = (slice(None), *[slice(None)] * axis, slice(start, end, step))
        return self.step((*x.shape[:axis], len(range(start, end, step)), *x.shape[axis + 1 :]), lambda v: v[x.key][index])

    def pad(self, x, axis, before, after):
        pads = [0, 0] * (len(x.shape) - 1 - axis) + [before, after]
        return self.step((*x.shape[:axis], x.shape[axis] + before + after, *x.shape[axis + 1 :]), lambda v: F.pad(v[x.key], pads))
