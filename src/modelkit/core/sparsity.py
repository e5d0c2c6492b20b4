"""How much is pruned, and in which pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import ModelkitError


@dataclass(frozen=True)
class Sparsity:
    """The share of weights that become zero. `kept` and `of`: of every `of` consecutive inputs of an output `kept` stay (N:M);
    None: anywhere."""

    share: float
    kept: int | None = None
    of: int | None = None

    @classmethod
    def parse(cls, share: float, pattern: str) -> Sparsity:
        """`pattern` is "unstructured" or "N:M". Raises ModelkitError for another, and for a share that does not fit."""
        if not 0 < share < 1:
            raise ModelkitError(
                f"A sparsity of {share:g} is not between 0 and 1.", "Give the share of weights to leave out, say 0.5."
            )
        if pattern == "unstructured":
            return cls(share)
        numbers = _numbers(pattern)
        if numbers is None:
            raise ModelkitError(f"The pattern {pattern!r} is unknown.", "Choose unstructured, 2:4 or another N:M.")
        kept, of = numbers
        if not 0 < kept < of:
            raise ModelkitError(f"The pattern {pattern} keeps all or nothing.", "N:M keeps N of every M weights, say 2:4.")
        if abs(share - (1 - kept / of)) > 1e-6:
            raise ModelkitError(
                f"The pattern {pattern} leaves out {1 - kept / of:.4g} of the weights, not {share:g}.",
                f"Give --sparsity {1 - kept / of:.4g}, or another pattern.",
            )
        return cls(share, kept, of)

    @staticmethod
    def implied(pattern: str) -> float | None:
        """The share that an N:M pattern leaves out; None for another pattern."""
        kept, of = _numbers(pattern) or (0, 0)
        return 1 - kept / of if of else None

    @property
    def pattern(self) -> str:
        return "unstructured" if self.of is None else f"{self.kept}:{self.of}"


def _numbers(pattern: str) -> tuple[int, int] | None:
    """N and M of "N:M"; None for another pattern."""
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    return (int(match[1]), int(match[2])) if match else None
