"""A small convolutional network as torch sees it, for `--arch tests.cli.small_torch:network`."""

import torch
from torch import nn


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    model = nn.Sequential(*layers)
    nn.init.uniform_(model[1].running_mean, -0.2, 0.2)
    nn.init.uniform_(model[1].running_var, 0.5, 1.5)
    return model.eval()
