"""Image networks built of convolutions: VGG, ResNet, MobileNet, DenseNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import Inputs

CLASSES = 10


def images(batch: int) -> Inputs:
    """RGB images (batch, 3, 32, 32)."""
    return {"image": torch.randn(batch, 3, 32, 32)}


def vgg() -> nn.Module:
    """Plain stacks of 3x3 convolutions with biases, max pooling, a linear head with dropout (Simonyan and Zisserman, 2014)."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32, 64):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    head = [nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, CLASSES)]
    return Named(nn.Sequential(*layers, *head))


class Named(nn.Module):
    """A stack whose input is called `image`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.body(image)
        return output


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input, which a strided 1x1 convolution fits to the new shape."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet() -> nn.Module:
    """Residual blocks at three resolutions (He et al., 2015)."""
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 32, 1), Residual(32, 64, 2)]
    return Named(nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)))


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter depthwise, project without activation."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = channels * expansion
        self.body = nn.Sequential(
            *convolution(channels, hidden, 1),
            *convolution(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


def convolution(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(width), nn.ReLU6()]


def mobilenet() -> nn.Module:
    """Inverted residuals with depthwise convolutions and ReLU6 (Sandler et al., 2018)."""
    blocks = [InvertedResidual(16, 24, 2), InvertedResidual(24, 24, 1), InvertedResidual(24, 32, 2), InvertedResidual(32, 32, 1)]
    head = [*convolution(32, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES)]
    return Named(nn.Sequential(*convolution(3, 16, 3, stride=2), *blocks, *head))


class DenseLayer(nn.Module):
    """Pre-activated bottleneck and 3x3 convolution, whose output is concatenated to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


def densenet() -> nn.Module:
    """Two dense blocks with a halving transition between (Huang et al., 2016)."""
    growth = 12
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, padding=1, bias=False)]
    layers += [DenseLayer(24 + i * growth, growth) for i in range(3)]
    layers += [nn.BatchNorm2d(60), nn.ReLU(), nn.Conv2d(60, 30, 1, bias=False), nn.AvgPool2d(2)]
    layers += [DenseLayer(30 + i * growth, growth) for i in range(3)]
    layers += [nn.BatchNorm2d(66), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(66, CLASSES)]
    return Named(nn.Sequential(*layers))
