"""What an architecture of the zoo is: a seeded module and the inputs it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

SEED = 0
BATCH = 2

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Architecture:
    """A small random-weight network of a known family.

    `dynamic` says that its first input dimension is exported as a symbolic `batch`.
    """

    name: str
    module: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    dynamic: bool = True

    def build(self) -> nn.Module:
        """The module in eval mode; two calls give equal weights, and the caller's random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            module = self.module().eval()
            spread_weights(module)
        return module

    def example(self, batch: int = BATCH) -> Inputs:
        """Inputs by name, in the order `forward` takes them, each with `batch` as its first dimension."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED + 1)
            return self.inputs(batch)


@torch.no_grad()
def spread_weights(module: nn.Module) -> None:
    """Give weights unit gain and make norms, biases and running statistics non-trivial.

    Fresh initialisation hides mistakes: transformers start at std 0.02 (outputs near zero, so any absolute tolerance passes) and
    batch norm starts as the identity (so folding it wrongly changes nothing).
    """
    norms = {id(p) for m in module.modules() if "norm" in type(m).__name__.lower() for p in m.parameters(recurse=False)}
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.dim() >= 2:
            embedding = "embed" in name or "wte" in name or "wpe" in name
            fan_in = 1 if embedding else parameter[0].numel()
            parameter.normal_(0, 0.5 if embedding else (1.6 / fan_in) ** 0.5)
        elif id(parameter) in norms and name.endswith("weight"):
            parameter.uniform_(0.7, 1.3)
        elif parameter.dim() == 1:
            parameter.uniform_(-0.1, 0.1)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
