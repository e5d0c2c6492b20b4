"""Int8 and 2:4 on an NVIDIA GPU, in PyTorch: `python benchmarks/gpu.py`.

First `modelkit compare` of a transformer encoder with its int8 version, eager and compiled; then the time of products with 2:4
weights in a CUDA graph beside dense ones, by size. Weights are random: what is shown here is time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, TOKENS, BLOCKS = 2048, 512, 2
SIZES = ((1024, 1024), (4096, 4096), (4096, 14336), (8192, 8192))  # inputs, outputs
ROWS = (64, 512, 8192)


class Block(nn.Module):
    """Pre-norm self-attention with heads of 64 features, and a feed-forward network four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        heads = (layer(y).unflatten(-1, (-1, 64)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.output(mixed)
        result: Tensor = x + self.down(nn.functional.gelu(self.up(self.between(x))))
        return result


def write_encoder(folder: Path) -> None:
    import numpy as np

    torch.manual_seed(0)
    model, x = nn.Sequential(*[Block(WIDTH) for _ in range(BLOCKS)]).eval(), torch.randn(2, TOKENS, WIDTH)
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), folder / "encoder.pt2")
    np.savez(folder / "calib.npz", x=torch.randn(8, TOKENS, WIDTH).numpy())


def modelkit(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "modelkit", *map(str, words)], check=True)


def microseconds(run: Callable[[], Any], calls: int = 5, replays: int = 15) -> float:
    """The median time of a call in a CUDA graph of several."""
    with torch.inference_mode():
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                run()
        taken = []
        for _ in range(replays + 1):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            taken.append(start.elapsed_time(end) * 1000 / calls)
        return median(taken[1:])


def sparse_products() -> None:
    print("\n| inputs × outputs | rows | dense, µs | 2:4, µs | speed-up |\n|---|---|---|---|---|")
    for inputs, outputs in SIZES:
        kept = torch.tensor([1.0, 1.0, 0.0, 0.0], device="cuda").repeat(outputs, inputs // 4)
        weight = (torch.randn(outputs, inputs, device="cuda") * kept).bfloat16()
        bias, compressed = torch.randn(outputs, device="cuda").bfloat16(), torch._cslt_compress(weight)
        for rows in ROWS:
            x = torch.randn(rows, inputs, device="cuda").bfloat16()
            dense = microseconds(partial(nn.functional.linear, x, weight, bias))
            sparse = microseconds(partial(torch._cslt_sparse_mm, compressed, x.t(), bias=bias))
            print(f"| {inputs:,} × {outputs:,} | {rows:,} | {dense:,.1f} | {sparse:,.1f} | {dense / sparse:.2f}× |", flush=True)


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("This needs an NVIDIA GPU and a CUDA build of PyTorch.")
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder)
        int8 = folder / "encoder-int8.pt2"
        modelkit("quantize", folder / "encoder.pt2", "--calib", folder / "calib.npz", "--device", "cuda", "-o", int8, "-q")
        for runtime in ("compile", "torch"):
            modelkit("compare", folder / "encoder.pt2", int8, "--device", "cuda", "--runtime", runtime)
    sparse_products()


if __name__ == "__main__":
    main()
