"""A pass outside the repository: each weight becomes its sign times the mean magnitude of its channel."""

from dataclasses import dataclass, field

import numpy as np

from modelkit.core.forms import Quantized


@dataclass(frozen=True)
class SignOptions:
    bits: int = field(default=2, metadata={"bounds": (2, 8), "help": "bits that hold a sign"})
    gain: float = field(default=1.0, metadata={"bounds": (0.1, 10.0), "help": "factor of every magnitude"})


class Signs:
    summary = "signs with one magnitude per channel"
    Options = SignOptions

    def __init__(self, options):
        self.options = options

    def skip(self, layer):
        return layer.skip or (None if layer.kind == "linear" else "signs are for linear layers")

    def compress(self, layer, weight):
        scale = self.options.gain * np.abs(weight).mean(1, keepdims=True)
        return Quantized(np.where(weight < 0, -1, 1).astype(np.int8), scale.astype(np.float32), self.options.bits)
