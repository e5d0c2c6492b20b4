"""Multiply-accumulates of well-known networks against the figures published for them, counted without allocating a weight.

Counted everywhere: convolutions, linear layers, and both products of attention; not: biases, norms, activations, softmax, pools.
"""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode

from modelkit.analysis.macs import total_macs
from modelkit.models.torch.model import TorchModel

# transformers is asked for whole models here, and builds them from configurations only.
transformers = pytest.importorskip("transformers")


def vgg16() -> nn.Module:
    """Configuration D of Simonyan and Zisserman 2015."""
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, *head)


class Logits(nn.Module):
    """The tensors of a transformers model, without its output class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model(x, return_dict=False)[0]


def images() -> torch.Tensor:
    return torch.zeros(1, 3, 224, 224)


def tokens() -> torch.Tensor:
    return torch.zeros(1, 128, dtype=torch.long)


def resnet50() -> nn.Module:
    return Logits(transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)))


def mobilenet_v2() -> nn.Module:
    return Logits(transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(num_labels=1000)))


def vit(attention: str) -> nn.Module:
    config = transformers.ViTConfig(num_labels=1000, attn_implementation=attention)
    return Logits(transformers.ViTForImageClassification(config))


def bert(attention: str) -> nn.Module:
    return Logits(transformers.BertModel(transformers.BertConfig(attn_implementation=attention), add_pooling_layer=False))


NETWORKS = {
    "ResNet-50": (resnet50, images, 4.09e9, 0.005),
    "VGG-16": (vgg16, images, 15.47e9, 0.001),
    "MobileNetV2": (mobilenet_v2, images, 0.310e9, 0.0323),  # figures from 0.300 G (the paper) to 0.320 G are in use
    "ViT-B/16": (lambda: vit("sdpa"), images, 17.5e9, 0.005),
    "ViT-B/16, attention as products": (lambda: vit("eager"), images, 17.5e9, 0.005),
    "BERT-base, 128 tokens": (lambda: bert("sdpa"), tokens, 11.2e9, 0.005),
    "BERT-base, attention as products": (lambda: bert("eager"), tokens, 11.2e9, 0.005),
}


def graph_of(build, example):
    """Exported under fake tensors: shapes only."""
    no_values = patch.object(transformers.PreTrainedModel, "init_weights")  # some look at the values that they draw
    with FakeTensorMode(), torch.no_grad(), no_values:
        module = build().eval()
        assert all(isinstance(parameter, FakeTensor) for parameter in module.parameters())
        exported = torch.export.export(module, (example(),), strict=False)
    return TorchModel.of(exported, Path("model.pt2"), "pt2").graph


@pytest.mark.parametrize("name", NETWORKS)
def test_published_figures(name):
    build, example, published, tolerance = NETWORKS[name]
    assert total_macs(graph_of(build, example)) == pytest.approx(published, rel=tolerance)
