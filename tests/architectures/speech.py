"""A recurrent speech recogniser in the manner of Deep Speech 2 (Amodei et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import Inputs

MELS = 40
LETTERS = 29


def log_mels(batch: int) -> Inputs:
    """Log-mel frames (batch, 32, 40)."""
    return {"frames": torch.randn(batch, 32, MELS)}


class LSTMSpeech(nn.Module):
    """Strided Conv1d, a bidirectional two-layer LSTM and letter log-probabilities (batch, 16, 29)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.conv = nn.Conv1d(MELS, 64, 5, stride=2, padding=2)
        self.lstm = nn.LSTM(64, width, num_layers=2, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * width, LETTERS)

    def forward(self, frames: Tensor) -> Tensor:
        x = torch.relu(self.conv(frames.transpose(1, 2))).transpose(1, 2)
        x, _ = self.lstm(x)
        return torch.log_softmax(self.output(x), dim=-1)
