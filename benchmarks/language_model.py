"""The sample language model for benchmarks: its text, its exports, its perplexity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from command import modelkit

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_models" / "shakespeare-llama"
CONTEXT = 128


def tokens(folder: Path, text: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first nine tenths and the rest of the text, as the sample model was trained."""
    from transformers import AutoTokenizer

    tokenizer, whole = AutoTokenizer.from_pretrained(folder), text.read_text(encoding="utf-8")
    cut = int(len(whole) * 0.9)
    return tuple(np.array(tokenizer(part, verbose=False)["input_ids"]) for part in (whole[:cut], whole[cut:]))  # type: ignore[return-value]


def hf(folder: Path) -> torch.nn.Module:
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return LlamaForCausalLM.from_pretrained(folder).eval()


class Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


def export(folder: Path, files: dict[str, Path]) -> None:
    example = torch.zeros(2, CONTEXT, dtype=torch.int64)
    with torch.no_grad():
        program = torch.export.export(
            Logits(hf(folder)).eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},), strict=False
        )
        torch.export.save(program, files["pt2"])
    modelkit("convert", files["pt2"], "-o", files["onnx"], "-q").check_returncode()


def perplexity(logits, held_out: np.ndarray) -> float:
    """exp of the mean cross-entropy over consecutive windows; the first token of each is not predicted."""
    windows = torch.from_numpy(held_out[: len(held_out) // CONTEXT * CONTEXT].reshape(-1, CONTEXT))
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(logits(part)[:, :-1].flatten(0, 1).double(), part[:, 1:].flatten(), reduction="sum")
            for part in windows.split(32)
        ]
    return float(torch.exp(sum(losses) / (len(windows) * (CONTEXT - 1))))


def running(file: Path):
    """The file's own runtime, as a function of token ids."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    return lambda ids: torch.from_numpy(session.run(None, {name: ids.numpy()})[0])
