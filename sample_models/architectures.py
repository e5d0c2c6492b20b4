"""The sample models' networks. State dicts open from the repository root with `--arch sample_models.architectures:<factory>`."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


def mnist_mlp() -> nn.Sequential:
    """784-128-10 perceptron. Input (N, 784), output (N, 10)."""
    return nn.Sequential(OrderedDict(hidden=nn.Linear(784, 128), relu=nn.ReLU(), classifier=nn.Linear(128, 10)))


class CifarCNN(nn.Module):
    """Conv32-pool-Conv64-pool-Conv64-Dense64-10. Input (N, 3, 32, 32), output (N, 10).

    `training_aids` adds batch norm and dropout; `CifarCNN.plain` folds them away again.
    """

    def __init__(self, training_aids: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.dense = nn.Linear(64 * 8 * 8, 64)
        self.classifier = nn.Linear(64, 10)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in (32, 64, 64)]) if training_aids else None
        self.dropout = nn.Dropout(0.25) if training_aids else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        convolutions = (self.conv1, self.conv2, self.conv3)
        for i, convolution in enumerate(convolutions):
            x = convolution(x)
            if self.norms is not None:
                x = self.norms[i](x)
            x = torch.relu(x)
            if i < 2:
                x = torch.max_pool2d(x, 2)
        x = torch.relu(self.dense(self.dropout(torch.flatten(x, 1))))
        return self.classifier(self.dropout(x))

    def plain(self) -> CifarCNN:
        """The same function in evaluation mode, without batch norm and dropout."""
        bare = CifarCNN()
        bare.load_state_dict(self.state_dict(), strict=False)
        for name, norm in zip(("conv1", "conv2", "conv3"), self.norms or (), strict=False):
            assert isinstance(norm, nn.BatchNorm2d)
            setattr(bare, name, nn.utils.fuse_conv_bn_eval(getattr(self, name).eval(), norm.eval()))
        return bare.eval()


def cifar_cnn() -> CifarCNN:
    """The network of `cifar-cnn`."""
    return CifarCNN()


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + two 3x3 convolutions with batch norm), He et al. 2016, https://arxiv.org/abs/1512.03385."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network without a pooling stem. `stages` is one (channels, blocks, stride of the first block) each.

    Input (N, channels_in, H, W), output (N, classes).
    """

    def __init__(self, channels_in: int, stages: tuple[tuple[int, int, int], ...], classes: int = 10) -> None:
        super().__init__()
        width = stages[0][0]
        self.stem = nn.Conv2d(channels_in, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        for channels, count, stride in stages:
            for i in range(count):
                blocks.append(ResidualBlock(width, channels, stride if i == 0 else 1))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.classifier(x.mean((2, 3)))


def digits_resnet() -> ResNet:
    """Residual network for 8x8 grey images, input (N, 1, 8, 8): wide enough that convolutions take the time, not overheads."""
    return ResNet(1, ((32, 2, 1), (64, 2, 1), (128, 1, 2)))
