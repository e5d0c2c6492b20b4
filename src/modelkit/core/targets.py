"""The processors that a quantised model is laid out for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """`signed_activations`: s8 instead of u8. `reduce_range`: weights lie on grids on which sums are exact, as the processor adds
    two u8·s8 products in 16 bits (VPMADDUBSW without VNNI): `core.saturation`. `padded`: integer products need rows and widths
    of certain sizes (CUDA's matrix units)."""

    name: str
    signed_activations: bool = False
    reduce_range: bool = False
    padded: bool = False

    @property
    def exact(self) -> bool:
        """Whether sums of products of any 8-bit integers are exact."""
        return not self.reduce_range


TARGETS = {
    target.name: target
    for target in (
        Target("vnni"),
        Target("avx2", reduce_range=True),
        Target("neon"),
        Target("cuda", signed_activations=True, padded=True),
    )
}
