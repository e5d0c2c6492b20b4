"""Small networks of many kinds, with random weights: NETWORKS maps a name to what makes (module, example inputs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

SMALL: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 100, "max_position_embeddings": 64}
Made = tuple[nn.Module, tuple[Tensor, ...]]
NETWORKS: dict[str, Callable[[], Made]] = {}


def tokens(length: int = 12) -> Tensor:
    return torch.randint(5, 100, (3, length))


def pictures(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size)


class Called(nn.Module):
    """A module of transformers, called with its inputs by name; gives its main output alone."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], **fixed: object) -> None:
        super().__init__()
        self.model, self.names, self.fixed = model, names, fixed

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        given = dict(zip(self.names, (x, y), strict=False))
        found = self.model(**given, **self.fixed)
        main = [found.get(key) for key in ("logits", "last_hidden_state", "prediction_outputs")]
        return next((value for value in main if value is not None), found[0])


def known(
    name: str, kind: str, config: str, inputs: Callable[[], tuple[Tensor, ...]], names: tuple[str, ...], **options: Any
) -> None:
    """Note the class `kind` of transformers with that configuration. `cached`: it must be told to keep no cache."""
    fixed = {"use_cache": False} if options.pop("cached", False) else {}

    def make() -> Made:
        model = getattr(transformers, kind)(getattr(transformers, config)(**options))
        return Called(model, names, **fixed), inputs()

    NETWORKS[name] = make


def text(name: str, kind: str, config: str, **options: Any) -> None:
    known(name, kind, config, lambda: (tokens(),), ("input_ids",), **options)


def vision(name: str, kind: str, config: str, size: int = 32, **options: Any) -> None:
    known(name, kind, config, lambda: (pictures(size),), ("pixel_values",), **options)


for decoder, more in {
    "Mistral": {}, "Qwen2": {}, "Qwen3": {"head_dim": 12}, "Gemma2": {"head_dim": 12}, "Phi3": {"pad_token_id": 0}, "Phi": {},
    "Mixtral": {"num_local_experts": 4}, "Olmo2": {}, "Cohere": {}, "Granite": {}, "GPTNeoX": {}, "Starcoder2": {},
    "Glm": {"head_dim": 12, "pad_token_id": 0},
}.items():  # fmt: skip
    text(decoder.lower(), f"{decoder}ForCausalLM", f"{decoder}Config", cached=True, **{**TEXT, "num_key_value_heads": 2, **more})
text("opt", "OPTForCausalLM", "OPTConfig", cached=True, vocab_size=100, hidden_size=48, num_hidden_layers=2, ffn_dim=96,
     num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=48)  # fmt: skip
text("bloom", "BloomForCausalLM", "BloomConfig", cached=True, vocab_size=100, hidden_size=48, n_layer=2, n_head=4)
text("mamba", "MambaForCausalLM", "MambaConfig", cached=True, vocab_size=100, hidden_size=48, num_hidden_layers=2, state_size=8)
text("roberta", "RobertaModel", "RobertaConfig", **TEXT)
text("albert", "AlbertModel", "AlbertConfig", **TEXT, embedding_size=24)
text("electra", "ElectraModel", "ElectraConfig", **TEXT, embedding_size=24)
text("mpnet", "MPNetModel", "MPNetConfig", **TEXT)
text("bert for words", "BertForMaskedLM", "BertConfig", **TEXT)
text(
    "deberta",
    "DebertaV2Model",
    "DebertaV2Config",
    **TEXT,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    position_buckets=8,
)
text("distilbert", "DistilBertForSequenceClassification", "DistilBertConfig", vocab_size=100, dim=48, n_layers=2, n_heads=4,
     hidden_dim=96, max_position_embeddings=64)  # fmt: skip
text("modernbert", "ModernBertModel", "ModernBertConfig", **TEXT, global_attn_every_n_layers=2, pad_token_id=0, bos_token_id=1,
     eos_token_id=2, cls_token_id=1, sep_token_id=2)  # fmt: skip
known("t5", "T5ForConditionalGeneration", "T5Config", lambda: (tokens(), tokens(6)), ("input_ids", "decoder_input_ids"),
      cached=True,
      vocab_size=100, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4)  # fmt: skip
known("bart", "BartForConditionalGeneration", "BartConfig", lambda: (tokens(), tokens(6)), ("input_ids", "decoder_input_ids"),
      cached=True, vocab_size=100, d_model=48, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
      decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=64)  # fmt: skip
STAGES: dict[str, Any] = {"depths": [1, 1, 2, 1], "num_labels": 10}
vision("resnet, bottlenecks", "ResNetForImageClassification", "ResNetConfig", embedding_size=16, hidden_sizes=[16, 32, 48, 64],
       layer_type="bottleneck", **STAGES)  # fmt: skip
vision("regnet", "RegNetForImageClassification", "RegNetConfig", embedding_size=16, hidden_sizes=[16, 32, 48, 64], groups_width=8,
       **STAGES)  # fmt: skip
vision("convnext", "ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[16, 24, 32, 48], **STAGES)
vision("convnext 2", "ConvNextV2ForImageClassification", "ConvNextV2Config", hidden_sizes=[16, 24, 32, 48], **STAGES)
vision(
    "mobilenet 1",
    "MobileNetV1ForImageClassification",
    "MobileNetV1Config",
    64,
    image_size=64,
    depth_multiplier=0.25,
    num_labels=10,
)
vision("efficientnet", "EfficientNetForImageClassification", "EfficientNetConfig", 64, image_size=64, width_coefficient=0.25,
       depth_coefficient=0.3, hidden_dim=320, num_labels=10)  # fmt: skip
vision("mobilevit", "MobileViTForImageClassification", "MobileViTConfig", 64, image_size=64, hidden_sizes=[24, 32, 40],
       neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 96], num_labels=10)  # fmt: skip
vision("swin", "SwinForImageClassification", "SwinConfig", image_size=32, patch_size=2, embed_dim=16, depths=[2, 2],
       num_heads=[2, 4],
       window_size=4, num_labels=10)  # fmt: skip
vision("segformer", "SegformerForSemanticSegmentation", "SegformerConfig", 64, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1],
       decoder_hidden_size=32, num_labels=5, num_attention_heads=[1, 2, 2, 4])  # fmt: skip
vision("poolformer", "PoolFormerForImageClassification", "PoolFormerConfig", 64, hidden_sizes=[16, 24, 32, 40], depths=[1, 1,
       1, 1],
       num_labels=10)  # fmt: skip
vision("dinov2", "Dinov2ForImageClassification", "Dinov2Config", 28, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
       image_size=28, patch_size=7, num_labels=10)  # fmt: skip
vision("levit", "LevitForImageClassification", "LevitConfig", 64, image_size=64, hidden_sizes=[32, 48, 64],
       num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8], num_labels=10)  # fmt: skip
vision("yolos", "YolosForObjectDetection", "YolosConfig", **SMALL, image_size=[32, 32], patch_size=8, num_detection_tokens=5,
       num_labels=5)  # fmt: skip
vision("siglip", "SiglipVisionModel", "SiglipVisionConfig", **SMALL, image_size=32, patch_size=8)
known("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config", lambda: (torch.randn(3, 800),), ("input_values",), **SMALL, vocab_size=32,
      conv_dim=(16, 16, 16), conv_stride=(5, 2, 2), conv_kernel=(10, 3, 3), num_feat_extract_layers=3, num_conv_pos_embeddings=16,
      num_conv_pos_embedding_groups=4, apply_spec_augment=False)  # fmt: skip
known("audio spectrogram", "ASTForAudioClassification", "ASTConfig", lambda: (torch.randn(3, 64, 32),), ("input_values",),
      **SMALL, max_length=64, num_mel_bins=32, num_labels=6)  # fmt: skip
known("videomae", "VideoMAEForVideoClassification", "VideoMAEConfig", lambda: (torch.randn(3, 4, 3, 32, 32),), ("pixel_values",),
      **SMALL, image_size=32, patch_size=8, num_frames=4, num_labels=6)  # fmt: skip
known("patchtst", "PatchTSTForPrediction", "PatchTSTConfig", lambda: (torch.randn(3, 48, 3),), ("past_values",),
      num_input_channels=3, context_length=48, prediction_length=12, patch_length=8, patch_stride=8, d_model=32,
      num_attention_heads=4, num_hidden_layers=2, ffn_dim=64)  # fmt: skip


def network(name: str, *inputs: Callable[[], Tensor]) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def noted(module: type[nn.Module]) -> type[nn.Module]:
        NETWORKS[name] = lambda: (module(), tuple(make() for make in inputs))
        return module

    return noted


def conv(channels: int, width: int, kernel: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=groups), nn.BatchNorm2d(width)]


@network("unet", pictures)
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Sequential(*conv(i, o, 3), nn.ReLU()) for i, o in ((3, 16), (16, 32), (32, 64)))
        self.widen = nn.ConvTranspose2d(64, 32, 2, 2)
        self.low = nn.Sequential(nn.Conv2d(64, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU())
        self.high, self.out = nn.Sequential(*conv(48, 16, 3), nn.ReLU()), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        c = self.low(torch.cat([self.widen(self.down[2](F.max_pool2d(b, 2))), b], 1))
        wide: Tensor = self.out(self.high(torch.cat([F.interpolate(c, scale_factor=2, mode="bilinear"), a], 1)))
        return wide


@network("squeeze and excite", pictures)
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv(3, 16, 3), nn.Hardswish())
        self.wide = nn.Sequential(*conv(16, 48), nn.Hardswish(), *conv(48, 48, 5, 48), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 12, 1), nn.ReLU(), nn.Conv2d(12, 48, 1), nn.Hardsigmoid()
        )
        self.narrow, self.head = nn.Sequential(*conv(48, 16)), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.wide(x)
        found: Tensor = self.head((x + self.narrow(y * self.gate(y))).mean((2, 3)))
        return found


@network("shuffle", pictures)
class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, 2, 1), nn.Linear(32, 10)
        self.branch = nn.Sequential(*conv(16, 16), nn.ReLU(), *conv(16, 16, 3, 16), *conv(16, 16), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        y = torch.cat([a, self.branch(b)], 1)
        y = y.reshape(y.shape[0], 2, 16, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        found: Tensor = self.head(y.mean((2, 3)))
        return found


@network("mixer", pictures)
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(3, 32, 8, 8), nn.LayerNorm(32), nn.Linear(32, 10)
        self.places = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.channels = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.places(self.norm(x).transpose(1, 2)).transpose(1, 2)
        found: Tensor = self.head((x + self.channels(x)).mean(1))
        return found


@network("inception", pictures)
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        tall, flat = nn.Conv2d(8, 16, (1, 7), padding=(0, 3)), nn.Conv2d(16, 16, (7, 1), padding=(3, 0))
        self.one, self.two = nn.Conv2d(3, 16, 1), nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), tall, flat)
        self.three = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 8, 1))
        self.norm, self.head = nn.InstanceNorm2d(40, affine=True), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.norm(torch.cat([self.one(x), self.two(x), self.three(x)], 1))
        found: Tensor = self.head(F.leaky_relu(joined).amax((2, 3)))
        return found


@network("gru", tokens)
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(100, 32), nn.Linear(96, 10)
        self.gru = nn.GRU(32, 48, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.gru(self.table(x))[0][:, -1])
        return found


@network("bags", lambda: tokens(6), lambda: torch.randint(0, 50, (3,)))
class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.table = nn.EmbeddingBag(200, 24, mode="sum"), nn.Embedding(50, 24)
        self.out = nn.Sequential(nn.Linear(48, 32), nn.PReLU(), nn.Dropout(0.5), nn.Linear(32, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.out(torch.cat([self.bag(x), self.table(y)], -1)))


@network("encoder", lambda: torch.randn(3, 10, 32))
class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.encoder(x)[:, 0])
        return found


@network("one dimension", lambda: torch.randn(3, 8, 40))
class OneDimension(nn.Sequential):
    def __init__(self) -> None:
        normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(32, 32, 3, padding=1))
        pooled = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5)]
        super().__init__(nn.Conv1d(8, 32, 3, dilation=2), nn.BatchNorm1d(32), nn.ReLU(), normed, nn.GELU(), *pooled)


@network("three dimensions", lambda: torch.randn(3, 1, 8, 16, 16))
class ThreeDimensions(nn.Sequential):
    def __init__(self) -> None:
        first = [nn.Conv3d(1, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.MaxPool3d(2)]
        pooled = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 4)]
        super().__init__(*first, nn.Conv3d(16, 32, 3, padding=1), nn.ReLU(), *pooled)
