"""Small networks, each with one way in which channels depend on each other, and the groups that it must have.

The groups are given as (units, exact), sorted: which layers they join follows from how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Structure:
    """`shape`: of the input, without the batch."""

    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    groups: list[tuple[int, bool]]

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.module().eval()
            for parameter in module.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
        return module


STRUCTURES: dict[str, Structure] = {}


def structure(shape, groups):
    def noted(module):
        STRUCTURES[module.__name__] = Structure(module, shape, groups)
        return module

    return noted
