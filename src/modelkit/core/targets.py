"""The processors that a quantised model is laid out for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """`signed_activations`: s8 instead of u8. `reduce_range`: weights keep 7 of 8 bits, because the processor adds two u8·s8
    products in 16 bits and would saturate (VPMADDUBSW without VNNI)."""

    name: str
    signed_activations: bool
    reduce_range: bool


TARGETS = {
    "vnni": Target("vnni", signed_activations=False, reduce_range=False),
    "avx2": Target("avx2", signed_activations=False, reduce_range=True),
    "neon": Target("neon", signed_activations=False, reduce_range=False),
    "cuda": Target("cuda", signed_activations=True, reduce_range=False),
}
