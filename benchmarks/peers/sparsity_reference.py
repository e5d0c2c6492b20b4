"""The authors' published code for Wanda and SparseGPT, run on a Llama-type checkpoint on a CPU.

Run in a process of its own: `sparsity_reference.py WANDA SPARSEGPT MODEL TOKENS.npy METHOD SHARE PATTERN OUT`, the first two
being checkouts, MODEL and OUT folders. The loop over blocks is that of the Wanda repository, which knows both methods;
SparseGPT's arithmetic is that of its own repository. What is replaced: the loader of calibration data (it would download C4),
calls of `.cuda()`, and the signature of a decoder layer, which is another in today's transformers.
"""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from torch import nn
from transformers import LlamaForCausalLM


def main() -> None:
    wanda, sparsegpt, folder, tokens, method, share, pattern, out = sys.argv[1:]
    windows = torch.from_numpy(np.load(tokens))
    torch.cuda.synchronize = lambda *_: None
    torch.Tensor.cuda = lambda self, *_: self
    sys.modules.setdefault("datasets", _without_download())
    sys.path[:0] = [wanda, sparsegpt]
    import lib.prune
    import sparsegpt as original

    class SparseGPT(original.SparseGPT):
        def fasterprune(self, sparsity, prune_n=0, prune_m=0, **rest):  # the two repositories spell these differently
            super().fasterprune(sparsity, prunen=prune_n, prunem=prune_m, **rest)

    lib.prune.SparseGPT = SparseGPT
    lib.prune.get_loaders = lambda *_, **__: ([(window[None], None) for window in windows], None)
    model = LlamaForCausalLM.from_pretrained(folder)
    model.eval()
    model.seqlen, model.hf_device_map = windows.shape[1], {}
    model.model.layers = nn.ModuleList(_Layer(layer, model.model.rotary_emb) for layer in model.model.layers)
    kept, _, of = pattern.partition(":")
    n, m = (int(of) - int(kept), int(of)) if of else (0, 0)  # the authors count what is pruned
    arguments = SimpleNamespace(nsamples=len(windows), seed=0, sparsity_ratio=float(share), use_variant=False)
    prune = {"wanda": lib.prune.prune_wanda, "sparsegpt": lib.prune.prune_sparsegpt, "magnitude": lib.prune.prune_magnitude}[
        method
    ]
    prune(arguments, model, None, torch.device("cpu"), prune_n=n, prune_m=m)
    model.model.layers = nn.ModuleList(layer.module for layer in model.model.layers)
    model.save_pretrained(Path(out))


def _without_download() -> ModuleType:
    module = ModuleType("datasets")
    module.load_dataset = None
    return module


class _Layer(nn.Module):
    """A decoder layer that is called, and answers, as it did when the authors wrote."""

    def __init__(self, module: nn.Module, rotary: nn.Module) -> None:
        super().__init__()
        self.module, self._rotary = module, [rotary]

    def forward(self, hidden: torch.Tensor, attention_mask=None, position_ids=None, **rest):
        if "position_embeddings" not in rest:  # called by the authors' loop, which takes the first of a tuple
            if position_ids is None:
                position_ids = torch.arange(hidden.shape[1])[None]
            rest["position_embeddings"] = self._rotary[0](hidden, position_ids)
            return (self.module(hidden, attention_mask=attention_mask, position_ids=position_ids, **rest),)
        return self.module(hidden, attention_mask=attention_mask, position_ids=position_ids, **rest)


if __name__ == "__main__":
    main()
