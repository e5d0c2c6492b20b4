"""A random network: blocks that keep (channels, height, width) or change the channels, then pooling and a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .writer import Value, Writer

SIDE = 4


class Composer:
    """Draws blocks and their weights; the same seed gives the same network to every writer."""

    def __init__(self, rng: np.random.Generator, writer: Writer, activations: Sequence[str]) -> None:
        self.rng, self.write, self.activations = rng, writer, activations

    def numbers(self, *shape: int) -> np.ndarray:
        fan = int(np.prod(shape[1:])) or 1
        return (self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    def width(self) -> int:
        return 4 * int(self.rng.integers(1, 5))

    def conv(self, x: Value, out: int, kernel: int = 3, groups: int = 1) -> Value:
        bias = self.numbers(out) if self.rng.random() < 0.5 else None
        return self.write.conv(x, self.numbers(out, x.shape[0] // groups, kernel, kernel), bias, groups)

    def norm(self, x: Value) -> Value:
        n = x.shape[0]
        positive = self.rng.uniform(0.5, 1.5, (2, n)).astype(np.float32)
        return self.write.batch_norm(x, positive[0], self.numbers(n), self.numbers(n), positive[1])

    def act(self, x: Value) -> Value:
        return self.write.activation(x, str(self.rng.choice(self.activations)))

    # Blocks: (channels, side, side) to the same, with other channels or not

    def plain(self, x: Value) -> Value:
        return self.act(self.norm(self.conv(x, self.width())))

    def residual(self, x: Value) -> Value:
        inner = self.act(self.conv(x, self.width()))
        out = self.conv(inner, x.shape[0])
        side = self.conv(x, x.shape[0], 1) if self.rng.random() < 0.3 else x
        return self.write.add(*((out, side) if self.rng.random() < 0.5 else (side, out)))

    def dense(self, x: Value) -> Value:
        parts = [x, self.conv(self.act(x), 4)]
        return self.write.concat(parts if self.rng.random() < 0.5 else parts[::-1], 0)

    def inception(self, x: Value) -> Value:
        return self.act(
            self.write.concat([self.conv(x, self.width(), k) for k in (1, 3)] + ([x] if self.rng.random() < 0.3 else []), 0)
        )

    def depthwise(self, x: Value) -> Value:
        n = x.shape[0]
        out = n * int(self.rng.integers(1, 3))
        return self.conv(self.act(self.conv(x, out, 3, groups=n)), self.width(), 1)

    def grouped(self, x: Value) -> Value:
        groups = int(self.rng.choice([g for g in (2, 4) if x.shape[0] % g == 0] or [1]))
        return self.act(self.conv(x, self.width(), 3, groups=groups))

    def shuffle(self, x: Value) -> Value:
        n, groups = x.shape[0], int(self.rng.choice([2, 4]))
        if n % groups:
            return x
        y = self.write.reshape(x, (groups, n // groups, SIDE, SIDE))
        return self.write.reshape(self.write.transpose(y, (1, 0, 2, 3)), (n, SIDE, SIDE))

    def halves(self, x: Value) -> Value:
        n = x.shape[0]
        first = int(self.rng.choice([n // 2, n // 4]))
        a, b = self.write.split(x, [first, n - first], 0)
        b = self.conv(b, b.shape[0])
        return self.write.concat([a, b], 0)

    def gated(self, x: Value) -> Value:
        """Two halves of one convolution, one of which gates the other."""
        n = self.width()
        a, b = self.write.split(self.conv(x, 2 * n), [n, n], 0)
        return self.write.mul(a, self.write.activation(b, "sigmoid"))

    def squeeze(self, x: Value) -> Value:
        pooled = self.write.mean(x, (1, 2), True)
        gate = self.conv(self.act(self.conv(pooled, 4, 1)), x.shape[0], 1)
        return self.write.mul(x, self.write.activation(gate, "sigmoid"))

    def strided(self, x: Value) -> Value:
        """Every other channel, or a run of them."""
        n = x.shape[0]
        step = int(self.rng.choice([1, 2]))
        return self.conv(self.write.slice(x, 0, int(self.rng.integers(0, n // 2)), n, step), self.width(), 1)

    def padded(self, x: Value) -> Value:
        """A shortcut with channels of zeros."""
        before, after = (int(n) for n in self.rng.integers(0, 3, 2))
        wide = self.write.pad(x, 0, before, after)
        return self.write.add(wide, self.conv(x, wide.shape[0]))

    def attention(self, x: Value) -> Value:
        """Tokens of all positions; a key and value head may serve several query heads."""
        heads, dim = int(self.rng.choice([2, 4])), 4
        shared = int(self.rng.choice([heads, heads // 2]))
        n, length, write = x.shape[0], SIDE * SIDE, self.write
        tokens = write.transpose(write.reshape(x, (n, length)), (1, 0))
        if self.rng.random() < 0.5 and shared == heads:
            fused = self.linear(tokens, 3 * heads * dim)
            parts = write.split(fused, [heads * dim] * 3, 1)
        else:
            parts = [self.linear(tokens, count * dim) for count in (heads, shared, shared)]
        q, k, v = (write.transpose(write.reshape(part, (length, part.shape[1] // dim, dim)), (1, 0, 2)) for part in parts)
        if shared < heads:
            k, v = (self.repeated(part, heads // shared) for part in (k, v))
        scores = write.softmax(write.matmul(q, write.transpose(k, (0, 2, 1))))
        mixed = write.reshape(write.transpose(write.matmul(scores, v), (1, 0, 2)), (length, heads * dim))
        out = write.transpose(self.linear(mixed, n), (1, 0))
        return write.add(x, write.reshape(out, (n, SIDE, SIDE)))

    def repeated(self, x: Value, times: int) -> Value:
        """(heads, length, dim) with each head `times` times in a row."""
        heads, length, dim = x.shape
        y = self.write.concat([self.write.reshape(x, (heads, 1, length, dim))] * times, 1)
        return self.write.reshape(y, (heads * times, length, dim))

    def linear(self, x: Value, out: int) -> Value:
        bias = self.numbers(out) if self.rng.random() < 0.5 else None
        return self.write.linear(x, self.numbers(out, x.shape[-1]), bias)

    def flat(self, x: Value) -> Value:
        """Through a linear layer over everything, and back."""
        n = x.shape[0]
        y = self.linear(self.write.reshape(x, (n * SIDE * SIDE,)), 8)
        out = self.width()
        return self.write.reshape(self.linear(self.act(y), out * SIDE * SIDE), (out, SIDE, SIDE))

    def scaled(self, x: Value) -> Value:
        return self.write.scale(x, self.numbers(x.shape[0], 1, 1))

    def twice(self, x: Value) -> Value:
        """One layer in two places."""
        weight = self.numbers(x.shape[0], x.shape[0], 3, 3)
        return self.write.conv(self.act(self.write.conv(x, weight, None, 1)), weight, None, 1)

    def back_and_forth(self, x: Value) -> Value:
        """Up by a transposed convolution, and down again by picking every other pixel."""
        groups = int(self.rng.choice([g for g in (1, 2, 4) if x.shape[0] % g == 0]))
        weight = self.numbers(x.shape[0], self.width() // groups, 2, 2)
        y = self.write.transposed_conv(x, weight, groups)
        y = self.write.slice(y, 1, 0, 2 * SIDE, 2)
        return self.write.slice(y, 2, 0, 2 * SIDE, 2)


BLOCKS = (
    "plain residual dense inception depthwise grouped shuffle halves gated squeeze strided padded attention flat scaled twice "
    "back_and_forth"
).split()


def compose(
    seed: int, writer: Writer, x: Value, classes: int = 5, activations: Sequence[str] = ("relu", "sigmoid", "tanh")
) -> Value:
    """Three to six random blocks on `x` (channels, SIDE, SIDE) and a classifier."""
    rng = np.random.default_rng(seed)
    composer = Composer(rng, writer, activations)
    x = composer.conv(x, composer.width())
    for name in rng.choice(BLOCKS, int(rng.integers(3, 7))):
        x = getattr(composer, name)(x)
    if rng.random() < 0.5:
        x = writer.mean(x, (1, 2), False)
    else:
        x = writer.reshape(x, (x.shape[0] * SIDE * SIDE,))
    return composer.linear(x, classes)
