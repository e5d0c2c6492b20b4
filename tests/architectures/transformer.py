"""Attention networks from transformers configs: ViT, BERT, GPT-2, Llama, Whisper, CLIP.

transformers is imported when a network is built: it takes seconds, and tests that only read cached exports do without.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .architecture import Inputs

VOCABULARY = 256
TOKENS = 16
HIDDEN = 64
PADDING = 3
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER: dict[str, Any] = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def tokens(batch: int) -> Tensor:
    return torch.randint(4, VOCABULARY, (batch, TOKENS))


def padding_mask(batch: int) -> Tensor:
    """1 for tokens, 0 for padding; the last sample is the padded one, as an all-ones mask would hide a dropped mask."""
    mask = torch.ones(batch, TOKENS, dtype=torch.int64)
    mask[-1, -PADDING:] = 0
    return mask


def masked_tokens(batch: int) -> Inputs:
    return {"input_ids": tokens(batch), "attention_mask": padding_mask(batch)}


def causal_tokens(batch: int) -> Inputs:
    return {"input_ids": tokens(batch)}


def photographs(batch: int) -> Inputs:
    return {"pixel_values": torch.randn(batch, 3, 32, 32)}


def speech_and_tokens(batch: int) -> Inputs:
    """Log-mel frames (batch, 80, 64) and the tokens decoded so far."""
    return {"input_features": torch.randn(batch, 80, 64), "decoder_input_ids": tokens(batch)}


def text_and_photographs(batch: int) -> Inputs:
    return {"input_ids": tokens(batch), "pixel_values": photographs(batch)["pixel_values"], "attention_mask": padding_mask(batch)}


class Text(nn.Module):
    """A causal language model's logits (batch, tokens, vocabulary)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids).logits
        return logits


class MaskedText(nn.Module):
    """An encoder's hidden states (batch, tokens, hidden) and pooled vector (batch, hidden)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return output.last_hidden_state, output.pooler_output


class Photograph(nn.Module):
    """An image classifier's logits (batch, classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


class SpeechToText(nn.Module):
    """An encoder-decoder's logits (batch, tokens, vocabulary)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor, decoder_input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_features=input_features, decoder_input_ids=decoder_input_ids, use_cache=False).logits
        return logits


class TwoTower(nn.Module):
    """Text and image embeddings, each (batch, projection)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return output.text_embeds, output.image_embeds


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**ENCODER, image_size=32, patch_size=8, num_labels=10, attn_implementation="sdpa")
    return Photograph(ViTForImageClassification(config))


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **ENCODER, vocab_size=VOCABULARY, max_position_embeddings=TOKENS, use_cache=False, attn_implementation="sdpa"
    )
    return MaskedText(BertModel(config))


def gpt2() -> nn.Module:
    """Its linear layers are `Conv1D` with (in, out) weights, and the embedding is tied to the output layer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=TOKENS, n_embd=HIDDEN, n_layer=2, n_head=4, **SPECIAL, use_cache=False,
        attn_implementation="sdpa",
    )  # fmt: skip
    return Text(GPT2LMHeadModel(config))


def llama() -> nn.Module:
    """Grouped-query attention: four query heads share two key-value heads; the output layer is not tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **ENCODER, vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=TOKENS, tie_word_embeddings=False,
        use_cache=False, attn_implementation="sdpa",
    )  # fmt: skip
    return Text(LlamaForCausalLM(config))


def whisper() -> nn.Module:
    """Conv1d front end, encoder, decoder with cross-attention, output layer tied to the decoder's embedding."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=80, d_model=HIDDEN, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=32, max_target_positions=TOKENS,
        **SPECIAL, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None, use_cache=False,
        attn_implementation="sdpa",
    )  # fmt: skip
    return SpeechToText(WhisperForConditionalGeneration(config))


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={**ENCODER, "vocab_size": VOCABULARY, "max_position_embeddings": TOKENS, **SPECIAL},
        vision_config={**ENCODER, "image_size": 32, "patch_size": 8},
        projection_dim=HIDDEN,
        attn_implementation="sdpa",
    )
    return TwoTower(CLIPModel(config))
