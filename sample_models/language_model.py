"""A small Llama-type language model on Shakespeare, kept as a Hugging Face checkpoint folder."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sample_models.training import one_cycle

VOCABULARY = 1024
CONTEXT = 128
HELD_OUT = 0.1  # the last part of the text


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>", model_max_length=2 * CONTEXT
    )


def configuration() -> LlamaConfig:
    """About 1M parameters: 4 layers of width 128, 4 query heads over 2 key-value heads."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2 * CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        attention_dropout=0.1,
    )


def train_language_model(text_file: Path, folder: Path, steps: int = 800, batch_size: int = 16) -> dict[str, float]:
    """Trains, writes the checkpoint folder and returns its figures: held-out perplexity per token, parameters, tokens."""
    torch.manual_seed(0)
    text = text_file.read_text(encoding="utf-8")
    cut = int(len(text) * (1 - HELD_OUT))
    tokenizer = train_tokenizer(text[:cut])
    train_tokens = torch.tensor(tokenizer(text[:cut], verbose=False)["input_ids"])
    test_tokens = torch.tensor(tokenizer(text[cut:], verbose=False)["input_ids"])
    model = LlamaForCausalLM(configuration())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * one_cycle(step / steps, 0.1)
        starts = torch.randint(0, len(train_tokens) - CONTEXT, (batch_size, 1))
        batch = train_tokens[starts + torch.arange(CONTEXT)]
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"  step {step + 1}/{steps}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)
    model.eval()
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    _name_tokenizer_class(folder / "tokenizer_config.json")
    figures = {
        "perplexity": perplexity(LlamaForCausalLM.from_pretrained(folder), test_tokens),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_tokens": len(train_tokens),
        "held_out_tokens": len(test_tokens),
        "characters_per_token": (len(text) - cut) / len(test_tokens),
    }
    print(json.dumps(figures))
    return figures


def _name_tokenizer_class(path: Path) -> None:
    """transformers 5 writes a class name that version 4 does not know; this one both know."""
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, tokens: Tensor) -> float:
    """exp of the mean cross-entropy over consecutive windows of CONTEXT tokens; the first token of each is not predicted."""
    model.eval()
    windows = tokens[: len(tokens) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    losses = [model(input_ids=w, labels=w, use_cache=False).loss.item() * len(w) for w in windows.split(32)]
    return math.exp(sum(losses) / len(windows))
