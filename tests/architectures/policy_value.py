"""A board-game network with two heads (Silver et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import Inputs
from .convolutional import Residual

MOVES = 65


def boards(batch: int) -> Inputs:
    return {"planes": torch.randn(batch, 4, 8, 8)}


class PolicyValue(nn.Module):
    """Move logits (batch, 65) and the expected result (batch, 1) from one residual trunk."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(4, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Residual(width, width, 1),
            Residual(width, width, 1),
        )
        self.policy = nn.Sequential(
            nn.Conv2d(width, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(128, MOVES)
        )
        self.value = nn.Sequential(
            nn.Conv2d(width, 1, 1, bias=False),
            nn.BatchNorm2d(1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
            nn.Tanh(),
        )

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(planes)
        return self.policy(x), self.value(x)
