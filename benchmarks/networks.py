"""The networks of the benchmark: of the ResNet and MobileNetV2 families, and a sentence encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sample_models.architectures import ResidualBlock, ResNet


def resnet20() -> ResNet:
    """ResNet-20 for CIFAR, He et al. 2016, section 4.2 (projection shortcuts). Input (N, 3, 32, 32)."""
    return ResNet(3, ((16, 3, 1), (32, 3, 2), (64, 3, 2)))


def resnet56() -> ResNet:
    """ResNet-56 for CIFAR, of the same section. 126 million multiply-accumulates."""
    return ResNet(3, ((16, 9, 1), (32, 9, 2), (64, 9, 2)))


def resnet18(classes: int = 10) -> nn.Sequential:
    """ResNet-18 with the ImageNet stem, He et al. 2016, table 1. Input (N, 3, H, W), made for 224x224."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for channels in (64, 128, 256, 512):
        layers += [ResidualBlock(width, channels, 1 if channels == 64 else 2), ResidualBlock(channels, channels, 1)]
        width = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; Sandler et al. 2018, https://arxiv.org/abs/1801.04381."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(channels_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


def mobilenetv2() -> nn.Sequential:
    """MobileNetV2 narrowed for CIFAR, about 0.5M parameters. Input (N, 3, 32, 32)."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 1), (6, 64, 3, 2), (6, 96, 3, 1))  # expansion, channels, blocks, stride
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    width = 32
    for expansion, channels, blocks, stride in stages:
        for i in range(blocks):
            layers.append(InvertedResidual(width, channels, stride if i == 0 else 1, expansion))
            width = channels
    layers += [nn.Conv2d(width, 384, 1, bias=False), nn.BatchNorm2d(384), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(384, 10))


class SentenceEncoder(nn.Module):
    """A BERT-type encoder with the mean of the unmasked tokens, of length 1, as sentence-transformers computes it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (N, tokens) int64; returns embeddings (N, width)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[:, :, None].to(states.dtype)
        return F.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)


def mirrored(x: Tensor, size: int, scale: int = 2) -> Tensor:
    """Images (N, C, H, W) enlarged `scale` times, then continued by mirroring to `size` x `size`.

    So a network trained on the enlarged image alone meets objects of the same size at the full resolution.
    """
    x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    side = x.shape[-1]
    period = torch.arange(size) % (2 * side)
    index = torch.where(period < side, period, 2 * side - 1 - period)
    return x[:, :, index][:, :, :, index]
